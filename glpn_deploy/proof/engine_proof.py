"""Whether a TensorRT engine gives the reference's depth at the smallest, best and largest of its shapes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.bundle.engine_profile import Profile, Shape, choose_profile, spell
from glpn_deploy.bundle.manifest import Artefact
from glpn_deploy.errors import ParityError
from glpn_deploy.proof.checks.budget import Budget, artefact_budget
from glpn_deploy.proof.parity import GOLDEN, Batch, compare_batches, fp32_budget, golden_batches, room_batch
from glpn_deploy.proof.parity_report import ParityReport
from glpn_deploy.runtimes.base import Runtime, RuntimeOptions
from glpn_deploy.runtimes.onnx_file.artefact_file import load_artefact
from glpn_deploy.runtimes.registry import BACKENDS

_MOST_PIXELS = 32 * 480 * 640
"""Larger batches are left out: the depth of every image is held in memory several times."""
_TOO_LARGE = "too large to compare"
_FP32_SHARE = 5e-5
"""Of max_depth: how far an FP32 engine may be off. TensorRT takes the fastest kernels, Winograd's and those
of other summation orders among them, so that two builds differ (docs/decisions/engine-tolerance.md)."""


@dataclasses.dataclass(frozen=True)
class _Comparisons:
    """What an engine can be compared with here.

    Attributes:
        goldens: Goldens, and how many of each make a batch.
        rooms: Shapes to run on rendered rooms.
        not_checked: Shapes of the profiles that nothing can be compared at, with the reason of each.
    """

    goldens: list[tuple[Batch, int]]
    rooms: list[Shape]
    not_checked: dict[str, str]

    def shapes(self) -> set[Shape]:
        """The shapes that something is compared at."""
        return {_golden_shape(*golden) for golden in self.goldens} | set(self.rooms)


@dataclasses.dataclass(frozen=True)
class EngineProof:
    """What was found of an engine.

    Attributes:
        reports: Comparisons with the goldens, and with ONNX Runtime on this machine where that is installed.
        not_checked: Shapes of the profiles that nothing was compared at, with the reason of each.
    """

    reports: tuple[ParityReport, ...]
    not_checked: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """For the sidecar; ``passed`` is None where nothing was compared."""
        return {
            "passed": all(report.passed for report in self.reports) if self.reports else None,
            "reports": [report.to_dict() for report in self.reports],
            "not_checked": self.not_checked,
        }

    def require(self) -> None:
        """Raises where the depth is not the reference's."""
        for report in self.reports:
            try:
                report.require()
            except ParityError as error:
                raise ParityError(
                    error.got,
                    expected=error.expected,
                    fix="the engine was not kept; run the ONNX file instead (--backend onnxruntime), or "
                    "build with another TensorRT or in another precision",
                ) from None


def prove_engine(
    bundle: Bundle, artefact: Artefact, runtime: Runtime, profiles: Sequence[Profile], *, tf32: bool = False
) -> EngineProof:
    """Runs an engine over the corners of its profiles.

    Goldens whose size a profile takes are run at the profile's smallest, best and largest batch, the image
    repeated. Where ONNX Runtime is installed, every corner that is no single golden is also run on rendered
    rooms, all different, and held against the FP32 artefact on the CPU.

    Args:
        tf32: Whether it rounds FP32 products to TF32, which has the fraction bits of FP16, so that its
            budget is FP16's.

    Raises:
        GlpnError: The engine failed to run, or a file of the bundle is damaged. A report that failed is
            returned.
    """
    limit = engine_limit(bundle, artefact, tf32=tf32)
    reports: list[ParityReport] = []
    planned = _comparisons(bundle, profiles)
    goldens, rooms = planned.goldens, planned.rooms
    if goldens:
        batches = (_repeat(*golden) for golden in goldens)
        reports.append(compare_batches(runtime, batches, GOLDEN, limit, "goldens", len(goldens)))
    if rooms:
        full = bundle.artefact("fp32")
        with load_artefact(bundle, full, "onnxruntime", RuntimeOptions(device="cpu")) as reference:
            batches = (_rooms(bundle, corner, reference) for corner in rooms)
            about = reference.describe()
            reports.append(compare_batches(runtime, batches, about, limit, "shapes", len(rooms)))
    return EngineProof(tuple(reports), planned.not_checked)


def require_comparisons(bundle: Bundle, profiles: Sequence[Profile], problem: str) -> None:
    """Refuses profiles that `prove_engine` could compare nothing at, before an engine is built for them."""
    planned = _comparisons(bundle, profiles)
    run = {choose_profile(profiles, shape) for shape in planned.shapes()}
    for index, profile in enumerate(profiles):
        corners = (profile.min, profile.opt, profile.max)
        reasons = [planned.not_checked[spell(c)] for c in corners if spell(c) in planned.not_checked]
        if index in run or not reasons:
            continue
        _, height, width = profile.opt
        fix = f"export the bundle again with --image of this size ({height}x{width})"
        fix += f", or {BACKENDS['onnxruntime'].install}"
        raise ParityError(
            f"nothing can be compared with the engine at {profile.name} ({reasons[0]})",
            expected=f"a comparison, because {problem}",
            fix="build for a smaller --batch or --size" if reasons[0] == _TOO_LARGE else fix,
        )


def _comparisons(bundle: Bundle, profiles: Sequence[Profile]) -> _Comparisons:
    goldens = _fitting_goldens(bundle, profiles)
    seen = {_golden_shape(*golden) for golden in goldens}
    corners = dict.fromkeys(corner for p in profiles for corner in (p.min, p.opt, p.max))
    open_corners = [corner for corner in corners if corner not in seen or corner[0] > 1]
    small = [corner for corner in open_corners if math.prod(corner) <= _MOST_PIXELS]
    not_checked = {spell(corner): _TOO_LARGE for corner in open_corners if corner not in small}
    install = BACKENDS["onnxruntime"].missing()
    if install is None:
        return _Comparisons(goldens, small, not_checked)
    why = f"no golden has this shape, and ONNX Runtime is not installed ({install})"
    not_checked |= {spell(corner): why for corner in small if corner not in seen}
    return _Comparisons(goldens, [], not_checked)


def engine_limit(bundle: Bundle, artefact: Artefact, *, tf32: bool = False) -> Budget:
    """How far an engine may be from the FP32 reference: its artefact's budget, or FP32's rounding."""
    if artefact.precision != "fp32":
        return artefact_budget(artefact)
    return Budget.of("fp16") if tf32 else fp32_budget(bundle.manifest.config.max_depth, _FP32_SHARE)


def _fitting_goldens(bundle: Bundle, profiles: Sequence[Profile]) -> list[tuple[Batch, int]]:
    """Goldens whose size a profile takes, with the batch sizes to run them at."""
    sizes = sorted({n for p in profiles for n in (p.min[0], p.opt[0], p.max[0])})
    found = []
    for golden in golden_batches(bundle):
        _, height, width = golden.depth.shape
        for n in sizes:
            fits = choose_profile(profiles, (n, height, width)) is not None
            if fits and math.prod((n, height, width)) <= _MOST_PIXELS:
                found.append((golden, n))
    return found


def _golden_shape(golden: Batch, n: int) -> Shape:
    _, height, width = golden.depth.shape
    return n, height, width


def _repeat(golden: Batch, n: int) -> Batch:
    name = golden.name if n == 1 else f"{n} times {golden.name}"
    return Batch(name, np.repeat(golden.pixel_values, n, axis=0), np.repeat(golden.depth, n, axis=0))


def _rooms(bundle: Bundle, corner: Shape, reference: Runtime) -> Batch:
    pixel_values = room_batch(bundle.processor, *corner)
    return Batch(spell(corner), pixel_values, reference.run_unchecked(pixel_values))
