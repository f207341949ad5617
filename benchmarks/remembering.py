"""What ``backend="auto"`` takes from a report from now on."""

from __future__ import annotations

from glpn_deploy.benchmarks.options import BenchOptions
from glpn_deploy.benchmarks.report.results import Report
from glpn_deploy.benchmarks.report.rows import within_budget
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.errors import BackendError
from glpn_deploy.precisions import PRECISIONS, Precision
from glpn_deploy.runtimes.registry import BACKENDS
from glpn_deploy.runtimes.remembered import Fastest, Remembered, machine_now, network_digest


def fastest_of(report: Report, bundle: Bundle, options: BenchOptions) -> Remembered:
    """The fastest backend in each precision at the first shape, of those that ``auto`` can take.

    Where no precision is asked for, a network stays in FP32 as without a benchmark; with ``options.within``
    it runs in the precision that is fastest within it.

    Raises:
        BackendError: No row is one that ``auto`` can take, or their depth is too far from the reference's.
    """
    shape = report.rows[0].shape
    fastest: dict[Precision, Fastest] = {}
    precision: Precision | None = "fp32" if options.within is None else None
    for row in (row for row in report.ordered() if row.shape == shape):
        backend = BACKENDS.get(row.backend.partition("@")[0])  # engines are told apart by their file
        asked = options.within is not None and within_budget(row, options.within)
        name = next((name for name in PRECISIONS if name == row.precision), None)
        if backend is None or backend.runs not in ("onnx", "engine") or not (asked or within_budget(row)):
            continue
        if name is None:  # int8+bf16, which auto does not take
            continue
        assert row.error is not None
        found = Fastest(
            backend=backend.name, median_ms=row.latency.median_ms, abs_rel=float(row.error["abs_rel"])
        )
        fastest.setdefault(name, found)
        precision = precision or (name if asked else None)
    if not fastest or precision is None:
        raise BackendError(
            "nothing to remember: auto takes none of the rows whose depth is near enough to the reference's",
            fix="measure onnxruntime and openvino too, or allow more with --within",
        )
    return Remembered(
        network=network_digest(bundle),
        manifest=report.source["manifest_sha256"],
        bundle=report.source["bundle"],
        machine=machine_now(),
        device=options.device,
        threads=options.threads,
        date=report.created[:10],
        shape=shape,
        precision=precision,
        fastest=fastest,
    )
