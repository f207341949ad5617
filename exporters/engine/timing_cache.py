"""Timings of kernels, kept between builds in a file: for one kind of GPU and one TensorRT."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

from glpn_deploy.atomic import atomic_path, make_folder, user_folder
from glpn_deploy.errors import InputError, WriteError
from glpn_deploy.exporters.engine.engine_options import TimingCache
from glpn_deploy.gpu.cuda_device import CudaDevice
from glpn_deploy.gpu.tensorrt_versions import TensorRT


def timing_file(wanted: TimingCache, trt: TensorRT, device: CudaDevice | None) -> Path | None:
    """The file that timings are kept in; None where none are, as where nothing is timed."""
    if device is None or wanted == "none":
        return None
    if isinstance(wanted, Path):
        return wanted
    name = f"trt{trt.text}-sm{device.capability}-{device.sm_count}-{device.name}-{device.board}"
    try:
        folder = make_folder(user_folder("cache") / "timings", 0o700)  # TensorRT parses what lies there
    except WriteError:
        return None
    return folder / f"{re.sub('[^A-Za-z0-9.]+', '-', name).strip('-')}.timings"


def attach_timings(config: Any, timings: bytes | None) -> Any:
    """Gives the builder the timings of earlier builds, or a new cache where they do not fit.

    Returns:
        The cache, which must outlive the build; None where none is wanted or none can be had.
    """
    if timings is None:
        return None
    for content in (timings, b""):
        try:
            cache = config.create_timing_cache(content)
        except (RuntimeError, TypeError):  # not a cache at all
            cache = None
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
    return None


def read_timings(path: TimingCache | None) -> bytes | None:
    """The content of a file of timings, nothing for a new one; None where no file is named."""
    if not isinstance(path, Path):
        return None
    if not path.parent.is_dir():
        raise InputError(f"timing cache {path}: there is no folder {path.parent}", fix="create it")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise InputError(f"timing cache {path} cannot be read ({error.strerror})") from None


def write_timings(path: Path, content: Any) -> None:
    """Saves the timings (a buffer) whole or not at all; where that fails, it warns."""
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(memoryview(content))
    except WriteError as error:  # the engine is built, and worth more
        warnings.warn(f"the engine is built, but its timing cache is not kept: {error}", stacklevel=3)
