"""What is measured, and how: the options of a benchmark. Light: commands read it for ``--help``."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from glpn_deploy.benchmarks.workload.cases import PEERS
from glpn_deploy.datasets.options import GroundTruthOptions
from glpn_deploy.errors import InputError
from glpn_deploy.options import (
    ADVANCED,
    SIZES,
    WHOLE_NUMBERS,
    WORDS,
    DeviceOption,
    Offline,
    Option,
    Reader,
    Threads,
    check_options,
)
from glpn_deploy.runtimes.options import ModeOption, RunPrecision
from glpn_deploy.runtimes.registry import BACKENDS
from glpn_deploy.timing.order_statistics import FEWEST

_advanced = partial(Option, panel=ADVANCED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoundOptions:
    """When rounds stop.

    Attributes:
        half_width: Half the median's interval that is aimed at, as a share of the median.
        seconds: A slow case has up to three times as much to come to as many rounds as an interval needs.
        fewest: Rounds that are made before a case can be settled, and until the next look at it.

    Raises:
        InputError: A value is out of range.
    """

    half_width: Annotated[
        float,
        _advanced(
            "Stop when the median is known to ± this many percent.",
            names=("--width",),
            above=0,
            below=1,
            typed=float,
            reader=Reader(lambda option, percent: percent / 100, lambda share: 100 * share),
        ),
    ] = 0.02
    seconds: Annotated[
        float, Option("Time of a case in rounds [s]; a slow one may take three times as long.", least=0.1)
    ] = 10.0
    fewest: Annotated[int, Option(least=FEWEST, hidden=True)] = 15

    def __post_init__(self) -> None:
        check_options(self)


QUICK = RoundOptions(half_width=0.1, seconds=2.0, fewest=FEWEST)
"""As few rounds as give an interval at all: a wide one."""


def parse_pythons(option: str, words: Sequence[str]) -> dict[str, str]:
    """``tensorrt=/opt/kit/python`` as a mapping.

    Raises:
        InputError: A word has no ``=``.
    """
    for word in words:
        if not all(word.partition("=")):
            raise InputError(
                f"{option} {word}", expected="BACKEND=PYTHON", fix="write tensorrt=/opt/kit/python"
            )
    return {name: path for name, _, path in (word.partition("=") for word in words)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What is measured, and how.

    Attributes:
        callers: Numbers of threads that call one loaded network at a time; empty leaves that out.
        max_workers: Most workers that run at a time.
        null_delay_ms: The null backend's planted delay [ms], for tests.

    Raises:
        InputError: A value is out of range.
    """

    backends: Annotated[
        tuple[str, ...] | None,
        Option(
            "Backends, separated by commas [default: all that are installed]; also torch-compile and "
            "tensorrt-nograph.",
            names=("--backend",),
            former=("--backends",),
            reader=WORDS,
        ),
    ] = None
    precisions: Annotated[
        tuple[RunPrecision, ...] | None,
        Option(
            "Precisions, separated by commas [default: all]; also int8+bf16 (OpenVINO).",
            names=("--precision",),
            former=("--precisions",),
            reader=WORDS,
        ),
    ] = None
    shapes: Annotated[
        tuple[tuple[int, int], ...],
        Option(
            "Sizes of the images, height x width.",
            names=("--size",),
            former=("--shapes",),
            metavar="HxW,…",
            reader=SIZES,
        ),
    ] = ((480, 640),)
    batches: Annotated[
        tuple[int, ...],
        Option(
            "Images a run.", names=("--batch",), former=("--batches",), metavar="N,…", reader=WHOLE_NUMBERS
        ),
    ] = (1,)
    baseline: Annotated[
        str | None,
        Option(
            "What ratios refer to: a backend or a peer, alone or as backend:precision [default: torch fp32, "
            "else the first]."
        ),
    ] = None
    peers: Annotated[
        tuple[str, ...],
        _advanced(
            "Other projects' rows, separated by commas: hf-eager, hf-compile; optimum, ort-static and "
            "modelopt, which make an ONNX file; openvino-optimum and nncf, which make one of OpenVINO's; and "
            "files that are there, as NAME=FILE.onnx, NAME=FILE.xml or NAME=FOLDER (of Optimum).",
            reader=WORDS,
        ),
    ] = ()
    reference: Annotated[
        str | None,
        _advanced("The checkpoint that the bundle was made from [default: the bundle's, if at hand]."),
    ] = None
    within: Annotated[
        float | None,
        Option(
            "Largest AbsRel to PyTorch's FP32 depth of what is recommended [default: each precision's own].",
            above=0,
        ),
    ] = None
    images: Annotated[
        Path | None, Option("Folder of photographs as inputs [default: the bundle's goldens].")
    ] = None
    rounds: RoundOptions = RoundOptions()
    stages: Annotated[
        bool, _advanced("Also measure decode, preprocess and so on, and the time by operator.")
    ] = True
    callers: Annotated[
        tuple[int, ...],
        Option(
            "Also measure 1, 2, 4 and 8 concurrent callers; --mode throughput is for many.",
            names=("--load",),
            typed=bool,
            reader=Reader(lambda option, wanted: (1, 2, 4, 8) if wanted else (), bool),
        ),
    ] = ()
    load_seconds: Annotated[float, _advanced("How long each number of callers calls [s].", least=0.1)] = 5.0
    pythons: Annotated[
        Mapping[str, str],
        _advanced(
            "Another Python that has a backend's or peer's packages; may be repeated.",
            names=("--python",),
            metavar="BACKEND=PYTHON",
            typed=list[str],
            reader=Reader(parse_pythons, lambda pythons: None),
        ),
    ] = dataclasses.field(default_factory=dict)
    allow_fallback: Annotated[
        bool,
        Option("Measure the rest where a backend or precision that is named cannot be had, and say so."),
    ] = False
    device: DeviceOption = "auto"
    threads: Threads = None
    mode: ModeOption = "auto"
    offline: Offline = False
    evaluate: GroundTruthOptions = GroundTruthOptions()
    max_workers: Annotated[int, Option(least=3, hidden=True)] = 8
    null_delay_ms: float = 0.0

    def __post_init__(self) -> None:
        check_options(self)
        if not self.shapes or not self.batches or min(itertools.chain(*self.shapes, self.batches)) < 1:
            raise InputError(
                f"shapes {self.shapes} and batches {self.batches} cannot be measured",
                expected="positive numbers",
            )
        if min(self.callers, default=1) < 1:
            raise InputError(f"{self.callers} callers cannot call", expected="numbers above 0")
        for name in self.pythons:
            if name not in BACKENDS and name not in PEERS:
                known = ", ".join((*BACKENDS, *PEERS))
                raise InputError(
                    f"a Python for backend {name!r} was given, which is unknown", expected=f"one of {known}"
                )

    def settings(self) -> dict[str, Any]:
        """For the report."""
        values = dataclasses.asdict(self)
        return {**values, "images": None if self.images is None else str(self.images)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """How two reports are compared.

    Raises:
        InputError: The margin is not from 0 to below 1.
    """

    margin: Annotated[
        float, Option("Changes of time below this share do not count, however sure.", least=0, most=0.99)
    ] = 0.03
    force: Annotated[
        bool,
        Option(
            "Compare unlike machines, checkpoints and images too, and judge by time alone what was disturbed "
            "or what the machine's own change of speed leaves open.",
            former=("--anyway",),
        ),
    ] = False

    def __post_init__(self) -> None:
        check_options(self)
