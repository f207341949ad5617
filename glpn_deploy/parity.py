"""Runtime against runtime on the same tensors: how far the depth moved, in metres."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.bundle import Bundle
from glpn_deploy.datasets.rooms import SPLIT_SIZE, render_room
from glpn_deploy.errors import BundleError, ParityError
from glpn_deploy.image_loading import load_image
from glpn_deploy.image_processing import GLPNImageProcessor
from glpn_deploy.metrics import ErrorStats, error_stats
from glpn_deploy.progress import Progress, SilentProgress
from glpn_deploy.runtimes.base import Runtime

TOLERANCE = {"fp32": 1e-5}
"""Largest |difference| allowed, as a share of max_depth: 0.1 mm on a 10 m scale."""

SWEEP: tuple[tuple[int, int, int], ...] = (
    (1, 32, 32),
    (2, 32, 32),
    (3, 64, 96),
    (1, 96, 64),
    (2, 160, 32),
    (3, 32, 256),
    (1, 224, 224),
    (2, 192, 320),
    (1, 320, 192),
    (3, 128, 416),
    (1, 480, 640),
    (2, 640, 480),
)
"""(batch, height, width) of the shape sweep: both orientations, odd aspect ratios, batch 1 to 3."""

VERIFICATION_SEED = 3 * SPLIT_SIZE
"""First seed of the rendered rooms that networks are verified with: in no split of the data set."""


@dataclasses.dataclass(frozen=True)
class ParityCase:
    """One batch.

    Attributes:
        name: What was run.
        shape: (batch, height, width).
        stats: The error against the reference.
        passed: Whether it is within the tolerance.
    """

    name: str
    shape: tuple[int, int, int]
    stats: ErrorStats
    passed: bool

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, "shape": list(self.shape), "passed": self.passed, **self.stats.to_dict()}


@dataclasses.dataclass(frozen=True)
class ParityReport:
    """What a comparison found.

    Attributes:
        reference: Backend, device and precision of the reference.
        candidate: The same of what was judged.
        tolerance_m: Largest |difference| allowed [m].
        cases: Every batch that was run.
    """

    reference: dict[str, Any]
    candidate: dict[str, Any]
    tolerance_m: float
    cases: tuple[ParityCase, ...]

    @property
    def passed(self) -> bool:
        """Whether every case is within the tolerance (and there is one)."""
        return bool(self.cases) and all(case.passed for case in self.cases)

    @property
    def worst(self) -> ParityCase:
        """The case with the largest difference."""
        return max(self.cases, key=lambda case: case.stats.max_abs_m)

    def to_dict(self) -> dict[str, Any]:
        """For the manifest and for ``--json``."""
        return {
            "passed": self.passed,
            "reference": self.reference,
            "candidate": self.candidate,
            "tolerance_m": self.tolerance_m,
            "max_abs_m": self.worst.stats.to_dict()["max_abs_m"] if self.cases else None,
            "cases": [case.to_dict() for case in self.cases],
        }

    def require(self) -> None:
        """Raises where the candidate failed.

        Raises:
            ParityError: With the worst case and by how much it missed.
        """
        if self.passed:
            return
        if not self.cases:
            raise ParityError("nothing was compared", expected="at least one batch")
        worst, failed = self.worst, sum(not case.passed for case in self.cases)
        moved = (
            f"by up to {worst.stats.max_abs_m:.3g} m" if not worst.stats.non_finite else "and is not finite"
        )
        raise ParityError(
            f"the depth of {self.candidate['backend']} {self.candidate['precision']} differs {moved} "
            f"({worst.name}, {failed} of {len(self.cases)} cases)",
            expected=f"at most {self.tolerance_m:.3g} m from {self.reference['backend']}",
            fix="do not deploy it; try another --opset or another version of the backend",
        )


def tolerance_m(precision: str, max_depth: float, share: float | None = None) -> float:
    """The largest difference allowed [m]: ``share`` (or the precision's default) of ``max_depth`` [m]."""
    return (TOLERANCE[precision] if share is None else share) * max_depth


def room_batch(processor: GLPNImageProcessor, batch: int, height: int, width: int) -> NDArray[np.float32]:
    """Rendered rooms as ``(batch, 3, height, width)`` float32: image statistics, not noise."""
    rooms = (render_room(VERIFICATION_SEED + i, height, width).image for i in range(batch))
    return np.stack([processor.prepare(image) for image in rooms])


def sweep_batches(processor: GLPNImageProcessor, multiple: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The batches of `SWEEP`, with their names; sides are rounded up to what network and processor take.

    Args:
        processor: Prepares the images.
        multiple: Multiple that the network's sides must be [px].
    """
    multiple = math.lcm(multiple, processor.size_divisor)
    for batch, height, width in SWEEP:
        h, w = (round_up(side, multiple) for side in (height, width))
        yield f"{batch}x{h}x{w}", room_batch(processor, batch, h, w)


def round_up(side: int, multiple: int) -> int:
    """The next multiple, or the side itself [px]."""
    return -(-side // multiple) * multiple


def compare(
    candidate: Runtime,
    reference: Runtime,
    batches: Iterable[tuple[str, NDArray[np.float32]]],
    tolerance: float,
    on_case: Callable[[ParityCase], None] = lambda case: None,
) -> ParityReport:
    """Runs both on every batch.

    Args:
        candidate: What is judged.
        reference: What it is judged against.
        batches: Names and ``(N, 3, H, W)`` float32 batches.
        tolerance: Largest |difference| allowed [m].
        on_case: Called after every batch.

    Raises:
        BackendError: One of them failed to run.
        ParityError: Their depths are not of one shape.
    """
    cases = []
    for name, pixel_values in batches:
        case = _case(name, candidate.run(pixel_values), reference.run(pixel_values), tolerance)
        cases.append(case)
        on_case(case)
    return ParityReport(reference.describe(), candidate.describe(), tolerance, tuple(cases))


def compare_over_sweep(
    candidate: Runtime,
    reference: Runtime,
    processor: GLPNImageProcessor,
    tolerance: float,
    progress: Progress = SilentProgress(),  # noqa: B008 - stateless
) -> ParityReport:
    """Runs both on every batch of `SWEEP`; the arguments are those of `compare` and `sweep_batches`."""
    with progress.step("parity", len(SWEEP)) as step:
        batches = sweep_batches(processor, candidate.spec.size_multiple)
        report = compare(
            candidate, reference, batches, tolerance, lambda case: step.advance(describe_case(case))
        )
        step.finish(summary(report))
    return report


def verify_goldens(
    bundle: Bundle,
    candidate: Runtime,
    tolerance: float,
    progress: Progress = SilentProgress(),  # noqa: B008 - stateless
) -> ParityReport:
    """Holds a runtime against the reference outputs that travel in the bundle.

    Args:
        bundle: The bundle.
        candidate: What is judged.
        tolerance: Largest |difference| allowed [m].
        progress: Told of every golden.

    Raises:
        BundleError: A golden is missing, damaged, or there is none.
    """
    goldens, processor = bundle.manifest.goldens, bundle.processor
    if not goldens:
        raise BundleError(f"{bundle.folder} has no goldens", fix="export it again with glpn-export")
    cases = []
    with progress.step("goldens", len(goldens)) as step:
        for golden in goldens:
            pixel_values = processor.prepare(load_image(bundle.path(golden.image)))[None]
            case = _case(
                golden.image, candidate.run(pixel_values), bundle.golden_depth(golden)[None], tolerance
            )
            cases.append(case)
            step.advance(describe_case(case))
        outputs = {"backend": "golden", "precision": "fp32"}
        report = ParityReport(outputs, candidate.describe(), tolerance, tuple(cases))
        step.finish(summary(report))
    return report


def _case(
    name: str, depth: NDArray[np.float32], expected: NDArray[np.float32], tolerance: float
) -> ParityCase:
    if depth.shape != expected.shape:
        raise ParityError(f"{name} gave depth of shape {depth.shape}", expected=f"{expected.shape}")
    stats = error_stats(depth, expected)
    batch, height, width = depth.shape
    return ParityCase(name, (batch, height, width), stats, stats.max_abs_m <= tolerance)


def describe_case(case: ParityCase) -> str:
    """One line: what was run and how far it was off."""
    mark = "✓" if case.passed else "✗"
    return f"{mark} {case.name}: max {case.stats.max_abs_m:.2g} m"


def summary(report: ParityReport) -> str:
    """One line: how many cases passed and the worst difference."""
    passed = sum(case.passed for case in report.cases)
    return (
        f"{passed} of {len(report.cases)} within {report.tolerance_m:.2g} m, "
        f"worst {report.worst.stats.max_abs_m:.2g} m at {report.worst.name}"
    )
