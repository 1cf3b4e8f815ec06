"""Make the pictures of docs/reading-the-report.md from a real run, in Debian's Chromium.

    python docs/pictures.py [RUN]

RUN is the folder of a run with its record; by default the first one of the demo that
docs/gallery.py has run. The page is made anew from the record. Its parts are written to
docs/pictures/ as WebP: in the light and in the dark, and on a phone.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from probtune.records import read_record
from probtune.reports.report import render

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
RUN = Path("docs/_build/runs/demo/seed-0/strong-slip-0.4")
CHROMIUM = "/usr/bin/chromium"
MOST_BYTES = 100_000
"""Bytes of a picture at most."""


def main(arguments: list[str]) -> int:
    """Take the pictures; return the exit status."""
    run = Path(arguments[0]) if arguments else ROOT / RUN
    record = read_record(run / "record.json", "tune")
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        page.write_text(render([record]), encoding="utf-8")
        _take(page.as_uri())
    return 0


def _take(address: str) -> None:
    from playwright.sync_api import sync_playwright

    shots: list[tuple[str, str, Callable[[Any], bytes]]] = [
        ("light", "decision", _decision),
        ("light", "items", _items),
        ("dark", "decision", _decision),
        ("dark", "tokens", _tokens),
    ]
    arguments = ["--headless", "--no-sandbox", "--disable-gpu"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        for scheme, name, shot in shots:
            context = browser.new_context(
                viewport={"width": 960, "height": 900}, color_scheme=scheme
            )
            page = context.new_page()
            page.goto(address)
            page.wait_for_selector("html[data-complete]")
            _write(f"{name}-{scheme}", shot(page))
            context.close()
        context = browser.new_context(
            viewport={"width": 390, "height": 760}, device_scale_factor=1.5, is_mobile=True
        )
        page = context.new_page()
        page.goto(address)
        page.wait_for_selector("html[data-complete]")
        _write("phone", page.screenshot())
        browser.close()


def _decision(page: Any) -> bytes:
    return page.screenshot()


def _items(page: Any) -> bytes:
    section = page.locator("section:has([data-viewer=items])")
    section.get_by_label("Show").select_option("mended")
    return section.screenshot()


def _tokens(page: Any) -> bytes:
    section = page.locator("section:has([data-viewer=tokens])")
    section.scroll_into_view_if_needed()
    section.get_by_role("button", name="Next conflict").click()
    section.evaluate("node => node.scrollIntoView()")
    return page.screenshot()


def _write(name: str, png: bytes) -> None:
    from PIL import Image

    path = PICTURES / f"{name}.webp"
    Image.open(io.BytesIO(png)).convert("RGB").save(path, lossless=True, quality=100, method=6)
    if path.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{path} has {path.stat().st_size:,} bytes.")
    print(f"{path.relative_to(ROOT)}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
