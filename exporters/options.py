"""What an export is told. Light: commands read it for ``--help``."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from glpn_deploy.errors import InputError
from glpn_deploy.gpu.cuda_device import find_device_or_none
from glpn_deploy.model.config import NormEps
from glpn_deploy.options import (
    ADVANCED,
    WORDS,
    Offline,
    Option,
    Reader,
    bad_option,
    check_options,
)
from glpn_deploy.precisions import (
    HALF_PRECISIONS,
    LOWER_PRECISIONS,
    PRECISION_INFO,
    QUANTIZED_PRECISIONS,
    Precision,
)

if TYPE_CHECKING:
    from glpn_deploy.datasets.base import DepthDataset

Form = Literal["any", "tensorrt"]
Layout = Literal["bundle", "hub"]
Io = Literal["fp32", "fp16", "uint8"]
"""What a bundle's graphs take and give."""
HalfIo = Literal["fp32", "half"]
"""The same of one typed graph: FP32, or its 16-bit type."""
Method = Literal["minmax", "percentile"]
Oldest = Literal["8.6"]
Route = Literal["write", "trace"]
Target = Literal["tensorrt", "cpu"]
Where = Path | Literal["rooms", "random"] | None
"""A folder of photographs; ``rooms`` for rendered ones; ``random`` for noise to calibrate on, while
errors are measured on rooms; None for rooms where that is honest."""

MIN_OPSET, MAX_OPSET, DEFAULT_OPSET = 17, 25, 17
FEWEST_IMAGES = 2
LOWER_PANEL = "Lower precisions"
"""The help panel of the options that only count beside a lower precision."""
_lower, _advanced = partial(Option, panel=LOWER_PANEL), partial(Option, panel=ADVANCED)

_NOT_FOLDERS: dict[str, Literal["rooms", "random"]] = {"rooms": "rooms", "random": "random"}


@dataclasses.dataclass(frozen=True)
class OnnxOptions:
    """How the ONNX file is written.

    Attributes:
        route: ``write``: node by node from the weights, for networks as their configuration says. ``trace``:
            by `torch.onnx.export`, for any that it can follow.
        form: ``any``, or ``tensorrt`` for the forms that its compiler fuses; the depth is the same.
        io: ``uint8`` for a graph that takes 8-bit images and divides them by 255 itself.
        single_file_limit: Weights of more bytes than this go into ``<name>.data`` beside the file; None takes
            what protobuf can hold.

    Raises:
        InputError: The opset is not one that can be written.
    """

    opset: Annotated[
        int,
        _advanced(
            "ONNX opset. 17 is the newest that every supported engine reads (TensorRT 8.6 stops there, 10.x "
            "at 20). 20 writes Gelu as one node. In ONNX Runtime on a CPU they are about equally fast.",
            least=MIN_OPSET,
            most=MAX_OPSET,
        ),
    ] = DEFAULT_OPSET
    route: Annotated[
        Route,
        Option(
            "Trace the network by torch.onnx.export instead of writing it down: slower, and for networks "
            "that were changed, too.",
            names=("--trace",),
            typed=bool,
            reader=Reader(
                lambda option, trace: "trace" if trace else "write", lambda route: route == "trace"
            ),
        ),
    ] = "write"
    form: Form = "any"
    io: Literal["fp32", "uint8"] = "fp32"
    single_file_limit: int | None = None

    def __post_init__(self) -> None:
        check_options(self)


@dataclasses.dataclass(frozen=True)
class CalibrationOptions:
    """How ranges are found.

    Attributes:
        method: ``minmax`` takes the largest magnitude seen, ``percentile`` the one that ``percentile``
            percent do not exceed.
        max_images: Images taken of a folder, spread evenly over it.

    Raises:
        InputError: A value is out of range.
    """

    method: Annotated[Method, _advanced("How ranges are found.", names=("--calibration-method",))] = "minmax"
    percentile: Annotated[
        float,
        _advanced(
            "For the method percentile: how many percent of the values a range must hold, above 50 and up "
            "to 100.",
            names=("--calibration-percentile",),
            above=50,
            most=100,
        ),
    ] = 99.999
    max_images: Annotated[
        int, _advanced("Most images to find ranges on.", names=("--calibration-images",), least=FEWEST_IMAGES)
    ] = 128

    def __post_init__(self) -> None:
        check_options(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LowerOptions:
    """Which lower precisions a bundle gets, and what they are held to.

    Attributes:
        precisions: In the order in which they are made.
        ground_truth: A data set with ground truth to be checked on as well.
        sweep: Hold every graph to its budget at every shape of the sweep as well.

    Raises:
        InputError: FP8 is asked for on CPUs; or a budget is not a finite number above 0.
    """

    precisions: Annotated[
        tuple[Precision, ...],
        _lower(
            "Also write model.fp16.onnx and so on, separated by commas; --fp16, --bf16, --int8 and --fp8 say "
            "the same. bf16 has opset 22 (TensorRT 11), int8 has Q/DQ pairs, fp8 is for Ada and later.",
            names=("--precision",),
            metavar="|".join(LOWER_PRECISIONS),
            reader=WORDS,
            shorthands=LOWER_PRECISIONS,
        ),
    ] = ()
    images: Annotated[
        Where,
        _lower(
            "Photographs of the kind the camera will see (sub-folders are not searched): INT8 and FP8 find "
            "their ranges on four fifths of them, and every precision is checked on the rest. rooms takes "
            "rendered rooms, which is the default for the demo network and, to check FP16 and BF16, for all; "
            "random calibrates on noise, to try it out.",
            names=("--calibration",),
            metavar="FOLDER",
            reader=Reader(lambda option, text: _NOT_FOLDERS.get(text, Path(text))),
        ),
    ] = None
    calibration: CalibrationOptions = CalibrationOptions()
    target: Annotated[
        Target | None,
        _lower(
            "What INT8 is for; the recipes differ, and one is slow where the other is fast [default: "
            "tensorrt where this machine has an NVIDIA GPU, else cpu]."
        ),
    ] = None
    oldest: Annotated[
        Oldest | None,
        _advanced(
            "The oldest TensorRT that must read INT8: with 8.6 (JetPack 6.0) it keeps opset 17, in which "
            "each quantized product is followed by a cast [default: TensorRT 10, opset 20].",
            names=("--for-tensorrt",),
        ),
    ] = None
    max_abs_rel: Annotated[
        float | None,
        _lower(
            "Largest mean relative difference from FP32's depth [default: fp16 0.001, bf16 0.01, int8 0.02, "
            "fp8 0.05]. Where it is exceeded, sensitive nodes are raised until it is met.",
            above=0,
        ),
    ] = None
    max_abs_m: Annotated[
        float | None, _advanced("Largest difference of any pixel from FP32's depth [m].", above=0)
    ] = None
    ground_truth: DepthDataset | None = None
    verdict: Annotated[
        bool, _advanced("Measure each precision's latency beside FP32's, where this machine can run it.")
    ] = True
    sweep: bool = True

    def __post_init__(self) -> None:
        check_options(self)
        for name in self.precisions:
            if name not in LOWER_PRECISIONS:
                raise bad_option("precisions", name, f"some of {', '.join(LOWER_PRECISIONS)}")
        no_cpus = [name for name in self.precisions if not PRECISION_INFO[name].on_cpus]
        if self.target == "cpu" and no_cpus:
            missing = no_cpus[0].upper()
            raise InputError(
                f"the target is cpu, and no CPU computes in {missing}",
                expected="the target tensorrt",
                fix=f"leave out --target cpu, or make {missing} in a bundle of its own",
            )
        if self.oldest is not None and self.target == "cpu":
            raise InputError(
                "a graph for CPUs that TensorRT 8.6 must read", expected="the target tensorrt, or no oldest"
            )

    def target_of(self, precision: Precision) -> Target:
        """What a precision's graph is for.

        INT8 is for CPUs where this machine has no GPU, and neither a target nor an oldest TensorRT is given.
        The others are for TensorRT: on CPUs they need no graphs of their own.
        """
        if self.target is not None or precision != "int8" or self.oldest is not None:
            return self.target or "tensorrt"
        return "cpu" if find_device_or_none() is None else "tensorrt"

    @property
    def ranges(self) -> int:
        """Images wanted for finding ranges."""
        return self.calibration.max_images if {*QUANTIZED_PRECISIONS} & {*self.precisions} else 0


def fallback_precision(precision: Precision, target: Target = "tensorrt") -> Precision:
    """What a precision's graph computes in where it is not quantized, or everywhere.

    Where that is FP16, input and output can be 16 bits. BF16 graphs keep FP32 there: numpy has no BF16, and
    ONNX Runtime takes none from Python. In graphs for CPUs what is not quantized is FP32.
    """
    if precision not in HALF_PRECISIONS and target == "cpu":
        return "fp32"
    return PRECISION_INFO[precision].fallback or "fp32"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How a bundle is made.

    Attributes:
        lower: Lower precisions to make beside the FP32 graph, if any.
        io: Type of the graphs' input and output; `io_of` says which graphs have FP16's.
        golden_images: Rendered rooms are the goldens where there are none.

    Raises:
        InputError: A value is out of range, or no graph has the input and output asked for.
    """

    onnx: OnnxOptions = OnnxOptions()
    lower: LowerOptions | None = None
    io: Annotated[
        Io,
        Option(
            "What the graphs take and give. uint8: every graph takes 8-bit images (N, H, W, 3) as cameras "
            "and files have them, a quarter of the bytes, and scales them itself; depth stays float32. fp16: "
            "FP16 graphs, and INT8 and FP8 ones for TensorRT, take and give float16 tensors, for callers "
            "that hand such tensors over (depth in steps of 8 mm from 8 m on, of 6 cm from 64 m on).",
            former=("--half-io=fp16",),
        ),
    ] = "fp32"
    verify: Annotated[
        bool,
        _advanced(
            "Hold the ONNX file against PyTorch, and lower precisions against it, over a sweep of shapes "
            "before the bundle is finished; --no-verify skips the proof, and the manifest says so."
        ),
    ] = True
    tolerance: Annotated[
        float | None,
        _advanced("Largest difference allowed, as a share of max_depth [default: 1e-5].", above=0),
    ] = None
    max_depth: Annotated[
        float | None,
        Option("Depth [m] at which the network saturates; overrides the checkpoint's (KITTI: 80)."),
    ] = None
    norm_eps: Annotated[
        NormEps | None,
        _advanced(
            "LayerNorm epsilons: hf runs all at 1e-5 as transformers does, original uses the authors' 1e-6 "
            "in block and stage norms [default: the checkpoint's, else hf]."
        ),
    ] = None
    golden_images: Annotated[
        tuple[Path, ...],
        _advanced(
            "Photograph to keep in the bundle for later verification; may be repeated.", names=("--image",)
        ),
    ] = ()
    layout: Annotated[
        Layout,
        _advanced(
            "hub puts the ONNX files where transformers.js and Optimum look for them: onnx/model.onnx, "
            "onnx/model_fp16.onnx, onnx/model_quantized.onnx."
        ),
    ] = "bundle"
    revision: Annotated[str | None, _advanced("Hub revision: branch, tag or commit.")] = None
    offline: Offline = False

    def __post_init__(self) -> None:
        check_options(self)
        asked = self.lower.precisions if self.lower else ()
        if self.io == "fp16" and "fp16" not in map(self.io_of, asked):
            raise InputError(
                "no graph has the half-precision input and output that are asked for",
                expected="fp16, fp8, or int8 for tensorrt among the precisions",
                fix="add --fp16, or leave out --io fp16",
            )

    def io_of(self, precision: Precision) -> Io:
        """Type of a precision's input and output: FP16 only where it can be."""
        if self.io != "fp16":
            return self.io
        target = self.lower.target_of(precision) if self.lower else "tensorrt"
        return "fp16" if fallback_precision(precision, target) == "fp16" else "fp32"
