"""The page in a real browser, as wide as a phone and as a desk: nothing sticks out, and it is drawn."""

from __future__ import annotations

import re
import shutil
import subprocess
from html import escape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glpn_deploy.benchmarks.report.report_html import html_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = (390, 1280)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")

# Headless Chromium makes no window narrower than 500 px: the page lies in a frame of the width asked for.
FRAME = """<!doctype html><body style="margin:0">
<iframe id="page" style="border:0;width:{width}px;height:2400px"
srcdoc="{page}"></iframe><pre id="found"></pre><script>
onload = () => {{
  const inside = document.getElementById("page").contentWindow
  const wide = inside.document.scrollingElement.scrollWidth
  const names = [...inside.document.querySelectorAll("td:first-child")].map(cell => cell.offsetWidth)
  const table = inside.document.querySelector(".scroll")
  document.getElementById("found").textContent = `scroll ${{wide}} inner ${{inside.innerWidth}} ` +
    `names ${{Math.max(...names)}} cut ${{table.scrollWidth - table.clientWidth}}`
}}
</script>"""


def browse(folder: Path, page: str, width: int, *options: str) -> str:
    """What Chromium prints of a page in a frame."""
    path = folder / f"{width}.html"
    path.write_text(FRAME.format(width=width, page=escape(page)), encoding="utf-8")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={folder / 'profile'}", "--window-size=1280,2400", *options, path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def widths(folder: Path, page: str, width: int) -> tuple[int, ...]:
    """How wide are the page's content, its window, the widest name in a table, and the first table's part
    that is out of sight [px]."""
    pattern = r"scroll (\d+) inner (\d+) names (\d+) cut (\d+)"
    found = re.search(pattern, browse(folder, page, width, "--dump-dom"))
    assert found is not None
    return tuple(map(int, found.groups()))


@pytest.fixture
def page(samples, row, report) -> str:
    """Everything a page can have, with the longest names: an engine's file, a reason, a load."""
    base = samples(20.0, 1)
    engine = "tensorrt@glpn-nyu.fp16.480x640.b1-4.trt10.3.sm87"
    accuracy = {"delta1": 0.9, "abs_rel": 0.1, "rmse": 0.5, "images": 3, "dataset": "rooms"}
    rows = [row(base, baseline=base, accuracy=accuracy)]
    for number, name in enumerate(("torch", "openvino", "hf-eager", engine)):
        rows.append(
            row(
                samples(8.0 + number, number + 2),
                baseline=base,
                backend=name,
                precision="fp16",
                stable=number > 0,
                reasons={} if number else {"load": f"other processes took 0.5 of its cores, {'x' * 90}"},
                device_memory_mib=600.0,
                energy_j=1.25,
                gflops=60.0,
                product_share=0.5,
            )
        )
    load = {
        "key": rows[0].key,
        "callers": [{"callers": 8, "images_per_s": 70.0, "median_ms": 28.0, "p90_ms": 33.0, "p99_ms": 40.0}],
    }
    return html_page(report(rows, load=(load,)))


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(width, page, tmp_path) -> None:
    opened = page.replace("<details>", "<details open>")
    content, window, names, cut = widths(tmp_path, opened, width)
    assert window == width
    assert content <= window
    assert cut == 0
    assert names <= window / 2  # they stay in place while figures scroll beside them


def test_what_is_wider_would_be_seen(page, tmp_path) -> None:
    wide = page.replace("<body>", '<body><div style="width:1500px">wide</div>')
    assert widths(tmp_path, wide, 390)[0] > 390


@pytest.mark.parametrize("width", WIDTHS)
def test_charts_and_text_are_drawn(width, page, tmp_path) -> None:
    shot = tmp_path / f"{width}.png"
    browse(tmp_path, page, width, f"--screenshot={shot}")
    with Image.open(shot) as picture:
        pixels = np.asarray(picture.convert("RGB"))[:, :width].astype(int)
    spread = pixels.max(axis=2) - pixels.min(axis=2)
    assert (spread > 80).mean() > 0.002  # dots and bars have colours
    dark = pixels.sum(axis=2) < 200
    assert dark.any(axis=1).mean() > 0.1  # lines of text
