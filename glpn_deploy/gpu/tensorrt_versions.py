"""What differs between TensorRT 8.6, 10.x and 11.x, and what is known to go wrong with which."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

from glpn_deploy.errors import BackendError, MissingDependencyError, first_line
from glpn_deploy.gpu.cuda_device import CudaDevice, find_device
from glpn_deploy.optional import install_line, installed_version
from glpn_deploy.precisions import PRECISION_INFO
from glpn_deploy.precisions import Precision as Precision

Version = tuple[int, int, int]

LEAST: Version = (8, 6, 0)

_JETSON = Path("/etc/nv_tegra_release")
_WHEELS = {"tensorrt-cu11": (11, 0), "tensorrt-cu12": (12, 0), "tensorrt-cu13": (13, 0)}

# The newest opset that a version's importer is documented to read.
_OPSETS: tuple[tuple[Version, int], ...] = (
    ((8, 6, 0), 17),
    ((10, 0, 0), 20),
    ((10, 15, 0), 24),
    ((11, 0, 0), 25),
)

# The versions that brought FP8 products with a scale a channel, by NVIDIA's release notes of both.
_FP8_HOPPER: Version = (10, 6, 0)
_FP8_ADA: Version = (10, 7, 0)


@dataclasses.dataclass(frozen=True)
class TensorRT:
    """One version of TensorRT; everything is looked up in the module by name.

    Flags have other values in every major version, so that a number from one means something else in
    another.

    Attributes:
        version: Major, minor and patch number.
        text: The version as text: ``10.3.0``.
        max_opset: The newest ONNX opset that it is documented to read.
        strongly_typed: Whether networks compute in the graph's own types. On 8.6 they do not: builder
            flags allow precisions.
    """

    module: Any = dataclasses.field(repr=False, compare=False)
    version: Version
    text: str
    max_opset: int
    strongly_typed: bool
    name: str = "TensorRT"

    @property
    def newest_tried(self) -> int:
        """The newest opset that is worth showing it: 10.x parses what it knows of later ones, and warns."""
        return _OPSETS[-1][1] if self.version[0] == 10 else self.max_opset

    @property
    def title(self) -> str:
        """Name and version: ``TensorRT 10.3.0``."""
        return f"{self.name} {self.text}"

    def has(self, name: str) -> bool:
        """Whether the module has a name such as ``BuilderFlag.STRIP_PLAN``."""
        return self.member(name) is not None

    def member(self, name: str) -> Any:
        """What the module has under a dotted name, or None."""
        found: Any = self.module
        for part in name.split("."):
            found = getattr(found, part, None)
            if found is None:
                return None
        return found

    def network_flags(self) -> int:
        """The bits that `Builder.create_network` is given."""
        name = "STRONGLY_TYPED" if self.strongly_typed else "EXPLICIT_BATCH"
        flag = self.member(f"NetworkDefinitionCreationFlag.{name}")
        return 0 if flag is None else 1 << int(flag)


def import_tensorrt() -> Any:
    """Imports ``tensorrt`` once a GPU has been found; without one its calls can end the process.

    Raises:
        MissingDependencyError: It is not installed.
        BackendError: There is no GPU, or the driver is too old for the installed packages, or TensorRT
            is broken or too old.
    """
    least = least_cuda()
    find_device(least_cuda=least)
    if importlib.util.find_spec("tensorrt") is None:
        raise MissingDependencyError("tensorrt is not installed", fix=_install_hint())
    module = import_library("tensorrt", _install_hint())
    tensorrt_of(module)
    return module


def import_library(package: str, install: str) -> Any:
    """Imports an installed package; ``install`` is the line that mends it where that fails."""
    try:
        return importlib.import_module(package)
    except (ImportError, AttributeError, OSError, RuntimeError) as error:  # a missing or foreign library
        raise BackendError(
            f"{package} is installed but does not import ({first_line(error)})",
            fix=f"reinstall it: {install}",
        ) from error


def tensorrt_of(module: Any) -> TensorRT:
    """What the module's version can do."""
    text = str(getattr(module, "__version__", "unknown"))
    version = parse_version(text)
    if version is None or version < LEAST:
        raise BackendError(
            f"TensorRT {text} cannot read LayerNormalization, which it has from 8.6 on",
            expected="TensorRT 8.6, 10.x or 11.x",
            fix="on a Jetson flash JetPack 6.0 or later (JetPack 5 has TensorRT 8.5); else "
            + install_line("tensorrt"),
        )
    flag = getattr(getattr(module, "NetworkDefinitionCreationFlag", None), "STRONGLY_TYPED", None)
    opset = max(opset for since, opset in _OPSETS if version >= since)
    typed = flag is not None or version >= (11, 0, 0)  # 11 knows nothing else
    return TensorRT(module, version, ".".join(map(str, version)), opset, typed)


def parse_version(text: str) -> Version | None:
    """``10.13.3.9`` gives (10, 13, 3); None for what is no version."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def least_cuda() -> tuple[int, int] | None:
    """The driver's CUDA version that the installed TensorRT wheels need; None where no wheel tells."""
    return next((cuda for wheel, cuda in _WHEELS.items() if installed_version(wheel)), None)


def unsupported(trt: TensorRT, precision: Precision, device: CudaDevice) -> str | None:
    """Why a precision cannot be had with this TensorRT on this GPU, or None where it can."""
    least = PRECISION_INFO[precision].least_sm
    if least is not None and device.sm < least:
        return f"{device.title} has no {precision.upper()}, which needs {least[0]}.{least[1]} or later"
    if precision == "bf16" and not trt.strongly_typed and not trt.has("BuilderFlag.BF16"):
        return f"TensorRT {trt.text} has no BF16, which came with 10.0"
    since = _FP8_HOPPER if device.sm >= (9, 0) else _FP8_ADA
    if precision == "fp8" and trt.version < since:
        return (
            f"TensorRT {trt.text} has no FP8 with a scale for every channel on compute capability "
            f"{device.capability}, which came with {since[0]}.{since[1]}"
        )
    return None


def known_problem(version: Version, precision: str, sm: tuple[int, int] | None = None) -> str | None:
    """What others found wrong with networks like this one, or None. A reason to verify, not to refuse.

    Returns:
        One clause with its source.
    """
    release, reduced = version[:2], precision != "fp32"
    if release == (10, 3) and reduced:
        return (
            "TensorRT 10.3 gives wrong FP16 results for several vision transformers, right on 8.6 and 10.13 "
            "(NVIDIA/TensorRT issue 4723)"
        )
    if release == (10, 4):
        return (
            "TensorRT 10.4 gives wrong results for a vision transformer, in FP32 too "
            "(NVIDIA/TensorRT issue 4742)"
        )
    if release == (10, 7):
        return (
            "TensorRT 10.7 gives wrong results for some forms of attention, in FP32 too "
            "(NVIDIA/TensorRT issue 4333)"
        )
    if sm == (11, 0) and version >= (10, 13, 0) and reduced:
        return (
            "TensorRT fuses products that share one LayerNorm wrongly at batch 1 on Jetson Thor "
            "(NVIDIA/TensorRT-Edge-LLM issue 151, seen on 10.13)"
        )
    if sm == (12, 0) and (10, 0, 0) <= version < (11, 0, 0) and precision in ("fp16", "bf16"):
        return (
            "TensorRT up to 10.16 gives wrong 16-bit attention for a vision transformer on GPUs of compute "
            "capability 12.0 (NVIDIA/TensorRT issue 4837)"
        )
    return None


def collecting_logger(module: Any, details: bool = False) -> Any:
    """A TensorRT logger that prints nothing and keeps errors and warnings.

    Args:
        details: Keep all other messages as well.

    Returns:
        An ``ILogger`` with ``errors``, ``warnings`` and ``details``, lists of messages in order.
    """

    class Log(module.ILogger):  # type: ignore[misc]  # the bindings carry no types
        """Keeps messages."""

        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []
            self.details: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            """Called by TensorRT, from any of its threads."""
            if severity in (module.ILogger.ERROR, module.ILogger.INTERNAL_ERROR):
                self.errors.append(msg)
            elif severity == module.ILogger.WARNING:
                self.warnings.append(msg)
            elif details:
                self.details.append(msg)

    return Log()


def _install_hint() -> str:
    if _JETSON.exists():
        return (
            "sudo apt install python3-libnvinfer, and make the environment with "
            "python3 -m venv --system-site-packages: a Jetson takes TensorRT from JetPack"
        )
    return install_line("tensorrt")
