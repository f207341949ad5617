"""What a clip's depth is saved as: colour videos, lossless depth, pictures, a line of figures a frame."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.atomic import atomic_path
from glpn_deploy.depth.colormap import color_picture
from glpn_deploy.depth.depth_map import DepthMap
from glpn_deploy.errors import InputError, WriteError
from glpn_deploy.video.frame import Frame

_SUFFIXES = {
    "color": ".depth_color.mp4",
    "side": ".depth_side.mp4",
    "below": ".depth_below.mp4",
    "mm": ".depth_{unit}.mkv",
    "png": ".depth_{unit}",
    "jsonl": ".depth.jsonl",
}
KINDS = tuple(_SUFFIXES)
_REACH_MM = 65.535  # m, what 16 bits of millimetres hold


@dataclasses.dataclass(frozen=True)
class DepthScale:
    """How far depth is coloured, and in which unit it is stored.

    Attributes:
        max_m: Cold end of the colours [m].
        units_per_metre: 1000; 256 (KITTI's) for a network that sees farther than 65.535 m.
    """

    max_m: float
    units_per_metre: int

    @classmethod
    def of(cls, max_depth: float, max_m: float | None) -> DepthScale:
        """For a network whose depth ends at ``max_depth`` [m], and the colours asked for."""
        return cls(max_m or max_depth, 1000 if max_depth <= _REACH_MM else 256)


def check_save(kinds: Iterable[str]) -> None:
    """Refuses kinds of files that are not among `KINDS`."""
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"--save {kind!r} for a video", expected=f"some of {', '.join(KINDS)}")


class Outputs:
    """The files of one clip, written frame by frame as they come.

    Args:
        stem: Folder and beginning of the names.
        kinds: Some of `KINDS`.

    Attributes:
        files: The paths by kind; ``png`` is a folder.
    """

    def __init__(self, stem: Path, kinds: tuple[str, ...], scale: DepthScale) -> None:
        check_save(kinds)
        unit = "mm" if scale.units_per_metre == 1000 else f"x{scale.units_per_metre}"
        self.files = {kind: Path(f"{stem}{_SUFFIXES[kind].format(unit=unit)}") for kind in kinds}
        self._scale = scale
        self._closing = contextlib.ExitStack()
        self._writers: list[Callable[[Frame, DepthMap, dict[str, Any]], None]] = []
        try:
            for kind, path in self.files.items():
                self._writers.append(self._writer(kind, path))
        except BaseException:
            self._closing.close()
            raise

    def _writer(self, kind: str, path: Path) -> Callable[[Frame, DepthMap, dict[str, Any]], None]:
        units = self._scale.units_per_metre
        if kind == "jsonl":
            lines = self._closing.enter_context(_open(path))

            def line(frame: Frame, depth_map: DepthMap, figures: dict[str, Any]) -> None:
                lines.write(json.dumps(figures, allow_nan=False) + "\n")
                lines.flush()

            return line
        if kind == "png":
            path.mkdir(parents=True, exist_ok=True)

            def png(frame: Frame, depth_map: DepthMap, figures: dict[str, Any]) -> None:
                with atomic_path(path / f"{frame.index:06d}.png") as temporary:
                    temporary.write_bytes(depth_map.to_png(units_per_metre=units))

            return png
        from glpn_deploy.video.encoding import UNITS_TAG, ClipWriter  # pictures and lines do without

        writer = ClipWriter(path, {UNITS_TAG: str(units)} if kind == "mm" else None)
        self._closing.callback(writer.close)

        def video(frame: Frame, depth_map: DepthMap, figures: dict[str, Any]) -> None:
            picture = depth_map.quantized(units) if kind == "mm" else self.picture(kind, frame, depth_map)
            writer.write(picture, frame.pts, frame.time_base)

        return video

    def picture(self, kind: str, frame: Frame, depth_map: DepthMap) -> NDArray[np.uint8]:
        """Depth in colour, by itself or beside or below its frame, with its scale: (H', W', 3) uint8."""
        image = None if kind == "color" else frame.image
        return color_picture(depth_map.depth, self._scale.max_m, image=image, below=kind == "below")

    def write(self, frame: Frame, depth_map: DepthMap, figures: dict[str, Any]) -> None:
        """Adds a frame, its depth and its line of figures to every file."""
        for write in self._writers:
            write(frame, depth_map, figures)

    def close(self) -> None:
        """Finishes every file, also where one of them fails."""
        self._closing.close()


def _open(path: Path) -> TextIO:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise WriteError(f"{path} could not be written ({error.strerror})") from None
