"""Size and times of the page of ten runs of 1,000 items each, in Debian's Chromium.

    python benchmarks/pages.py [--runs N] [--items N] [--repeats N] [--write]

The records are made up, with as much text as real ones have (`tests/page_records.py`). Measured are
the seconds to build the page; its bytes; and in the browser, from the start of navigation: the load
event, the first run's viewers ready for use, and all runs' viewers; then the first search in the
item browser, from the key to the frame that shows it. Each repeat is a new browser; the table has
the median and the slowest. --write keeps it in benchmarks/pages.json and rewrites the sentence of
docs/reading-the-report.md. Wall clock: use an idle machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from probtune.records import environment
from probtune.reports.report import render

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "pages.json"
DOCUMENT = ROOT / "docs" / "reading-the-report.md"
CHROMIUM = "/usr/bin/chromium"
LIMITS = {"build_s": 5.0, "megabytes": 5.0, "ready_s": 1.5}
"""Number -> what it must stay below."""
_TIMES = """() => {
  const [navigation] = performance.getEntriesByType("navigation");
  return {
    load_s: navigation.loadEventEnd / 1000,
    ready_s: performance.getEntriesByName("ready")[0].startTime / 1000,
  };
}"""
_SEARCH = """async () => {
  const search = document.querySelector("[data-viewer=items] input");
  const begun = performance.now();
  search.value = "the";
  search.dispatchEvent(new Event("input", { bubbles: true }));
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return (performance.now() - begun) / 1000;
}"""


def main() -> int:
    """Measure and print; 1 where a limit is passed."""
    sys.path.insert(0, str(ROOT / "tests"))
    from page_records import long_record

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    records = [long_record(options.items, seed=seed) for seed in range(options.runs)]
    builds = []
    html = ""
    for _ in range(options.repeats):
        started = time.perf_counter()
        html = render(records)
        builds.append(time.perf_counter() - started)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        path.write_text(html, encoding="utf-8")
        opened = [_open(path) for _ in range(options.repeats)]
    measured = {"build_s": builds, "megabytes": [len(html.encode()) / 1e6]}
    measured |= {name: [one[name] for one in opened] for name in opened[0]}
    table = {
        name: {"median": round(statistics.median(values), 3), "most": round(max(values), 3)}
        for name, values in measured.items()
    }
    for name, numbers in table.items():
        limit = f"  below {LIMITS[name]}" if name in LIMITS else ""
        print(f"{name:12} median {numbers['median']:6.2f}  most {numbers['most']:6.2f}{limit}")
    if options.write:
        content = {
            "runs": options.runs,
            "items": options.items,
            "repeats": options.repeats,
            "numbers": table,
            "environment": environment(),
        }
        RESULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        text = DOCUMENT.read_text(encoding="utf-8")
        begin, end = "<!-- pages -->\n", "<!-- end of pages -->"
        before, after = text.partition(begin)[0], text.partition(end)[2]
        text = f"{before}{begin}{sentence(content)}\n{end}{after}"
        DOCUMENT.write_text(text, encoding="utf-8")
    return int(any(table[name]["median"] >= limit for name, limit in LIMITS.items()))


def sentence(content: dict[str, Any]) -> str:
    """Return what the document says of the measurements."""
    cores = content["environment"]["cores"]
    numbers = {name: values["median"] for name, values in content["numbers"].items()}
    return (
        f"A page of {content['runs']} runs with {content['items']:,} held-out rows each is made in"
        f" {numbers['build_s']:.1f} s and has {numbers['megabytes']:.1f} MB. In Chromium its first"
        f" run can be used {numbers['ready_s']:.1f} s after it is opened, all runs after"
        f" {numbers['all_ready_s']:.1f} s, and a search answers in {numbers['search_s']:.2f} s"
        f" (medians of {content['repeats']}, `make bench-page`, {cores} cores)."
    )


def _open(path: Path) -> dict[str, Any]:
    """Return the times of one opening, in a browser of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]")
        times = page.evaluate(_TIMES)
        times["search_s"] = page.evaluate(_SEARCH)
        page.wait_for_selector("html[data-complete]")
        times["all_ready_s"] = page.evaluate(
            "performance.getEntriesByName('complete')[0].startTime"
        )
        times["all_ready_s"] /= 1000
        browser.close()
    return times


if __name__ == "__main__":
    sys.exit(main())
