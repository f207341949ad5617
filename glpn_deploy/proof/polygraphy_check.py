"""A second opinion: NVIDIA's Polygraphy runs the same graphs on the same inputs and compares them itself."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glpn_deploy import progress
from glpn_deploy.errors import BackendError, ParityError
from glpn_deploy.optional import needs
from glpn_deploy.proof.parity import Batch
from glpn_deploy.proof.parity_report import ParityReport
from glpn_deploy.runtimes.onnx_file.header import input_spec


@dataclasses.dataclass(frozen=True)
class SecondOpinion:
    """What Polygraphy found on one case.

    Attributes:
        ours: Whether we found the errors within the limit, flags aside: Polygraphy has none of them.
        max_abs_m: Largest |difference| by Polygraphy [m].
        abs_rel: Mean |difference| / reference by Polygraphy.
    """

    name: str
    ours: bool
    theirs: bool
    max_abs_m: float
    abs_rel: float

    @property
    def agrees(self) -> bool:
        """Whether both say the same."""
        return self.ours == self.theirs

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which has no infinity and no NaN."""
        values = dataclasses.asdict(self)
        for name in ("max_abs_m", "abs_rel"):
            values[name] = values[name] if math.isfinite(values[name]) else None
        return {**values, "agrees": self.agrees}


@dataclasses.dataclass(frozen=True)
class PolygraphyReport:
    """Polygraphy's results beside those of one `ParityReport`."""

    version: str
    candidate: dict[str, Any]
    reference: dict[str, Any]
    cases: tuple[SecondOpinion, ...]

    @property
    def agrees(self) -> bool:
        """Whether every result is ours (and there is one)."""
        return bool(self.cases) and all(case.agrees for case in self.cases)

    @property
    def passed(self) -> bool:
        """Whether Polygraphy passed every case."""
        return bool(self.cases) and all(case.theirs for case in self.cases)

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "polygraphy": self.version,
            "agrees": self.agrees,
            "passed": self.passed,
            "candidate": self.candidate,
            "reference": self.reference,
            "cases": [case.to_dict() for case in self.cases],
        }

    def require(self) -> None:
        """Raises where Polygraphy sees it otherwise."""
        for case in self.cases:
            if not case.agrees:
                words = {True: "within the limit", False: "not within it"}
                raise ParityError(
                    f"Polygraphy {self.version} finds {case.name} {words[case.theirs]} "
                    f"(AbsRel {case.abs_rel:.3g}, max {case.max_abs_m:.3g} m), "
                    f"we find it {words[case.ours]}",
                    expected="the same result",
                    fix="rely on neither: run it again, and report it with the output of --json",
                )


def require_polygraphy() -> None:
    """Imports Polygraphy."""
    with needs("the independent check", "polygraphy"):
        import polygraphy.backend.onnxrt
        import polygraphy.comparator  # noqa: F401


def polygraphy_check(
    candidate: Path,
    reference: Path | None,
    batches: Sequence[Batch],
    report: ParityReport,
    *,
    device: str = "cpu",
    plain_qdq: bool = False,
    title: str = "polygraphy",
) -> PolygraphyReport:
    """Lets Polygraphy compare what has been compared.

    Polygraphy runs the graphs (``OnnxrtRunner``), looks for what is not finite (``Comparator.validate``) and
    compares (``Comparator.compare_accuracy``) with its own code; the largest difference is its ``max``
    absolute error, AbsRel its ``mean`` relative one. It divides by the reference as it is, where we take no
    less than 1 mm. It is given open sessions: its ``SessionFromOnnx`` takes no session options, without which
    Q/DQ pairs would be computed in other ways than in the runs that it checks.

    Args:
        reference: The FP32 graph, run by Polygraphy as well; None takes the depth of ``batches``.
        batches: The inputs that ``report`` was made with, in its order.
        plain_qdq: Open the candidate as `glpn_deploy.proof.artefact_runs.ArtefactRun` says.
    """
    require_polygraphy()
    import polygraphy
    from polygraphy.exception import PolygraphyException

    if [batch.name for batch in batches] != [case.name for case in report.cases]:
        raise ParityError("the batches are not those of the report", expected="the same, in its order")
    cases = []
    with _silent(), progress.step(title, len(batches)) as step:
        try:
            session = _session(candidate, device, plain_qdq)
            other = None if reference is None else _session(reference, device)
            for batch, case in zip(batches, report.cases, strict=True):
                passed, figures = _compare(session, other, batch, report)
                cases.append(SecondOpinion(case.name, report.limit.allows(case.stats), passed, *figures))
                step.advance(case.name)
        except PolygraphyException as error:
            raise BackendError(f"Polygraphy {polygraphy.__version__} failed ({error})") from error
        agreed = sum(case.agrees for case in cases)
        step.finish(f"agrees with our result on {agreed} of {len(cases)}")
    return PolygraphyReport(polygraphy.__version__, report.candidate, report.reference, tuple(cases))


def _compare(
    candidate: Any, reference: Any | None, batch: Batch, report: ParityReport
) -> tuple[bool, tuple[float, float]]:
    """Polygraphy's result on one batch, and (max_abs_m, abs_rel)."""
    from polygraphy.backend.onnxrt import OnnxrtRunner
    from polygraphy.comparator import Comparator, RunResults, SimpleCompareFunc

    runners = [OnnxrtRunner(candidate, name="candidate")]
    if reference is not None:
        runners.append(OnnxrtRunner(reference, name="reference"))
    (given,) = candidate.get_inputs()
    spec = input_spec(given.shape, bytes_in=given.type == "tensor(uint8)")
    feed = {given.name: spec.check(batch.pixel_values)}
    results = Comparator.run(runners, data_loader=[feed])
    if reference is None:
        recorded = RunResults()
        recorded.add([{candidate.get_outputs()[0].name: batch.depth}], runner_name="reference")
        results.extend(recorded)
    passed = bool(Comparator.validate(results, check_inf=True, check_nan=True))
    figures = (math.nan, math.nan)
    # Polygraphy passes what meets either tolerance: each limit is asked by itself, the other tolerance 0
    limit = report.limit
    for stat, tolerance in (("mean", {"rtol": limit.max_abs_rel}), ("max", {"atol": limit.max_abs_m})):
        if None in tolerance.values():
            continue
        function = SimpleCompareFunc(check_error_stat=stat, **{"atol": 0.0, "rtol": 0.0, **tolerance})
        result = Comparator.compare_accuracy(results, compare_func=function)
        passed = passed and bool(result)
        (found,) = (output for pairs in result[0].values() for output in pairs[0].values())
        figures = (found.max_absdiff, found.mean_reldiff)
    return passed, figures


def _session(path: Path, device: str, plain_qdq: bool = False) -> Any:
    """A session for Polygraphy's runner, opened as `rt_onnxruntime` or, plain, `checks.opening` does it."""
    import onnxruntime as ort

    from glpn_deploy.runtimes.ort_session import CPU, CUDA, open_session

    if device == "cpu":
        return open_session(path, as_typed=plain_qdq)
    if CUDA[0] not in ort.get_available_providers():  # it would fall back to the CPU
        raise BackendError("Polygraphy was to run on the GPU, for which this onnxruntime has no provider")
    return open_session(path, providers=(CUDA, CPU), as_typed=plain_qdq)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keeps Polygraphy's log from standard output, where ``--json`` writes, and numpy's from its NaNs."""
    from polygraphy.logger import G_LOGGER

    with G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1), np.errstate(all="ignore"):
        yield
