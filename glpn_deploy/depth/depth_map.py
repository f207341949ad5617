"""DepthMap: the depth of one image in metres, and the files it can become."""

from __future__ import annotations

import dataclasses
import importlib
import io
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glpn_deploy.atomic import atomic_path
from glpn_deploy.depth.colormap import MaxM, color_picture, colorize_depth, scale_end
from glpn_deploy.depth.point_cloud import Intrinsics as Intrinsics
from glpn_deploy.depth.point_cloud import back_project, draw_points, write_ply
from glpn_deploy.errors import ImageError, InputError
from glpn_deploy.images.npy import read_npy
from glpn_deploy.images.opening import DEPTH_FORMATS, open_image
from glpn_deploy.optional import needs

_DEPTH_SUFFIXES = {
    ".png": "16-bit millimetres",
    ".npy": "float32 metres",
    ".tif": "float32 metres",
    ".tiff": "float32 metres",
    ".exr": "float32 metres",
    ".ply": "a point cloud",
}
Near = Literal["white", "black"]


@dataclasses.dataclass(frozen=True, eq=False)
class DepthMap:
    """The depth of one image, at the image's own size.

    Attributes:
        depth: (H, W) float32, distance along the optical axis [m]; a value that is not finite or not
            above 0 means that there is no depth.
        max_depth: The far end of the model's range [m].
        source: Where the image came from, if known.

    Raises:
        InputError: The depth is not a (H, W) array of floats, or ``max_depth`` is not above 0.
    """

    depth: NDArray[np.float32]
    max_depth: float
    source: str | None = None

    def __post_init__(self) -> None:
        depth = np.asarray(self.depth)
        if depth.ndim != 2 or depth.size == 0:
            raise InputError(f"the depth has shape {depth.shape}", expected="(height, width), not empty")
        if depth.dtype.kind != "f":
            raise InputError(
                f"the depth has dtype {depth.dtype}",
                expected="metres as floats",
                fix="divide millimetres by 1000, or read the file with DepthMap.load",
            )
        if not 0 < self.max_depth < math.inf:
            raise InputError(f"max_depth is {self.max_depth}", expected="metres, finite and above 0")
        object.__setattr__(self, "depth", depth.astype(np.float32, copy=False))

    def __repr__(self) -> str:
        height, width = self.depth.shape
        known = self.depth[self.valid]
        metres = (
            f"{known.min():.2f} to {known.max():.2f} m, median {np.median(known):.2f} m"
            if known.size
            else "no depth"
        )
        return f"DepthMap({height}x{width} px, {metres}{f', of {self.source}' if self.source else ''})"

    def _repr_png_(self) -> bytes:
        """The picture that a notebook shows."""
        stream = io.BytesIO()
        Image.fromarray(color_picture(self.depth, self.max_depth)).save(stream, format="PNG")
        return stream.getvalue()

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(H, W), True where there is a depth."""
        return np.isfinite(self.depth) & (self.depth > 0)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        intrinsics: Intrinsics | None = None,
        rgb: NDArray[np.uint8] | None = None,
        units_per_metre: int = 1000,
        compress_level: int = 1,
    ) -> Path:
        """Writes the depth in the format the suffix names; an old file stays whole until the new one is.

        ``.png`` holds millimetres in 16 bits, rounded, 0 where there is no depth; what is farther than
        65.535 m becomes 65.535 m, with a warning: KITTI's 256 units a metre reach 256 m. ``.npy``,
        ``.tif``/``.tiff`` and ``.exr`` (channel ``Z``, OpenEXR's name for depth) hold float32 metres,
        unchanged. ``.ply`` is a point cloud.

        Args:
            intrinsics: The camera; only for ``.ply``, which needs it.
            rgb: (H, W, 3) uint8 colours of the points; only for ``.ply``.
            units_per_metre: Of a ``.png``: 1000 for millimetres, 256 for KITTI's format.
            compress_level: Of a ``.png``: as in `to_png`.

        Raises:
            InputError: The suffix is not known, or a point cloud is asked for without a camera.
            MissingDependencyError: ``.exr`` without the OpenEXR package.
            WriteError: The file cannot be written.

        Warns:
            UserWarning: Depth beyond what a ``.png`` reaches was cut; says the share of pixels.
        """
        path, suffix = _known_suffix(path, _DEPTH_SUFFIXES, "for a picture in colour use save_color")
        if suffix == ".ply":
            if intrinsics is None:
                raise InputError(
                    "a point cloud needs the camera's intrinsics",
                    fix="pass intrinsics=Intrinsics.from_fov(horizontal_degrees, width, height)",
                )
            return self.save_point_cloud(path, intrinsics, rgb)
        if suffix == ".png":
            self._warn_of_cut(path, units_per_metre)
        openexr = _import_openexr() if suffix == ".exr" else None
        with atomic_path(path) as temporary:
            if openexr is not None:
                _write_exr(openexr, temporary, self.depth)
            elif suffix == ".png":
                png = self.to_png(units_per_metre=units_per_metre, compress_level=compress_level)
                temporary.write_bytes(png)
            elif suffix == ".npy":
                np.save(temporary, self.depth, allow_pickle=False)
            else:
                Image.fromarray(self.depth).save(temporary, format="TIFF")
        return path

    def to_png(self, *, units_per_metre: int = 1000, compress_level: int = 1) -> bytes:
        """The depth as the bytes of a 16-bit PNG, as `save` writes it; what is too far is cut unsaid.

        Args:
            units_per_metre: 1000 for millimetres, 256 for KITTI's format.
            compress_level: zlib's, 0 to 9. 1 takes a fifth of the time of 6, Pillow's default, for a file
                1.2 times as large (480x640; docs/scale.md).

        Raises:
            InputError: There is no such level.
        """
        if compress_level not in range(10):
            raise InputError(f"compress_level is {compress_level}", expected="0 to 9")
        stream = io.BytesIO()
        picture = Image.fromarray(self.quantized(units_per_metre))
        picture.save(stream, format="PNG", compress_level=compress_level)
        return stream.getvalue()

    def _warn_of_cut(self, path: Path, units_per_metre: int) -> None:
        reach = 65535 / units_per_metre
        beyond = float(np.mean(self.valid & (self.depth > reach + 0.5 / units_per_metre)))
        if beyond:
            advice = (
                " --save kitti (units_per_metre=256) reaches 256 m, npy and tiff any depth."
                if units_per_metre > 256
                else ""
            )
            warnings.warn(
                f"{path}: {beyond:.2%} of the pixels lie beyond {reach:g} m and are cut to it.{advice}",
                stacklevel=3,
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, max_depth: float, units_per_metre: int = 1000) -> DepthMap:
        """Reads what ``save`` wrote as ``.png``, ``.npy`` or ``.tif``.

        Args:
            max_depth: The far end of the model's range [m], which these files do not hold.
            units_per_metre: Of a ``.png``, as ``save`` was given it.

        Raises:
            InputError: The file is missing, damaged, or of another format.
        """
        path, suffix = _known_suffix(path, (".png", ".npy", ".tif", ".tiff"))
        try:
            if suffix == ".npy":
                values = read_npy(path)
            else:
                with open_image(path, DEPTH_FORMATS) as image:
                    values = np.asarray(image)
        except FileNotFoundError:
            raise InputError(f"there is no file {path}", expected="a depth map") from None
        except ImageError as error:
            raise InputError(error.got, expected="a depth map written by save") from None
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path} cannot be read ({error})", expected="a depth map written by save"
            ) from None
        if suffix == ".png":
            if values.ndim != 2 or values.dtype.kind not in "iu" or values.dtype.itemsize < 2:
                raise InputError(f"{path} is not a grey 16-bit PNG", expected="depth in 16-bit units")
            values = values.astype(np.float32) / np.float32(units_per_metre)
        return cls(values, max_depth, str(path))

    def colorize(self, min_m: float = 0.0, max_m: MaxM = None) -> NDArray[np.uint8]:
        """The depth in colour: warm is near, cold is far, black is no depth.

        The scale is fixed, so that colours compare across images, unless ``max_m`` is ``auto``.

        Args:
            min_m: Depth of the warm end, dark red [m].
            max_m: Depth of the cold end, dark blue [m]; ``max_depth`` where left out, and with ``auto`` what
                98 % of the pixels lie within.

        Returns:
            (H, W, 3) uint8 RGB, in the Turbo colour map.

        Raises:
            InputError: ``min_m`` is not below ``max_m``.
        """
        return colorize_depth(self.depth, min_m, scale_end(self.depth, self.max_depth, max_m))

    def save_color(
        self,
        path: str | os.PathLike[str],
        *,
        min_m: float = 0.0,
        max_m: MaxM = None,
        image: NDArray[np.uint8] | None = None,
        below: bool = False,
        legend: bool = True,
    ) -> Path:
        """Writes ``colorize``'s picture as PNG, JPEG or WebP.

        Args:
            image: (H, W, 3) uint8 RGB, the image itself, to stand at the left of its depth.
            below: The depth stands below the image instead.
            legend: Add a colour bar with labels in metres to the right of the picture, which widens the
                file and leaves the picture's own pixels as they are.

        Raises:
            InputError: The suffix is not known, ``min_m`` is not below ``max_m``, or the image is of another
                size.
            WriteError: The file cannot be written.
        """
        path, _ = _known_suffix(path, (".png", ".jpg", ".jpeg", ".webp"), "for the depth itself use save")
        far = scale_end(self.depth, self.max_depth, max_m)
        picture = color_picture(self.depth, far, min_m=min_m, image=image, below=below, legend=legend)
        with atomic_path(path) as temporary:
            Image.fromarray(picture).save(temporary)
        return path

    def grayscale(
        self, *, near: Near = "white", bits: int = 8, min_m: float = 0.0, max_m: MaxM = None
    ) -> NDArray[Any]:
        """The depth in grey on a linear metre scale: 0 (black) also where there is no depth.

        Args:
            near: Which end is near: ``white`` as in disparity maps, ``black`` as in depth maps.
            bits: 8 or 16.
            min_m: Depth of the near end [m].
            max_m: Depth of the far end [m], as in `colorize`.

        Returns:
            (H, W) uint8 or uint16.

        Raises:
            InputError: ``min_m`` is not below ``max_m``, or one of the others is none of its values.
        """
        far = scale_end(self.depth, self.max_depth, max_m)
        if near not in ("white", "black") or bits not in (8, 16) or not 0 <= min_m < far < math.inf:
            raise InputError(
                f"grey of {bits} bits, near {near!r}, from {min_m} to {far} m",
                expected="8 or 16 bits, near white or black, and from below to",
            )
        valid = self.valid
        share = (np.where(valid, self.depth, far).clip(min_m, far) - min_m) / (far - min_m)
        levels = np.rint((1 - share if near == "white" else share) * (2**bits - 1))
        return np.where(valid, levels, 0).astype(np.uint8 if bits == 8 else np.uint16)

    def save_gray(
        self,
        path: str | os.PathLike[str],
        *,
        near: Near = "white",
        bits: int = 8,
        min_m: float = 0.0,
        max_m: MaxM = None,
    ) -> Path:
        """Writes `grayscale`'s picture as a PNG of the image's own size, for people; `save` keeps metres.

        Raises:
            InputError: As `grayscale`, or the suffix is not ``.png``.
            WriteError: The file cannot be written.
        """
        path, _ = _known_suffix(path, (".png",))
        picture = self.grayscale(near=near, bits=bits, min_m=min_m, max_m=max_m)
        with atomic_path(path) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")
        return path

    def point_cloud(
        self, intrinsics: Intrinsics, rgb: NDArray[np.uint8] | None = None, stride: int = 1
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
        """Points in the camera's frame: x to the right, y down, z forward.

        Args:
            intrinsics: The camera, for an image of this size.
            rgb: (H, W, 3) uint8 colours.
            stride: Take every nth row and column.

        Returns:
            The points (N, 3) float32 [m] of the valid pixels, row by row, and their colours (N, 3) uint8
            or None.

        Raises:
            InputError: ``rgb`` does not fit the depth, or the stride is below 1.
        """
        return back_project(self.depth, intrinsics, rgb, stride)

    def draw_point_cloud(
        self, intrinsics: Intrinsics, rgb: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """The point cloud as a picture, seen from the side and above; see `point_cloud.draw_points`.

        Args:
            intrinsics: The camera, for an image of this size.
            rgb: (H, W, 3) uint8 colours; the depth's own where left out.

        Returns:
            (H, W, 3) uint8 RGB.

        Raises:
            InputError: ``rgb`` does not fit the depth.
        """
        points, colors = self.point_cloud(intrinsics, self.colorize() if rgb is None else rgb)
        assert colors is not None  # for they were given
        return draw_points(points, colors, intrinsics, self.depth.shape)

    def save_point_cloud(
        self,
        path: str | os.PathLike[str],
        intrinsics: Intrinsics,
        rgb: NDArray[np.uint8] | None = None,
        stride: int = 1,
    ) -> Path:
        """Writes ``point_cloud``'s points as a binary little-endian ``.ply``.

        Raises:
            InputError: The suffix is not ``.ply``, or as in ``point_cloud``.
            WriteError: The file cannot be written.
        """
        path, _ = _known_suffix(path, (".ply",))
        points, colors = self.point_cloud(intrinsics, rgb, stride)
        with atomic_path(path) as temporary:
            write_ply(temporary, points, colors)
        return path

    def quantized(self, units_per_metre: int) -> NDArray[np.uint16]:
        """The depth as 16-bit integers, rounded: 0 where there is none, 65535 for what is farther.

        Args:
            units_per_metre: 1000 for millimetres, 256 for KITTI's format, which reaches 256 m.

        Returns:
            (H, W) uint16.
        """
        metres = np.where(self.valid, self.depth, np.float32(0))
        units: NDArray[np.uint16] = (
            np.rint(metres * np.float32(units_per_metre)).clip(0, 65535).astype(np.uint16)
        )
        return units


def _known_suffix(
    name: str | os.PathLike[str], known: Mapping[str, str] | Sequence[str], fix: str = ""
) -> tuple[Path, str]:
    """The path and its suffix in small letters; refuses one that is not among those known."""
    path = Path(name)
    suffix = path.suffix.lower()
    if suffix not in known:
        told = [f"{one} ({what})" for one, what in known.items()] if isinstance(known, Mapping) else known
        raise InputError(
            f"{path} has the suffix {path.suffix!r}", expected="one of " + ", ".join(told), fix=fix
        )
    return path, suffix


def _write_exr(openexr: Any, path: Path, depth: NDArray[np.float32]) -> None:
    header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
    try:
        openexr.File(header, {"Z": np.ascontiguousarray(depth)}).write(str(path))
        # OpenEXR 3.5 says nothing when the disk is full, so what it wrote is read back.
        written = openexr.File(str(path)).channels()["Z"].pixels
    except (RuntimeError, ValueError) as error:
        raise OSError(f"OpenEXR: {error}") from error
    if not np.array_equal(written, depth, equal_nan=True):
        raise OSError("OpenEXR wrote other values than it was given")


def _import_openexr() -> Any:
    with needs("writing .exr", "exr", instead="save as .tif"):
        return importlib.import_module("OpenEXR")
