"""What a runtime and `DepthEstimator.load` are told. Light: commands read it for ``--help``."""

from __future__ import annotations

import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TypedDict

from glpn_deploy.bundle.engine_profile import Profile
from glpn_deploy.errors import InputError
from glpn_deploy.images.options import ImageOptions
from glpn_deploy.options import (
    ADVANCED,
    Auto,
    DeviceOption,
    Offline,
    Option,
    Threads,
    check_options,
    parse_device,
)
from glpn_deploy.precisions import Precision
from glpn_deploy.runtimes.processor import usable_cores

BackendName = Literal["onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "torch"]
Mode = Literal["auto", "latency", "throughput", "worker"]
Provider = Literal["auto", "cuda", "tensorrt"]
Compile = Literal["no", "default", "max-autotune"]
FallbackPrecision = Literal["fp32", "bf16"]
Mixed = Literal["int8+bf16"]
"""INT8, with what is not quantised in BF16."""
RunPrecision = Literal[Precision, Mixed]
"""What a network can be run in."""

_advanced = partial(Option, panel=ADVANCED)
ModeOption = Annotated[
    Mode,
    _advanced(
        "throughput: many images, each on one thread, as many at a time as there are threads. worker: one of "
        "several processes on the machine (one thread, bound to no core). auto is worker inside Ray and "
        "Triton, else latency, all threads for one run."
    ),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RuntimeOptions:
    """How a runtime runs. A new field that commands offer has an `Option`, and a line below.

    Attributes:
        precision: Precision of the computation; the artefact's own for files.
        mode: ``latency`` gives every run all threads; ``throughput`` gives each one, for as many runs at the
            same time (`at_once`; on CPUs in OpenVINO and ONNX Runtime, the others do the first). ``worker``
            is for one of several processes on a machine: one thread unless ``threads`` says otherwise, bound
            to no core, and none that spins. ``auto`` is that in a worker of Ray and in Triton's Python
            backend (`one_of_several`), else ``latency``.
        cache: Others must not be able to write to this folder.
        profile: The shapes that the TensorRT provider builds its engine for; without one it builds for
            the first shape it meets, and again, over the wider range, for every shape outside.

    Raises:
        InputError: A value is not allowed, or two contradict each other.
    """

    device: DeviceOption = "auto"
    threads: Threads = None
    cache: Annotated[
        Path | None,
        _advanced(
            "Keep compiled networks in this folder, for a faster second start (OpenVINO and TensorRT for "
            "RTX, up to 2 GiB each; ONNX Runtime's TensorRT provider) [default: keep none].",
            metavar="FOLDER",
        ),
    ] = None
    provider: Annotated[
        Provider,
        _advanced(
            "What ONNX Runtime runs with on a GPU; auto is CUDA. tensorrt builds engines of its own, which "
            "takes minutes: keep them with --cache, or use glpn-build and --backend tensorrt."
        ),
    ] = "auto"
    compile: Annotated[
        Compile, _advanced("Run a checkpoint through torch.compile, which takes a while at every new size.")
    ] = "no"
    fallback_precision: Annotated[
        FallbackPrecision,
        _advanced(
            "What the layers of an INT8 graph that are not quantised compute in (OpenVINO).",
            names=("--fallback-precision", "--rest"),
            instead="--precision int8+bf16",
        ),
    ] = "fp32"
    trust_engines: Annotated[
        bool,
        _advanced(
            "Open TensorRT engines that were not built on this machine by you. An engine is a program: only "
            "where you know who built it."
        ),
    ] = False
    allow_fallback: Annotated[
        bool,
        Option("Run what comes nearest where this machine cannot give what is asked for, and say so."),
    ] = False
    spin: Annotated[
        bool,
        _advanced(
            "--no-spin lets ONNX Runtime's threads sleep between runs, for a camera whose frames are apart: "
            "less of the processor's time, a run takes a little longer.",
            names=("--spin/--no-spin",),
        ),
    ] = True
    cached_shapes: Annotated[
        int | None,
        _advanced(
            "Input sizes that get a compiled network of their own; others run on a dynamic one, more slowly. "
            "Each takes the network's memory again (OpenVINO: 4; torch.compile: 8, its most).",
            least=1,
            most=64,
        ),
    ] = None
    mode: ModeOption = "auto"
    precision: Precision = "fp32"
    profile: Profile | None = None

    def __post_init__(self) -> None:
        parse_device("device", self.device)
        check_options(self)
        if self.provider != "auto" and self.device == "cpu":
            raise InputError(f"provider {self.provider} on device cpu", expected='device="auto" or "cuda"')

    @property
    def at_once(self) -> int:
        """Runs that a processor's threads are for at the same time."""
        return (self.threads or usable_cores()) if self.mode == "throughput" else 1

    def settled(self) -> RuntimeOptions:
        """The options with ``mode`` decided, and with what it implies for threads; for runtimes."""
        mode = ("worker" if one_of_several() else "latency") if self.mode == "auto" else self.mode
        if mode != "worker":
            return dataclasses.replace(self, mode=mode)
        return dataclasses.replace(self, mode=mode, threads=self.threads or 1, spin=False)


def one_of_several() -> bool:
    """Whether this process is a worker of Ray or of Triton's Python backend, beside others on the machine."""
    if "triton_python_backend_utils" in sys.modules or "c_python_backend_utils" in sys.modules:
        return True
    return "ray" in sys.modules and Path(sys.argv[0]).name == "default_worker.py"


class RuntimeKeywords(TypedDict, total=False):
    """The fields of `RuntimeOptions` that `DepthEstimator.load` takes by these names too."""

    threads: int | None
    provider: Provider
    compile: Compile
    fallback_precision: FallbackPrecision
    trust_engines: bool
    allow_fallback: bool
    spin: bool
    cached_shapes: int | None
    mode: Mode


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """Which backend and precision run a source, how, and what of its images.

    Raises:
        InputError: A value is not allowed, or two contradict each other.
    """

    backend: Annotated[
        Auto | BackendName,
        Option("auto takes what is expected to be the fastest of those that can run here, and says why."),
    ] = "auto"
    precision: Annotated[
        Auto | RunPrecision,
        Option(
            "Precision to run in: the artefact's; OpenVINO needs none of its own for bf16, fp16. int8+bf16 "
            "runs in bf16 what INT8 leaves, which is faster on processors that have it (OpenVINO)."
        ),
    ] = "auto"
    runtime: RuntimeOptions = RuntimeOptions()
    measure: Annotated[
        bool, _advanced("With --backend auto, time the backends on the first batch instead.")
    ] = False
    offline: Offline = False
    max_depth: Annotated[
        float | None,
        _advanced(
            "The network's scale [m], for an .onnx file of other software that does not say it.",
            names=("--network-max-depth", "--max-depth"),
            above=0,
        ),
    ] = None
    images: ImageOptions = ImageOptions()

    def __post_init__(self) -> None:
        check_options(self)
        if self.measure and self.backend != "auto":
            raise InputError(
                f"measure with backend {self.backend}", expected="backend auto, which has a choice"
            )

    def resolved(self, own: Precision = "fp32") -> RuntimeOptions:
        """How the runtime runs in the precision asked for, or in the source's own where that is left open."""
        if self.precision == "int8+bf16":
            return dataclasses.replace(self.runtime, precision="int8", fallback_precision="bf16")
        precision = own if self.precision == "auto" else self.precision
        return dataclasses.replace(self.runtime, precision=precision)
