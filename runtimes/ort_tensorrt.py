"""What ONNX Runtime's TensorRT provider is told: precision, profile, and a folder of engines that is its own.

The provider builds engines while a session runs and keeps them as files, which it loads without checking
them against anything; an engine is executable. They therefore lie in a folder named by the digest of the
ONNX file and ONNX Runtime's version, open to its owner only.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import Any

from glpn_deploy.bundle.engine_profile import Profile
from glpn_deploy.errors import BackendError, InputError, WriteError
from glpn_deploy.runtimes.base import Precision
from glpn_deploy.runtimes.compiled_cache import files_digest
from glpn_deploy.runtimes.onnx_file.header import OnnxHeader

PROVIDER = "TensorrtExecutionProvider"
_LIBRARIES = ("libonnxruntime_providers_tensorrt.so", "onnxruntime_providers_tensorrt.dll")
_WEAK = {"fp32": (), "fp16": ("trt_fp16_enable",), "int8": ("trt_fp16_enable", "trt_int8_enable")}


def linked_tensorrt(package: Path) -> int | None:
    """Major version of the TensorRT that an installed ONNX Runtime was linked to.

    Args:
        package: The folder of its Python package.

    Returns:
        None where it has no TensorRT provider, or its library does not say.
    """
    for name in _LIBRARIES:
        with contextlib.suppress(OSError):
            content = (package / "capi" / name).read_bytes()
            if found := re.search(rb"libnvinfer\.so\.(\d+)|nvinfer_(\d+)\.dll", content):
                return int(found[1] or found[2])
    return None


def provider_options(
    header: OnnxHeader, precision: Precision, profile: Profile | None, engines: Path, tensorrt: int | None
) -> dict[str, Any]:
    """The provider's options, as https://onnxruntime.ai/docs/execution-providers names them.

    From TensorRT 10 on a network without precision flags is strongly typed: the provider then computes in
    the types the graph has, which is what these graphs are made for, and a flag would undo it. TensorRT 8
    has no such networks and needs the flags that agree with the graph.

    Args:
        header: What the file says of itself.
        precision: What the graph is in.
        profile: The shapes to build for, or None for those that come.
        engines: Folder for engines and timings.
        tensorrt: Major version of TensorRT, where it is known.

    Raises:
        InputError: TensorRT 8 cannot compute in this precision.
    """
    options: dict[str, Any] = {
        "device_id": 0,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(engines),
        "trt_timing_cache_enable": True,
    }
    if tensorrt is not None and tensorrt < 10:
        if precision not in _WEAK:
            raise InputError(
                f"ONNX Runtime's TensorRT provider does not run {precision} on TensorRT {tensorrt}",
                expected=f"one of {', '.join(_WEAK)}",
            )
        options |= dict.fromkeys(_WEAK[precision], True)
    for end in ("min", "opt", "max") if profile is not None else ():
        shape = header.spec.tensor_shape(getattr(profile, end))
        options[f"trt_profile_{end}_shapes"] = f"{header.input}:{'x'.join(map(str, shape))}"
    return options


class EngineFolder:
    """Where the provider keeps the engines of one file.

    Args:
        cache: The user's cache folder; None makes a temporary one, removed by `close`.
        header: What the file says of itself.
        version: ONNX Runtime's version.

    Raises:
        WriteError: The folder cannot be made.
        BackendError: Others may write to it.
    """

    def __init__(self, cache: Path | None, header: OnnxHeader, version: str) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if cache is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="glpn-engines-")
            self.path = Path(self._temporary.name)
            return
        digest = hashlib.sha256(f"{files_digest(header.files)} {version}".encode()).hexdigest()
        self.path = cache / f"onnxruntime-tensorrt-{digest[:32]}"
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            about = self.path.stat()
        except OSError as error:
            raise WriteError(
                f"the cache folder {self.path} cannot be made ({error.strerror})", fix="choose another one"
            ) from error
        if os.name == "posix" and (about.st_uid != os.getuid() or stat.S_IMODE(about.st_mode) & 0o022):
            raise BackendError(
                f"others may write to the engines in {self.path}, and an engine is executable",
                fix=f"remove that folder, or chmod go-w {self.path} where it is yours",
            )

    @property
    def empty(self) -> bool:
        """Whether no engine was built."""
        return not any(self.path.glob("**/*.engine"))

    def close(self) -> None:
        """Removes the folder where it is temporary."""
        if self._temporary is not None:
            self._temporary.cleanup()


def load_libraries() -> None:
    """Loads TensorRT's libraries where they came by pip; the provider looks on the system's paths only."""
    with contextlib.suppress(ImportError, OSError, RuntimeError):
        importlib.import_module("tensorrt_libs")


def start_hint(tensorrt: int | None, cuda: str) -> str:
    """What to look for where the provider did not start.

    Args:
        tensorrt: Major version of TensorRT, where it is known.
        cuda: The CUDA version that ONNX Runtime was built with, such as ``13.0``; may be empty.
    """
    if tensorrt is None:
        return "install TensorRT beside onnxruntime-gpu, in the version its release notes name"
    package = f"tensorrt-cu{cuda.split('.', maxsplit=1)[0]}" if cuda else "tensorrt"
    line = f"pip install '{package}>={tensorrt},<{tensorrt + 1}'"
    return f"it needs libnvinfer.so.{tensorrt}: {line}; on a Jetson that is JetPack's own"
