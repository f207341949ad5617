"""The folder's example writes depth and a table, and goes on after an image that cannot be read."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from glpn_deploy import DepthEstimator

EXAMPLE = Path(__file__).parents[2] / "examples" / "folder_of_images.py"


def test_a_folder(tiny_bundle: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    Image.fromarray(pixels).save(images / "a.png")
    Image.fromarray(pixels[:, ::-1]).save(images / "b.png")
    (images / "c.png").write_bytes(b"no image")
    command = [sys.executable, str(EXAMPLE), str(tiny_bundle), str(images), str(tmp_path / "out")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "skipped" in run.stdout
    with (tmp_path / "out" / "depth.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["a.png", "b.png"]
    with DepthEstimator.load(tiny_bundle) as estimator:
        expected = estimator(pixels).depth
    assert np.abs(np.load(tmp_path / "out" / "a.npy") - expected).max() < 1e-4
    assert abs(float(rows[0]["median_m"]) - float(np.median(expected))) < 1e-3
