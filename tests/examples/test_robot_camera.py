"""The robot's example runs on a clip and tells the distance of what is in its way."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="clips are made and read with PyAV (the extra video)")

from glpn_deploy.video.encoding import ClipWriter

EXAMPLE = Path(__file__).parents[2] / "examples" / "robot_camera.py"


def test_it_runs_on_a_clip(tiny_bundle, tmp_path):
    writer = ClipWriter(tmp_path / "clip.mp4")
    for index in range(4):
        writer.write(np.full((64, 96, 3), 60 * index, np.uint8), index, Fraction(1, 10))
    writer.close()
    command = [
        sys.executable,
        str(EXAMPLE),
        str(tiny_bundle),
        str(tmp_path / "clip.mp4"),
        "--seconds",
        "0.25",
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert [line.split("s")[0].strip() for line in lines] == ["0.00", "0.10", "0.20"]
    assert all(" m" in line.partition("in the way: ")[2] for line in lines)
