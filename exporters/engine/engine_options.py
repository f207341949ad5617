"""EngineOptions: how a TensorRT engine is built. Light: commands read it for ``--help``."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from glpn_deploy.bundle.engine_fields import DEFAULT_LEVEL, Compatibility
from glpn_deploy.bundle.engine_profile import Profile, parse_profiles
from glpn_deploy.errors import InputError
from glpn_deploy.gpu.tensorrt_rtx import parse_targets
from glpn_deploy.options import ADVANCED, WORDS, Option, Reader, check_options
from glpn_deploy.precisions import PRECISIONS, Precision

TimingCache = Path | Literal["auto", "none"]
_NOT_FILES: dict[str, Literal["auto", "none"]] = {"auto": "auto", "none": "none"}

_advanced = partial(Option, panel=ADVANCED)
_LEVELS: dict[str, Compatibility] = {"ampere": "ampere_plus", "same-sm": "same_compute_capability"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How an engine is built.

    Attributes:
        precision: What the graph computes in. It decides what the inspector must find and, on TensorRT 8.6,
            the builder flags; it changes no type.
        workspace_mb: None takes TensorRT's own limit, the whole of the GPU, and a quarter of the free memory
            on a GPU that shares it.
        tactic_dram_mb: None takes TensorRT's own limit, and 0.85 of the free memory on a GPU that shares it.
        timing_cache: A file serves one kind of GPU and one TensorRT, and is begun anew for another. ``auto``
            keeps one for each in the user's cache folder (``$XDG_CACHE_HOME`` or ``~/.cache``).
        version_compatible: The plan holds no lean runtime, since it would be executable code, and this
            package loads none: a lean runtime has to be of the very version that built, and cannot refit.
        refit: TensorRT 11.3 may drop a bias of such an engine (its release notes); ``strip`` alone is not
            affected.
        targets: Compute capabilities that TensorRT for RTX compiles for, such as ``8.9``; none builds with
            TensorRT for the GPU of this machine.
    """

    profiles: tuple[Profile, ...] = (Profile.fixed((1, 480, 640)),)
    precision: Precision = "fp32"
    targets: tuple[str, ...] = ()
    workspace_mb: Annotated[
        int | None,
        _advanced(
            "Most scratch memory a kernel may take [default: TensorRT's; on a Jetson a share of what is "
            "free].",
            names=("--workspace",),
            metavar="MB",
            least=1,
            most=1 << 20,
        ),
    ] = None
    tactic_dram_mb: Annotated[
        int | None,
        _advanced(
            "Most memory to try kernels in [default: as for --workspace].",
            names=("--tactic-memory",),
            metavar="MB",
            least=1,
            most=1 << 20,
        ),
    ] = None
    level: Annotated[
        int,
        _advanced(
            "How long to look for faster kernels: 0 builds soonest, 5 may run fastest.", least=0, most=5
        ),
    ] = DEFAULT_LEVEL
    timing_cache: Annotated[
        TimingCache,
        _advanced(
            "Read kernel timings from this file and add to it: the next build is quicker, and chooses the "
            "same kernels. auto keeps one for every kind of GPU and TensorRT in ~/.cache/glpn-deploy, none "
            "keeps none.",
            metavar="FILE",
            reader=Reader(lambda option, text: _NOT_FILES.get(text, Path(text))),
        ),
    ] = "auto"
    tactic_sources: Annotated[
        tuple[str, ...] | None,
        _advanced(
            "Libraries to take kernels from, by TensorRT's names: cublas, cublas_lt, cudnn, "
            "edge_mask_convolutions, jit_convolutions, as far as the version has them [default: TensorRT's].",
            metavar="A,B",
            reader=WORDS,
        ),
    ] = None
    tf32: Annotated[
        bool, _advanced("Let FP32 products round to TF32: faster, with FP16's precision and budget.")
    ] = False
    hardware_compatibility: Annotated[
        Compatibility,
        _advanced(
            "Also run on every GPU from Ampere on (not on a Jetson), or on all of this compute capability "
            "(TensorRT 10.9); slower [default: this kind of GPU only].",
            names=("--hardware-compatible",),
            typed=Literal["ampere", "same-sm"],
            reader=Reader(lambda option, level: _LEVELS[level], lambda level: None),
        ),
    ] = "none"
    version_compatible: Annotated[
        bool,
        _advanced(
            "For other programs, which can run it with a later TensorRT if they load this one's lean "
            "runtime; glpn-predict runs it with this TensorRT only. May be slower."
        ),
    ] = False
    strip: Annotated[
        bool,
        _advanced(
            "Leave the weights out of the engine (TensorRT 10); they are put in from the ONNX file when it "
            "is loaded."
        ),
    ] = False
    refit: Annotated[
        bool, _advanced("Let TensorRT put other weights into the engine later; may be slower.")
    ] = False

    def __post_init__(self) -> None:
        check_options(self)
        if not self.profiles:
            raise InputError("no profile", expected="at least one")
        if self.tactic_sources is not None and not self.tactic_sources:
            raise InputError(
                "no tactic source, without which there are few kernels",
                expected="at least one of TensorRT's names",
                fix="leave --tactic-sources out for TensorRT's choice",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class WantedEngines:
    """Which engines of a bundle are wanted: one a precision, each of all profiles.

    Attributes:
        precisions: Empty for the bundle's best.
        targets: Compute capabilities, for TensorRT for RTX; None takes what suits the precision.

    Raises:
        InputError: A precision or shape cannot be read, or half a range is given.
    """

    precisions: Annotated[
        tuple[Precision, ...],
        Option(
            "Those of the bundle, separated by commas; an engine each [default: fp16 where the bundle has "
            "it, else fp32].",
            names=("--precision",),
            metavar="|".join(PRECISIONS),
            reader=WORDS,
        ),
    ] = ()
    sizes: Annotated[
        tuple[str, ...],
        Option(
            "Sizes that the engine takes, height x width in multiples of 32 px; a profile each [default: "
            "480x640].",
            names=("--size",),
            former=("--shapes",),
            metavar="HxW,…",
            reader=WORDS,
        ),
    ] = ()
    batch: Annotated[
        str | None,
        Option(
            "Images a run: 1, 1:4 (tuned for 1) or 1:2:4 (tuned for 2) [default: 1].", metavar="N|MIN:MAX"
        ),
    ] = None
    min: Annotated[
        str | None,
        _advanced(
            "Smallest shape of a profile that spans sizes; needs --max. One size alone runs faster.",
            metavar="NxHxW",
        ),
    ] = None
    opt: Annotated[
        str | None,
        _advanced(
            "Shape that it is tuned for [default: the smallest batch at the largest size].", metavar="NxHxW"
        ),
    ] = None
    max: Annotated[str | None, _advanced("Its largest shape.", metavar="NxHxW")] = None
    whole: Annotated[
        tuple[str, ...],
        _advanced(
            "A whole profile, such as 1x256x320:1x480x640:4x480x640; may be repeated.",
            names=("--profile",),
            metavar="MIN:OPT:MAX",
        ),
    ] = ()
    rtx: Annotated[
        bool,
        _advanced(
            "Build with TensorRT for RTX instead, for other people's RTX cards, on Linux and Windows; needs "
            "no GPU. The machine that runs it finishes the work at the first start."
        ),
    ] = False
    targets: Annotated[
        tuple[str, ...] | None,
        _advanced(
            "With --rtx: compute capabilities to build for, of 75, 80, 86 (RTX 30), 89 (RTX 40), 120 (RTX "
            "50) and 121 [default: those of 80, 86, 89 and 120 that have the precision].",
            names=("--sm",),
            reader=Reader(lambda option, text: parse_targets(text), several=True),
        ),
    ] = None

    def __post_init__(self) -> None:
        check_options(self)
        parse_profiles(self.sizes, self.batch, self.min, self.opt, self.max, self.whole)

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """The shapes that every engine takes."""
        return parse_profiles(self.sizes, self.batch, self.min, self.opt, self.max, self.whole)
