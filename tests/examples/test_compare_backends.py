"""The example tries what is installed, fastest first, and names what did not run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

EXAMPLE = Path(__file__).parents[2] / "examples" / "compare_backends.py"


def test_two_backends(tiny_bundle: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    command = [sys.executable, str(EXAMPLE), str(tiny_bundle), str(tmp_path / "photo.png"), "--runs", "2"]
    run = subprocess.run([*command, "--precision", "fp32,fp8"], capture_output=True, text=True, check=True)
    tried, _, table = run.stdout.partition("\n\n")
    assert "onnxruntime fp8      not run: " in tried
    assert "tensorrt fp32        not run: " in tried
    rows = [line.split() for line in table.splitlines()[1:]]
    assert {tuple(row[:2]) for row in rows} == {("onnxruntime", "fp32"), ("openvino", "fp32")}
    assert [float(row[2]) for row in rows] == sorted(float(row[2]) for row in rows)
    assert all(float(row[3]) < 1e-4 for row in rows)
