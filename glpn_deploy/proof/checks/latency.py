"""Whether a lower precision pays on this machine: its latency beside its FP32 original's, and a sentence."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glpn_deploy import progress
from glpn_deploy.errors import BackendError, BundleError
from glpn_deploy.runtimes.base import Precision, Runtime, RuntimeOptions
from glpn_deploy.runtimes.choose import choices, load
from glpn_deploy.runtimes.registry import load_runtime
from glpn_deploy.timing.order_statistics import FEWEST, median_interval
from glpn_deploy.timing.turns import in_turns

WORTH = 1.05
"""A gain below this is not worth a depth that moved, however sure it is."""


Shape = tuple[int, int, int]
"""(batch, height, width) of the input [px]."""

ROUNDS, WARM_UP = 40, 2
LIMIT_S = 20.0
"""No round starts after this [s]; `FEWEST` rounds are made in any case."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the measurement says.

    Attributes:
        shape: (batch, height, width) of the input [px].
        fp32_ms: Median latency of the FP32 original [ms], or None where the candidate cannot run here.
        candidate_ms: Median latency of the candidate [ms], or None likewise.
        speedup: Median over rounds of FP32's latency / the candidate's.
        speedup_low: Lower end of its 95 % confidence interval.
        speedup_high: Upper end.
        recommended: Surely faster here, and by at least `WORTH`.
    """

    precision: str
    where: str
    shape: Shape
    fp32_ms: float | None = None
    candidate_ms: float | None = None
    speedup: float | None = None
    speedup_low: float | None = None
    speedup_high: float | None = None
    rounds: int = 0
    recommended: bool = False
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """For the manifest and for ``--json``."""
        return {**dataclasses.asdict(self), "shape": list(self.shape)}


def measure_verdict(
    original: Path,
    candidate: Path,
    precision: Precision,
    shape: Shape,
    clock: Callable[[], float] = time.perf_counter,
) -> Verdict:
    """Runs a candidate and its FP32 original in turns and says which is faster here.

    Args:
        candidate: The graph in the lower precision; FP8 and BF16 graphs may be none that the backend runs.

    Returns:
        The verdict; a candidate that this machine cannot run is not recommended, and the sentence says why.
    """
    batch, height, width = shape
    with _open(original, "fp32") as reference:
        spec = reference.spec
        images = np.random.default_rng(0).integers(0, 256, (batch, height, width, spec.channels), np.uint8)
        floats = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
        pixels = {"uint8": images, "float32": floats}
        where = f"{reference.backend}, cpu"
        reference.run(pixels[spec.dtype])  # refuses a shape it does not take before the candidate is blamed
        try:
            with _open(candidate, precision) as runtime:
                taken = pixels[runtime.spec.dtype]
                runtime.run(taken)
                if runtime.backend != reference.backend:
                    where = f"{runtime.backend} against {where}"
                with progress.step(f"{precision} latency", ROUNDS) as step:
                    samples = in_turns(
                        {
                            "fp32": lambda: reference.run(pixels[spec.dtype]),
                            "low": lambda: runtime.run(taken),
                        },
                        ROUNDS,
                        WARM_UP,
                        swap=True,
                        limit_s=LIMIT_S,
                        fewest=FEWEST,
                        clock=clock,
                        advance=step.advance,
                    )
                    verdict = compare_times(precision, where, shape, samples["fp32"], samples["low"])
                    step.finish(verdict.sentence)
        except (BackendError, BundleError) as error:
            reason = error.got.replace(str(candidate), candidate.name)  # manifests travel, folders do not
            sentence = (
                f"{precision} cannot run here ({where}: {reason}): build it for its target and measure there"
            )
            return Verdict(precision=precision, where=where, shape=shape, sentence=sentence)
    return verdict


def _open(path: Path, precision: Precision) -> Runtime:
    """A graph in the first backend that ``auto`` would take and that loads it."""
    wanted = RuntimeOptions(device="cpu", precision=precision)
    found = choices("auto", precision, [precision], "cpu", "an .onnx file")
    return load(found, lambda choice: load_runtime(choice.backend, path, wanted), measure=False)


def compare_times(
    precision: str, where: str, shape: Shape, fp32_ms: Sequence[float], low_ms: Sequence[float]
) -> Verdict:
    """The verdict on latencies measured in turns."""
    ratios = [a / b for a, b in zip(fp32_ms, low_ms, strict=True)]
    ratio = statistics.median(ratios)
    low, high = median_interval(ratios)
    size = f"{shape[0]}x{shape[1]}x{shape[2]}"
    about = f"here ({where}, {size}, 95 % interval {low:.2f} to {high:.2f})"
    recommended = low > 1 and ratio >= WORTH
    elsewhere = "build it for the target and measure there"
    if recommended:
        sentence = f"{precision} is {ratio:.2f} times as fast as fp32 {about}: worth it"
    elif high < 1:
        sentence = (
            f"{precision} is slower than fp32, at {ratio:.2f} times its speed {about}: "
            f"not worth it on this machine; {elsewhere}"
        )
    else:
        gain = "hardly faster" if low > 1 else "not clearly faster"
        sentence = (
            f"{precision} is {gain} than fp32, at {ratio:.2f} times its speed {about}: "
            f"not worth it on this machine; {elsewhere}"
        )
    return Verdict(
        precision=precision,
        where=where,
        shape=shape,
        fp32_ms=statistics.median(fp32_ms),
        candidate_ms=statistics.median(low_ms),
        speedup=ratio,
        speedup_low=low,
        speedup_high=high,
        rounds=len(ratios),
        recommended=recommended,
        sentence=sentence,
    )
