"""What names a video, and what is said where PyAV is missing."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from glpn_deploy.errors import ImageError, VideoError
from glpn_deploy.optional import install_line
from glpn_deploy.video import FrameOptions, frames
from glpn_deploy.video.sources.opening import is_video


@pytest.mark.parametrize(
    ("name", "video"),
    [
        ("clip.mp4", True),
        ("a/b/CLIP.MOV", True),
        ("rtsp://host/stream", True),
        ("camera:0", True),
        ("gstreamer:videotestsrc ! appsink", True),
        ("frames:shots", True),
        ("photo.jpg", False),
        ("shots", False),
        ("camera:zero.png", False),
        ("*.png", False),
    ],
)
def test_what_is_a_video(name, video):
    assert is_video(name) is video


def test_a_folder_by_the_order_of_its_names(tmp_path):
    for name, value in (("b.png", 2), ("a.png", 1), ("c.png", 3)):
        Image.fromarray(np.full((32, 32, 3), value, np.uint8)).save(tmp_path / name)
    with frames(f"frames:{tmp_path}") as source:
        found = list(source)
    assert [int(frame.image[0, 0, 0]) for frame in found] == [1, 2, 3]
    assert [frame.time for frame in found] == pytest.approx([0, 1 / 30, 2 / 30])
    with frames(f"frames:{tmp_path}", FrameOptions(fps=2, every=2, end=1.4)) as source:
        assert source.total == 2
        assert [frame.time for frame in source] == [0, 1]
    with pytest.raises(VideoError):
        frames(f"frames:{tmp_path}", FrameOptions(start=9))
    with pytest.raises(ImageError):
        frames(f"frames:{tmp_path / 'nowhere'}")


def test_without_pyav_there_is_a_sentence():
    program = (
        "import sys; sys.modules['av'] = None\n"
        "from glpn_deploy.video import frames\n"
        "from glpn_deploy.errors import MissingDependencyError\n"
        "try: frames('clip.mp4')\n"
        "except MissingDependencyError as error: print(error.fix)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == install_line("video")
