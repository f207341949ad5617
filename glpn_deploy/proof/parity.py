"""Runtime against runtime on the same tensors: how far the depth moved, in metres."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glpn_deploy import progress
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.datasets.rooms import SPLIT_SIZE, render_room
from glpn_deploy.depth.error_stats import depth_flags, error_stats, error_stats_by_range
from glpn_deploy.errors import BundleError, ParityError
from glpn_deploy.images.loading import load_image
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.proof.checks.budget import Budget
from glpn_deploy.proof.parity_report import (
    ParityCase,
    ParityReport,
    WorstImage,
    describe_case,
    severity,
    shown_first,
    summary,
)
from glpn_deploy.runtimes.base import Runtime

TOLERANCE = 1e-5
"""Largest |difference| allowed in FP32, as a share of max_depth: 0.1 mm on a 10 m scale."""

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


GOLDEN = {"backend": "golden", "precision": "fp32"}
"""What a report says of a bundle's goldens as the reference."""
_GOLDEN_PIXELS = 1 << 24  # far beyond what is exported: a golden is run as it is


class Batch(NamedTuple):
    """Images whose depth is known.

    Attributes:
        pixel_values: ``(N, 3, H, W)`` float32, 0 to 1.
        depth: The reference's depth, ``(N, H, W)`` float32 [m].
    """

    name: str
    pixel_values: NDArray[np.float32]
    depth: NDArray[np.float32]


def fp32_budget(max_depth: float, share: float | None = None) -> Budget:
    """What FP32 is held to: no difference above ``share`` (or `TOLERANCE`) of ``max_depth`` [m]."""
    return Budget(max_abs_m=(TOLERANCE if share is None else share) * max_depth)


def room_batch(processor: GLPNImageProcessor, batch: int, height: int, width: int) -> NDArray[np.float32]:
    """Rendered rooms as ``(batch, 3, height, width)`` float32: image statistics, not noise."""
    rooms = (render_room(VERIFICATION_SEED + i, height, width).image for i in range(batch))
    return np.stack([processor.prepare(image) for image in rooms])


def sweep_batches(processor: GLPNImageProcessor, multiple: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The batches of `SWEEP`, with their names; sides are rounded up to what network and processor take."""
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
    limit: Budget,
    *,
    total: int | None = None,
) -> ParityReport:
    """Runs both on every batch, as one step of the progress.

    Args:
        batches: Names and ``(N, 3, H, W)`` float32 batches.
        limit: Every batch is held to it.
    """
    known = _with_depth(reference, batches)
    return compare_batches(candidate, known, reference.describe(), limit, "parity", total)


def compare_batches(
    candidate: Runtime,
    batches: Iterable[Batch],
    reference: dict[str, Any],
    limit: Budget,
    title: str = "parity",
    total: int | None = None,
) -> ParityReport:
    """Runs the candidate on batches whose depth is known, as one step of the progress.

    Args:
        reference: Backend, device and precision of where their depth comes from.
        limit: Every batch is held to it.
    """
    cases: list[ParityCase] = []
    shown: tuple[ParityCase, Batch, NDArray[np.float32]] | None = None
    with progress.step(title, total) as step:
        for batch in batches:
            depth = candidate.run_unchecked(batch.pixel_values)
            case = _case(batch, depth, limit)
            cases.append(case)
            step.advance(describe_case(case))
            if shown is None or shown_first(limit, case) > shown_first(limit, shown[0]):
                shown = case, batch, depth
        image = None if shown is None else _worst_image(*shown, limit)
        report = ParityReport(reference, candidate.describe(), limit, tuple(cases), image)
        (step.finish if report.passed else step.fail)(summary(report))
    return report


def compare_over_sweep(
    candidate: Runtime, reference: Runtime, processor: GLPNImageProcessor, limit: Budget
) -> ParityReport:
    """Runs both on every batch of `SWEEP`; the arguments are those of `compare` and `sweep_batches`."""
    batches = sweep_batches(processor, candidate.spec.size_multiple)
    return compare(candidate, reference, batches, limit, total=len(SWEEP))


def sweep_depths(reference: Runtime, processor: GLPNImageProcessor) -> tuple[Batch, ...]:
    """The reference's depth over `SWEEP`, to hold several candidates against."""
    batches = []
    with progress.step("fp32 sweep", len(SWEEP)) as step:
        for batch in _with_depth(reference, sweep_batches(processor, reference.spec.size_multiple)):
            batches.append(batch)
            step.advance(batch.name)
        step.finish(f"{len(batches)} shapes to hold the others against")
    return tuple(batches)


def verify_goldens(bundle: Bundle, candidate: Runtime, limit: Budget, title: str = "goldens") -> ParityReport:
    """Holds a runtime against the reference outputs that travel in the bundle."""
    if not bundle.manifest.goldens:
        raise BundleError(f"{bundle.folder} has no goldens", fix="export it again with glpn-export")
    total = len(bundle.manifest.goldens)
    return compare_batches(candidate, golden_batches(bundle), GOLDEN, limit, title, total)


def golden_batches(bundle: Bundle) -> Iterator[Batch]:
    """The inputs and depths that travel in the bundle."""
    processor = bundle.processor
    for golden in bundle.manifest.goldens:
        image = load_image(bundle.path(golden.image), max_pixels=_GOLDEN_PIXELS)
        yield Batch(golden.image, processor.prepare(image)[None], bundle.golden_depth(golden)[None])


def _with_depth(reference: Runtime, batches: Iterable[tuple[str, NDArray[np.float32]]]) -> Iterator[Batch]:
    """The batches with the depth that a runtime gives for them, one at a time."""
    for name, pixel_values in batches:
        yield Batch(name, pixel_values, reference.run_unchecked(pixel_values))


def _case(batch: Batch, depth: NDArray[np.float32], limit: Budget) -> ParityCase:
    if depth.shape != batch.depth.shape:
        raise ParityError(f"{batch.name} gave depth of shape {depth.shape}", expected=f"{batch.depth.shape}")
    stats, flags = error_stats(depth, batch.depth), depth_flags(depth, batch.depth)
    images, height, width = depth.shape
    return ParityCase(
        batch.name,
        (images, height, width),
        stats,
        limit.allows(stats) and not flags,
        flags,
        error_stats_by_range(depth, batch.depth),
    )


def _worst_image(case: ParityCase, batch: Batch, depth: NDArray[np.float32], limit: Budget) -> WorstImage:
    def badness(i: int) -> tuple[float, float]:
        a, b = depth[i : i + 1], batch.depth[i : i + 1]
        return severity(limit, error_stats(a, b), depth_flags(a, b))

    worst = max(range(len(depth)), key=badness)
    name = batch.name if len(depth) == 1 else f"{batch.name}, image {worst + 1} of {len(depth)}"
    return WorstImage(case, name, batch.pixel_values[worst], batch.depth[worst], depth[worst])
