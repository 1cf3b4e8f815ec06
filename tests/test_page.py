"""The page in a browser: Debian's Chromium, by Playwright. Without them these tests are skipped,
and say so.
"""

import http.client
import json
import re
import threading
import time
from pathlib import Path

import pytest
from page_records import EVIL, long_record, tune_record

from probtune.commands.serving import page_server
from probtune.errors import UsageError
from probtune.reports.report import Maker, render

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run"
    " --disable-background-networking --disable-component-update --disable-sync"
).split()


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM.is_file():
        pytest.skip(
            f"NO BROWSER at {CHROMIUM}: the page has not been tested; apt-get install chromium"
        )
    api = pytest.importorskip("playwright.sync_api", reason="NO PLAYWRIGHT: the page is not tested")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def tune_page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "tune.html"
    path.write_text(render([tune_record()]), encoding="utf-8")
    return path


@pytest.fixture()
def visit(browser):
    """Open a page; at the end: no request left it, and nothing was complained of."""
    contexts, complaints, requests = [], [], []

    def start(path, **options):
        context = browser.new_context(accept_downloads=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append("a dialog: a foreign script ran"))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]")
        return page

    yield start
    for context in contexts:
        context.close()
    assert not complaints
    assert all(url.startswith(("file:", "blob:")) for url in requests), requests


def test_the_page_opens_with_the_decision_and_runs_nothing_foreign(visit, tune_page):
    page = visit(tune_page)
    assert page.title().startswith("Use p(): 95.0 % against")
    assert page.locator("h1").inner_text().endswith("auto had taken nll()")
    assert page.locator("img").count() == 0
    assert EVIL in page.locator("p.muted").first.inner_text()
    # what was measured best, not what was chosen before
    assert page.locator("tr.chosen td").first.inner_text() == "p()"
    assert page.locator("h3", has_text="Paired by row: p() minus the others").count() == 1


def test_items_are_filtered_searched_and_walked_by_keyboard(visit, tune_page):
    page = visit(tune_page)
    root = page.locator("[data-viewer=items]")
    status = root.locator("[role=status]")
    assert status.inner_text().startswith("60 of 60 items")
    root.get_by_label("Change from base to").select_option(label="p()")
    assert "19 mended" in status.inner_text() and "2 broken" in status.inner_text()
    root.get_by_label("Show").select_option("mended")
    lines = root.locator(".line.mended")
    assert lines.count() > 3 and root.locator(".line.broken").count() == 0
    assert "\u2717\u2717\u2713" in root.locator(".signs").all_inner_texts()
    root.get_by_label("Show").select_option("all")
    root.get_by_label("Search").fill("NEEDLE")
    assert status.inner_text().startswith("1 of 60 items")
    assert EVIL in root.locator(".detail pre").first.inner_text()
    root.get_by_label("Search").fill("")
    pane = root.locator(".pane")
    first = root.locator(".detail").inner_text()
    pane.focus()
    page.keyboard.press("ArrowDown")
    assert root.locator(".detail").inner_text() != first
    page.keyboard.press("End")
    assert root.locator(".line[aria-selected=true]").get_attribute("aria-posinset") == "60"
    assert "right" in root.locator(".detail .yes").first.inner_text()
    boxes = [box.bounding_box() for box in root.locator(".detail .answers > div").all()]
    assert boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] < boxes[1]["x"]  # side by side


def test_tokens_are_shaded_switched_and_explained(visit, tune_page):
    page = visit(tune_page)
    root = page.locator("[data-viewer=tokens]")
    token = root.locator(".token").nth(2)

    def shade():
        return token.evaluate("node => node.style.getPropertyValue('--s')")

    root.get_by_label("Order").select_option("conflict")
    root.focus()
    assert root.get_by_role("button", name="p, base").get_attribute("aria-pressed") == "true"
    base = shade()
    page.keyboard.press("3")
    assert root.get_by_role("button", name="p, p()").get_attribute("aria-pressed") == "true"
    assert shade() != base
    root.get_by_role("button", name="weight, p()").click()
    weight = shade()
    root.get_by_role("button", name="weight, nll()").click()
    assert shade() == "78%" != weight
    token.hover()
    tip = root.locator(".tip").inner_text()
    assert '" is"' in tip and "rank" in tip and EVIL in tip
    page.keyboard.press("n")
    current = root.locator(".token.current")
    assert "conflict" in current.get_attribute("class")
    where = current.evaluate("node => node.closest('.row').dataset.i")
    page.keyboard.press("n")
    assert root.locator(".token.current").evaluate("n => n.closest('.row').dataset.i") != where
    page.keyboard.press("ArrowRight")
    assert root.locator(".token.current").get_attribute("data-t") == "3"


def test_rows_are_exported_worst_first(visit, tune_page):
    page = visit(tune_page)
    root = page.locator("[data-viewer=tokens]")
    root.get_by_label("Order").select_option("excess")
    with page.expect_download() as download:
        root.get_by_role("button", name="Export these rows").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 20 and rows[0]["where"] == "rows.jsonl:20"
    assert [row["excess"] for row in rows] == sorted((r["excess"] for r in rows), reverse=True)


def test_tables_and_charts_leave_as_files(visit, tune_page):
    page = visit(tune_page)
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    page.get_by_role("button", name="Copy CSV").first.click()
    copied = page.evaluate("window.copied")
    assert copied.splitlines()[0].startswith("model,exact match") and "\np()," in copied
    page.get_by_role("button", name="Copy Markdown").first.click()
    assert page.evaluate("window.copied").splitlines()[1].startswith("|---|")
    for name, begin in (("SVG", b"<svg"), ("PNG", b"\x89PNG")):
        with page.expect_download() as download:
            page.locator("figure").first.get_by_role("button", name=name).click()
        content = Path(download.value.path()).read_bytes()
        assert content.startswith(begin) and b"var(--" not in content


def test_dark_phone_and_print(visit, tune_page):
    light, dark = visit(tune_page), visit(tune_page, color_scheme="dark")
    colours = [
        page.evaluate("getComputedStyle(document.body).backgroundColor") for page in (light, dark)
    ]
    assert colours[0] == "rgb(246, 246, 244)" and colours[1] != colours[0]
    phone = visit(tune_page, viewport={"width": 390, "height": 844})
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    smallest = phone.evaluate(
        "Math.min(...[...document.querySelectorAll('figure svg')].map(s =>"
        " 10 * s.getBoundingClientRect().width / s.viewBox.baseVal.width))"
    )
    assert smallest >= 7.5
    light.emulate_media(media="print")
    light.set_viewport_size({"width": 718, "height": 1000})  # A4 within its margins
    cut = light.evaluate(
        "[...document.querySelectorAll('table')].filter(t => t.offsetParent &&"
        " t.getBoundingClientRect().right > innerWidth + 1).length"
    )
    assert cut == 0
    light.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert light.locator(".printed .item").count() == 40
    assert light.locator("details:not([open])").count() == 0
    heights = light.locator(".printed .item").evaluate_all(
        "nodes => nodes.map(node => node.getBoundingClientRect().height)"
    )
    assert max(heights) < 300  # several on a page of paper
    assert light.locator(".bar").evaluate_all("bars => bars.every(bar => !bar.offsetParent)")
    light.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert light.locator(".printed .item").count() == 0
    pages = re.findall(rb"/Type\s*/Page\b", light.pdf(format="A4"))
    assert 5 < len(pages) < 25


def records_of(kind):
    record = tune_record()
    if kind == "a probe":
        return [{**record["probe"], "kind": "probe", "written": record["written"]}]
    return [record] if kind == "a run" else [record, tune_record(seed=1)]


def evaluation():
    """An evaluation's record with what its questions' part needs."""
    column = {"name": "strict", "texts": ["So 4.", EVIL], "answers": ["4", None], "scores": [1, 0]}
    wordings = {"questions": ["2 + 2?", None], "references": ["4", None]}
    one = {"task": "sums", "title": "Sums", "ids": ["q0", "q1"], "columns": [column], **wordings}
    return {"kind": "eval", "items": [one], "written": "2026-01-01T00:00:00+00:00"}


def test_questions_of_an_evaluation_stand_beside_their_answers(visit, tmp_path):
    path = tmp_path / "eval.html"
    maker = Maker(lambda record: {"link": "an evaluation", "headline": ""}, "items.html")
    path.write_text(render([evaluation()], {"eval": maker}), encoding="utf-8")
    page = visit(path)
    root = page.locator("[data-viewer=items]")
    assert root.locator(".line .question").all_inner_texts() == ["2 + 2?", "q1"]
    assert root.locator(".detail pre").all_inner_texts()[:2] == ["2 + 2?", "4"]
    root.locator(".line").nth(1).click()
    assert EVIL in root.locator(".detail pre").first.inner_text()
    assert "no answer could be read" in root.locator(".detail pre").first.inner_text()


@pytest.mark.parametrize("kind", ["a run", "two runs", "a probe"])
def test_axe_finds_nothing(visit, tmp_path, kind):
    path = tmp_path / "page.html"
    path.write_text(render(records_of(kind)), encoding="utf-8")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="NO AXE-CORE")
    for options in ({}, {"color_scheme": "dark"}, {"viewport": {"width": 390, "height": 844}}):
        page = visit(path, **options)
        # its own script may run, past the page's policy, through the debugger
        report = axe.Axe().run(page).response
        assert [(v["id"], v["nodes"][0]["html"][:200]) for v in report["violations"]] == []


@pytest.fixture(scope="module")
def ten_runs(tmp_path_factory):
    records = [long_record(1000, seed=seed) for seed in range(10)]
    started = time.process_time()
    html = render(records)
    assert time.process_time() - started < 5
    assert len(html.encode()) < 5_000_000
    path = tmp_path_factory.mktemp("ten") / "ten.html"
    path.write_text(html, encoding="utf-8")
    return path


def test_ten_runs_of_a_thousand_items_are_fast_and_small(visit, ten_runs):
    page = visit(ten_runs)
    assert page.locator("h2", has_text="Across runs").count() == 1
    assert page.locator("[data-viewer=items]").count() == 10
    # 1.5 s on an idle machine, which benchmarks/pages.py measures; a busy one takes longer
    assert page.evaluate("performance.getEntriesByName('ready')[0].startTime") < 15_000
    page.wait_for_selector("html[data-complete]")
    last = page.locator("[data-viewer=items]").last
    assert last.locator("[role=status]").inner_text().startswith("1,000 of 1,000 items")
    last.get_by_label("Search").fill(" [...] ")
    assert last.locator(".line").count() > 10  # texts that are cut, as the page says:
    assert "are cut in the middle" in page.locator("main").inner_text()
    tokens = page.locator("[data-viewer=tokens]").last
    assert "the page of this run alone has all 200" in tokens.locator(".bar").inner_text()


def test_a_long_page_is_printed_whole(visit, ten_runs):
    page = visit(ten_runs)
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".printed .item").count() == 10 * 40
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator(".printed .item").count() == 0


def test_ten_thousand_items_stay_fluid(visit, tmp_path):
    path = tmp_path / "many.html"
    path.write_text(render([tune_record(10_000, viewed=5)]), encoding="utf-8")
    page = visit(path)
    root = page.locator("[data-viewer=items]")
    assert root.locator(".line").count() < 60
    root.locator(".pane").evaluate("node => { node.scrollTop = node.scrollHeight / 2; }")
    # Not page.wait_for_function, whose later tries evaluate a text, which the page forbids.
    first = "document.querySelector('.line').getAttribute('aria-posinset') > 4000"
    until = time.monotonic() + 30
    while not page.evaluate(first):
        assert time.monotonic() < until, "the list does not follow the scroll bar"
        page.wait_for_timeout(20)
    assert root.locator(".line").count() < 60
    root.get_by_label("Search").fill("after 9876?")
    assert root.locator("[role=status]").inner_text().startswith("1 of 10,000 items")


def test_the_page_is_served_to_this_machine_alone():
    with page_server("<h1>page</h1>", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host, port = server.server_address[:2]
        assert host == "127.0.0.1"

        def get(path, name):
            connection = http.client.HTTPConnection(host, port)
            connection.request("GET", path, headers={"Host": name})
            response = connection.getresponse()
            content = response.read()
            connection.close()
            return response.status, content

        assert get("/", f"127.0.0.1:{port}") == (200, b"<h1>page</h1>")
        assert get("/../etc/passwd", f"localhost:{port}")[0] == 404
        assert get("/", f"evil.example:{port}")[0] == 404
        with pytest.raises(UsageError, match="--port"):
            page_server("", port)
        server.shutdown()
