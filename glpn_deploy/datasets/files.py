"""Reading what data sets are made of: file lists, RGB images and depth maps; every error names the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from glpn_deploy.errors import DatasetError, ImageError
from glpn_deploy.images.npy import read_npy
from glpn_deploy.images.opening import DEPTH_FORMATS, open_image
from glpn_deploy.reading import read_text

_DEEP_MODES = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
_DEPTH_MODES = {"I;16", "I;16B", "I"}  # "I" is how Pillow before 11.3 opens some 16-bit PNGs


def read_lines(path: Path, what: str) -> list[tuple[int, list[str]]]:
    """The lines of a text file that are not blank, as (line number from 1, fields)."""
    try:
        text = read_text(path, "utf-8-sig")
    except FileNotFoundError:
        raise DatasetError(f"there is no file {path}", expected=what) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is not readable text ({error})", expected=what) from None
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), start=1)]
    lines = [(number, fields) for number, fields in lines if fields]
    if not lines:
        raise DatasetError(f"{path} is empty", expected=what)
    return lines


def read_image(path: Path, where: str = "") -> npt.NDArray[np.uint8]:
    """An 8-bit image as RGB, uint8 (H, W, 3); pixels as stored, EXIF orientation not applied.

    Args:
        where: The list and line that name it, for the message.
    """
    try:
        with open_image(path) as image:
            if image.mode in _DEEP_MODES:
                raise DatasetError(
                    f"{_at(where)}the image {path} has mode {image.mode}",
                    expected="8-bit colour",
                    fix="check that image and depth are not swapped",
                )
            return np.array(image.convert("RGB"), dtype=np.uint8)
    except ImageError as error:
        raise _unreadable("image", path, where, error) from None


def read_depth(path: Path, scale: float | None, where: str = "") -> npt.NDArray[np.float32]:
    """A depth map in metres, float32 (H, W); 0 where there is no measurement.

    A 16-bit PNG is divided by ``scale``. A ``.npy`` file holds floats in metres; whatever is not finite
    and above 0 in it becomes 0.

    Args:
        scale: Units per metre of a PNG (1000 for millimetres, 256 for KITTI); a ``.npy`` needs none.
        where: The list and line that name it, for the message.
    """
    if path.suffix.lower() == ".npy":
        return _read_npy(path, where)
    if scale is None:
        raise DatasetError(
            f"{_at(where)}the unit of {path} is not known",
            expected="a depth scale in units per metre, such as 1000 for millimetres",
        )
    try:
        with open_image(path, DEPTH_FORMATS) as image:
            if image.mode not in _DEPTH_MODES:
                raise DatasetError(
                    f"{_at(where)}the depth {path} has mode {image.mode}",
                    expected="a 16-bit PNG with one channel",
                    fix="8-bit or coloured depth has lost its metres; take the original file",
                )
            depth: npt.NDArray[np.float32] = np.asarray(image).astype(np.float32) / np.float32(scale)
            return depth
    except ImageError as error:
        raise _unreadable("depth", path, where, error) from None


def _read_npy(path: Path, where: str) -> npt.NDArray[np.float32]:
    try:
        depth = read_npy(path)
    except (OSError, ValueError) as error:
        raise _unreadable("depth", path, where, error) from None
    if depth.ndim != 2 or depth.dtype.kind != "f":
        shape = f"{depth.dtype} of shape {depth.shape}"
        raise DatasetError(f"{_at(where)}the depth {path} is {shape}", expected="floats (H, W) in metres")
    with np.errstate(over="ignore"):
        depth = depth.astype(np.float32)
    depth[~((depth > 0) & (depth < np.inf))] = 0
    return depth


def _at(where: str) -> str:
    return f"{where}: " if where else ""


def _unreadable(kind: str, path: Path, where: str, error: Exception) -> DatasetError:
    error = error.__cause__ if isinstance(error.__cause__, Exception) else error
    if isinstance(error, FileNotFoundError):
        return DatasetError(
            f"{_at(where)}there is no {kind} {path}", fix="check the folder that the paths start from"
        )
    return DatasetError(
        f"{_at(where)}the {kind} {path} cannot be read ({error})", fix="where it is damaged, fetch it again"
    )
