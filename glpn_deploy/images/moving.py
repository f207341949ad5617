"""Names of clips, cameras and addresses, and what is said where one is given as an image."""

from __future__ import annotations

import os
import re
from pathlib import Path

from glpn_deploy.errors import ImageError

ADDRESS = re.compile(r"[a-z][a-z0-9+]{1,9}://", re.IGNORECASE)
LIVE = re.compile(r"camera:\d+$|gstreamer:", re.IGNORECASE)
FRAMES_FOLDER = "frames:"
CLIP_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".wmv", ".flv", ".ogv"),
    *(".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".h264", ".264", ".h265", ".hevc", ".y4m"),
)
_PICTURE = re.compile(r"\.(jpe?g|png|tiff?|webp|bmp|heic|avif)([?#].*)?$", re.IGNORECASE)


def refuse_moving(source: str | int | os.PathLike[str]) -> None:
    """Lets through what is not the name of a clip, a camera or an address.

    Raises:
        ImageError: It is one, or a number, which is OpenCV's name for a camera; says how it is predicted.
    """
    text = str(source)
    number = isinstance(source, int) or (re.fullmatch(r"\d+", text) is not None and not Path(text).exists())
    if number:
        what, name = f"the image is the number {text}, as a camera is named", f"camera:{text}"
    elif text.startswith(FRAMES_FOLDER) or LIVE.match(text):
        what, name = f"{text} is a source of frames, not an image", text
    elif ADDRESS.match(text):
        if _PICTURE.search(text):
            fix = "download it first and give the file"
            raise ImageError(f"{text} is an address, not a file", expected="an image file", fix=fix)
        what, name = f"{text} is an address, not a file", text
    elif Path(text).suffix.lower() in CLIP_SUFFIXES:
        what, name = f"{text} is a video, not an image", text
    else:
        return
    raise ImageError(
        what,
        expected="an image",
        fix=f"for its frames: glpn-predict NETWORK {name}, or in Python "
        f"estimator.stream(glpn_deploy.video.frames({name!r}))",
    )
