"""glpn-predict on clips: files and figures, what ended early, and one sentence for every wrong use."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import skimage.data

pytest.importorskip("av", reason="videos are read and written with PyAV (the extra video)")

from glpn_deploy import DepthEstimator
from glpn_deploy.video import frames
from glpn_deploy.video.encoding import ClipWriter, read_depth_video


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Six frames, 64 px high and 96 px wide, ten a second."""
    writer = ClipWriter(tmp_path / "clip.mp4")
    for index in range(6):
        picture = np.ascontiguousarray(skimage.data.coffee()[8 * index : 8 * index + 64, 100:196])
        writer.write(picture, index, Fraction(1, 10))
    writer.close()
    return tmp_path / "clip.mp4"


def test_a_clip(run: Callable, tiny_bundle: Path, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(
        "predict", tiny_bundle, clip, "--out", out, "--save", "mm,side", "--every", 2, "--device", "cpu"
    )
    assert result.status == 0, result.err
    assert "frames/s" in result.out
    stored = list(read_depth_video(out / "clip.depth_mm.mkv"))
    with DepthEstimator.load(tiny_bundle, device="cpu") as estimator:
        expected = [estimator(frame.image).quantized(1000) for frame in frames(clip)][::2]
    assert [frame.time for frame in stored] == pytest.approx([0, 0.2, 0.4])
    for frame, units in zip(stored, expected, strict=True):
        assert np.abs(frame.units.astype(int) - units).max() <= 1
    for path in out.iterdir():
        assert str(path) in result.out


def test_several_as_json_one_of_them_cut(
    run: Callable, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes()[:40])
    arguments = ("--out", tmp_path / "out", "--save", "jsonl", "--steady", "--json")
    result = run("predict", tiny_bundle, clip, tmp_path / "cut.mp4", *arguments)
    assert result.status == 1
    report = json.loads(result.out)
    good, bad = report["videos"]
    assert (good["frames"], good["ended"], report["failed"]) == (6, "", 1)
    assert good["flicker"]["pairs"] == 5
    lines = Path(good["files"]["jsonl"]).read_text().splitlines()
    assert all("scale" in json.loads(line) for line in lines)
    assert "cut.mp4" in bad["error"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nowhere.mp4"], "nowhere.mp4"),
        (["CLIP", "--save", "ply"], "ply"),
        (["CLIP", "--save", "gif"], "gif"),
        (["CLIP", "photo.jpg"], "not both"),
        (["photo.jpg", "--steady"], "--steady"),
        (["shots", "--every", "2"], "frames:shots"),
        (["CLIP", "--start", "9"], "--start"),
        (["CLIP", "--start", "2", "--end", "1"], "after the start"),
        (["CLIP", "CLIP"], "saved as clip"),
        (["camera:987"], "/dev/video987"),
        (["gstreamer:videotestsrc"], "appsink"),
    ],
)
def test_wrong_use(
    arguments: list[str], text: str, run: Callable, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    named = [str(clip) if name == "CLIP" else name for name in arguments]
    result = run("predict", tiny_bundle, *named, "--out", tmp_path / "d")
    assert result.status == 2
    assert text in result.err.replace("\n", " ")


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them")
def test_ctrl_c_keeps_what_was_done(tiny_bundle: Path, clip: Path, tmp_path: Path) -> None:
    """The command is interrupted once it has written a frame of a folder that is too long to finish."""
    shots = tmp_path / "shots"
    shots.mkdir()
    (shots / "0.png").write_bytes((Path(skimage.data.__file__).parent / "coffee.png").read_bytes())
    for index in range(1, 5000):
        (shots / f"{index}.png").hardlink_to(shots / "0.png")
    out = tmp_path / "out"
    program = [sys.executable, "-m", "glpn_deploy.cli.predict", tiny_bundle, f"frames:{shots}"]
    command = [*map(str, program), "--out", str(out), "--save", "mm,jsonl", "--device", "cpu", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        lines = out / "shots.depth.jsonl"
        while not (lines.exists() and lines.read_text().count("\n") >= 2):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        report = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 1
    (video,) = report["videos"]
    assert video["ended"] == "interrupted."
    assert 2 <= video["frames"] < 5000
    stored = len(list(read_depth_video(out / "shots.depth_mm.mkv")))
    assert stored in (video["frames"], video["frames"] + 1)  # interrupted between two files of one frame
