"""One shape: its workers side by side, as many as fit into memory, and what is asked of them."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy import progress
from glpn_deploy.benchmarks.bench import Bench
from glpn_deploy.benchmarks.machine.energy import open_meter
from glpn_deploy.benchmarks.machine.machine_state import Watch, require_psutil, throttle_count
from glpn_deploy.benchmarks.measuring.rounds import CaseWorker, measure_rounds
from glpn_deploy.benchmarks.report.results import Row, Samples
from glpn_deploy.benchmarks.report.rows import make_row, with_speedup
from glpn_deploy.benchmarks.workload.cases import CALIBRATION, Case, CaseId, NotRun, load_limit_s
from glpn_deploy.depth.error_stats import error_stats
from glpn_deploy.errors import BackendError, GlpnError, UnavailableError
from glpn_deploy.runtimes.onnx_file.artefact_file import artefact_path
from glpn_deploy.runtimes.registry import BACKENDS

_OVERHEAD_RUNS = 2000
_EVALUATION_LIMIT_S = 24 * 3600.0


@dataclasses.dataclass(kw_only=True)
class ShapeResult:
    """What one shape gave.

    Attributes:
        rows: Measured cases, errors and ratios filled in.
        calibration: The matrix product beside them [ms].
        overhead_ms: Readings of the timing loop around nothing [ms].
        ceilings: ``product_gflops_per_s``, ``half_gflops_per_s``, ``by``, ``device``.
        reference: What errors refer to, or None.
    """

    rows: list[Row] = dataclasses.field(default_factory=list)
    calibration: Samples = dataclasses.field(default_factory=dict)
    overhead_ms: list[float] = dataclasses.field(default_factory=list)
    ceilings: dict[str, Any] = dataclasses.field(default_factory=dict)
    reference: str | None = None


def measure_shape(bench: Bench, batch: int, height: int, width: int, images: tuple[str, ...]) -> ShapeResult:
    """Measures every runner at one shape; what fails goes into ``bench.not_run``.

    Where the memory does not take all workers at once, they come in groups, each with the baseline anew.
    """
    result = ShapeResult()
    waiting = collections.deque(bench.cases(batch, height, width, images))
    outputs: dict[CaseId, NDArray[np.float32]] = {}
    if not waiting:
        return result
    baseline = waiting[0]
    while waiting:
        with contextlib.ExitStack() as stack:
            calibration = _start(_calibration(baseline), bench, stack)
            again = None
            if result.rows and result.rows[0].id == baseline.id:
                again = _start(baseline, bench, stack)
            workers = [worker for worker in (again, calibration) if worker is not None]
            _fill(waiting, workers, bench, stack)
            if all(worker is calibration for worker in workers):
                break
            _measure_group(bench, result, workers, again, outputs)
    ran = {row.id.runner for row in result.rows}
    for runner in [r for r in bench.runners if r.probe and r.id not in ran]:
        bench.runners.remove(runner)  # what a file cannot give it gives at no shape
    on_cpu = {row.id: outputs[row.id] for row in result.rows if row.device == "cpu" and row.id in outputs}
    result.reference, depth = _reference(bench, baseline, on_cpu)
    if depth is not None:
        result.rows = [_with_error(row, outputs.get(row.id), depth) for row in result.rows]
    return result


def _calibration(like: Case) -> Case:
    return Case(
        backend=CALIBRATION,
        precision="fp32",
        batch=1,
        height=like.height,
        width=like.width,
        device=like.device,
        threads=like.threads,
    )


def _fill(
    waiting: collections.deque[Case], workers: list[CaseWorker], bench: Bench, stack: contextlib.ExitStack
) -> None:
    """Starts waiting cases while there is room: at least one, then as long as two more of the largest fit."""
    psutil = require_psutil()
    started = 0
    while waiting:
        largest = max((worker.peak_mib or 0.0 for worker in workers), default=0.0)
        free = psutil.virtual_memory().available / 2**20
        if started and (len(workers) >= bench.options.max_workers or free < 2 * largest):
            break
        worker = _start(waiting.popleft(), bench, stack)
        if worker is not None:
            workers.append(worker)
            started += 1


def _start(case: Case, bench: Bench, stack: contextlib.ExitStack) -> CaseWorker | None:
    """A warm worker, or None; the reason is noted."""
    is_network = case.backend != CALIBRATION
    with progress.step(str(case.id) if is_network else "matrix product") as step:
        try:
            process = stack.enter_context(bench.start(case))
            loaded = process.ask("load", load_limit_s(case), case=dataclasses.asdict(case))
            stages: dict[str, list[float]] | None = {} if is_network and bench.options.stages else None
            worker = CaseWorker(
                case=case, process=process, loaded=loaded, peak_mib=loaded["peak_mib"], stages=stages
            )
            worker.prepare()
        except BackendError as error:
            bench.not_run.append(NotRun(case.id if is_network else CaseId(CALIBRATION), str(error)))
            if isinstance(error, UnavailableError):
                bench.unavailable.append(error)
            step.warn(f"not run: {error}")
            return None
        if is_network:
            cold = process.start_s + loaded["load_s"] + loaded["first_call_s"]
            step.finish(f"first depth after {cold:.2f} s on {loaded['device']}")
    return worker


def _measure_group(
    bench: Bench,
    result: ShapeResult,
    workers: list[CaseWorker],
    again: CaseWorker | None,
    outputs: dict[CaseId, NDArray[np.float32]],
) -> None:
    """Measures workers in rounds; ``again`` is the baseline's, where an earlier group has its row."""
    group = [worker for worker in workers if worker.case.backend != CALIBRATION]
    meter = open_meter(bench.gpu, group[0].loaded["device"])
    hot = throttle_count()
    title = f"rounds {CaseId(shape=group[0].case.id.shape)}"
    bench.rounds = measure_rounds(
        workers, bench.rounds, bench.options.rounds, Watch(), meter, bench.gpu, title
    )
    throttled = hot is not None and (throttle_count() or 0) > hot
    kept = [worker for worker in group if worker is not again and not worker.failed and worker.samples]
    for worker in kept:
        _evaluate(bench, worker)
    extras: dict[CaseId, dict[str, Any]] = {}
    with progress.step("depth, operators", len(workers)) as step:
        for worker in workers:
            if worker.case.backend == CALIBRATION:
                _read_ceilings(worker, result)
            elif worker in kept:
                extras[worker.case.id] = _extras(bench, worker, outputs)
            step.advance(str(worker.case.id))
        with ThreadPoolExecutor(len(workers)) as pool:  # together: each takes a second
            list(pool.map(lambda worker: worker.process.close(), workers))
    first = group[0]  # the baseline, or the first that started in its place
    is_baseline = first.case.id.runner == bench.runners[0].id
    for worker in group:
        if worker in kept:
            row = make_row(worker, bench.options.rounds.half_width, throttled, extras[worker.case.id])
            result.rows.append(with_speedup(row, first if is_baseline else None))
        elif worker is not again:
            reason = worker.failed or "the time limit left it no round"
            bench.not_run.append(NotRun(worker.case.id, reason))


def _read_ceilings(worker: CaseWorker, result: ShapeResult) -> None:
    result.calibration.update(worker.samples)
    with contextlib.suppress(BackendError):
        result.overhead_ms += worker.process.ask("overhead", runs=_OVERHEAD_RUNS)
        result.ceilings["half_gflops_per_s"] = worker.process.ask("half_product")
    samples = [value for values in (*worker.samples.values(), *worker.warm_up.values()) for value in values]
    rate = worker.loaded["flops"] / (min(samples) / 1e3) / 1e9 if samples else None
    result.ceilings |= {
        "product_gflops_per_s": rate,
        "by": worker.loaded["by"],
        "device": worker.loaded["device"],
    }


def _extras(bench: Bench, worker: CaseWorker, outputs: dict[CaseId, NDArray[np.float32]]) -> dict[str, Any]:
    """What a row has beside its times; what fails is noted and left out."""
    case, runner = worker.case, worker.case.id.runner
    sizes = {one.id: one.bytes for one in bench.runners}
    extras: dict[str, Any] = {
        "device_memory_mib": bench.gpu.memory_mib(worker.process.pid),
        "disk_bytes": sizes[runner],
        "accuracy": bench.accuracy.get(runner),
    }
    try:
        path = bench.work / "outputs.npy"
        worker.process.ask("outputs", path=str(path))
        outputs[case.id] = np.load(path)
        extras["runtime"] = worker.process.ask("about")
        if bench.options.stages:
            extras["operators"] = worker.process.ask("operators")
    except BackendError as error:
        bench.not_run.append(NotRun(case.id, str(error), "extras"))
    return extras


def _evaluate(bench: Bench, worker: CaseWorker) -> None:
    """Evaluates a backend and precision on the data set, once; a failure is noted."""
    choice, runner = bench.options.evaluate, worker.case.id.runner
    if choice.dataset is None or runner in bench.accuracy:
        return
    with progress.step(f"evaluate {runner}") as step:
        try:
            found = worker.process.ask("evaluate", _EVALUATION_LIMIT_S, **dataclasses.asdict(choice))
        except BackendError as error:
            bench.not_run.append(NotRun(worker.case.id, str(error), "extras"))
            return
        bench.accuracy[runner] = found
        step.finish(f"δ1 {found['delta1']:.3f}, AbsRel {found['abs_rel']:.3f}")


def _reference(
    bench: Bench, like: Case, outputs: dict[CaseId, NDArray[np.float32]]
) -> tuple[str | None, NDArray[np.float32] | None]:
    """PyTorch's FP32 depth of the images, or the FP32 artefact's where torch or the checkpoint is missing.

    On the CPU: on a GPU torch convolves in TF32. ``outputs`` are those of rows that ran there.
    """
    candidates: list[tuple[str, Path]] = []
    if bench.checkpoint is not None and BACKENDS["torch"].missing() is None:
        candidates.append(("torch", bench.checkpoint))
    with contextlib.suppress(GlpnError):
        candidates.append(("onnxruntime", artefact_path(bench.bundle, bench.bundle.artefact("fp32"))))
    for backend, path in candidates:
        case = dataclasses.replace(
            like,
            backend=backend,
            precision="fp32",
            batch=1,
            path=str(path),
            device="cpu",
            delay_ms=0.0,
            label="",
        )
        runner = case.id.runner
        for ran, depth in outputs.items():
            if runner.covers(ran):
                return str(runner), depth
        with contextlib.suppress(BackendError), bench.start(case) as process:
            process.ask("load", case=dataclasses.asdict(case))
            target = bench.work / "reference.npy"
            process.ask("outputs", path=str(target))
            return str(runner), np.load(target)
    return None, None


def _with_error(row: Row, depth: NDArray[np.float32] | None, reference: NDArray[np.float32]) -> Row:
    if depth is None or depth.shape != reference.shape:
        return row
    return dataclasses.replace(row, error=error_stats(depth, reference).to_dict())
