"""ONNX files that do not say all of themselves, of other software or edited: what is beside them tells."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from glpn_deploy.bundle.hub_layout import HUB_FOLDER
from glpn_deploy.errors import BundleError, InputError
from glpn_deploy.images.processing import CONFIG_NAME as PROCESSOR_NAME
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.model.config import CONFIG_NAME, GLPNConfig
from glpn_deploy.runtimes.base import Reason
from glpn_deploy.runtimes.onnx_file.header import OnnxHeader, read_header


@dataclasses.dataclass(frozen=True)
class OnnxSource:
    """A depth network's ONNX file with what is needed to feed it and to read its depth.

    Attributes:
        max_depth: The network's scale [m].
        reasons: What was taken from elsewhere, and what a tool changed.
    """

    path: Path
    header: OnnxHeader
    max_depth: float
    processor: GLPNImageProcessor
    reasons: tuple[Reason, ...] = ()


def find_onnx(source: str | Path) -> Path | None:
    """The ``.onnx`` file that a source is, or holds as Optimum writes a folder; None where there is none."""
    path = Path(source)
    if path.suffix == ".onnx":
        return path
    places = (path / "model.onnx", path / HUB_FOLDER / "model.onnx")
    return next((place for place in places if place.is_file()), None)


def open_onnx(
    path: Path, max_depth: float | None = None, fallback: tuple[Path, float] | None = None
) -> OnnxSource:
    """Reads an ``.onnx`` file and what it does not say itself.

    Args:
        max_depth: The scale [m], instead of that of the ``config.json`` beside the file (or beside its folder
            ``onnx``); for a file that says its own it can only be that.
        fallback: The checkpoint of the same network and its scale [m], where nothing else says it.

    Raises:
        BundleError: The file is none, or nothing says its scale.
        ConfigError: A config beside it cannot be used.
        InputError: ``max_depth`` is no scale, or contradicts the file's own.
    """
    header = read_header(path)
    folders = [path.parent, path.parent.parent] if path.parent.name == HUB_FOLDER else [path.parent]
    reasons: list[Reason] = []
    scale = header.max_depth if max_depth is None else max_depth
    if max_depth is not None and (not 0 < max_depth < float("inf") or header.max_depth not in (None, scale)):
        expected = "metres above 0" if header.max_depth is None else f"{header.max_depth:g}"
        raise InputError(f"max_depth {max_depth:g} for {path}", expected=expected)
    if scale is None:
        config = _beside(folders, CONFIG_NAME)
        if config is None and fallback is not None:
            folder = fallback[0] if fallback[0].is_dir() else fallback[0].parent
            folders, scale = [*folders, folder], fallback[1]
        elif config is None:
            raise BundleError(
                f"{path} does not say what depth it gives: it was not made by glpn-export, or a tool dropped "
                "its metadata",
                expected="max_depth in metres, or its config.json beside it",
                fix="pass 10 for NYU or 80 for KITTI (--max-depth 10)",
            )
        else:
            scale = float(GLPNConfig.from_json_file(config).max_depth)
            reasons.append(Reason(f"{path.name} does not say its scale: {scale:g} m is that of {config}"))
    settings = _beside(folders, PROCESSOR_NAME) if header.max_depth is None else None
    processor = GLPNImageProcessor() if settings is None else GLPNImageProcessor.from_json_file(settings)
    if header.stated not in (None, header.precision):
        told = f"{path.name} says {header.stated}, and its graph is {header.precision}: a tool converted it"
        reasons.append(Reason(told))
    return OnnxSource(path, header, scale, processor, tuple(reasons))


def _beside(folders: list[Path], name: str) -> Path | None:
    return next((folder / name for folder in folders if (folder / name).is_file()), None)
