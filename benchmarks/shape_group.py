"""One shape: its workers side by side, as many as fit into memory, and what is asked of them."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy import progress
from glpn_deploy.benchmarks.machine.energy import open_meter
from glpn_deploy.benchmarks.machine.gpu import Gpu
from glpn_deploy.benchmarks.machine.machine_state import Watch, require_psutil, throttle_count
from glpn_deploy.benchmarks.measuring.rounds import Live, measure_rounds
from glpn_deploy.benchmarks.measuring.worker_process import WorkerProcess
from glpn_deploy.benchmarks.options import BenchOptions
from glpn_deploy.benchmarks.report.results import Row, Samples
from glpn_deploy.benchmarks.report.rows import make_row, with_speedup
from glpn_deploy.benchmarks.workload.cases import CALIBRATION, VARIANTS, Case, NotRun, Runner, load_limit_s
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.depth.error_stats import error_stats
from glpn_deploy.errors import BackendError, GlpnError
from glpn_deploy.runtimes.registry import BACKENDS

_STAGE_S = 1.5
_STAGE_RUNS = 20
_OVERHEAD_RUNS = 2000
_EVALUATION_LIMIT_S = 24 * 3600.0


@dataclasses.dataclass
class Bench:
    """What all shapes of a benchmark share.

    Attributes:
        options: As given.
        bundle: The opened bundle.
        checkpoint: What it was made from, or None.
        runners: What to try, the baseline first.
        work: A folder for images and outputs.
        gpu: The GPU.
        not_run: What failed, added to here.
        accuracy: By backend and precision, once judged.
        rounds: Rounds made so far.
    """

    options: BenchOptions
    bundle: Bundle
    checkpoint: Path | None
    runners: list[Runner]
    work: Path
    gpu: Gpu
    not_run: list[NotRun]
    accuracy: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    rounds: int = 0

    def case(self, runner: Runner, batch: int, height: int, width: int, images: tuple[str, ...]) -> Case:
        """A runner at a shape."""
        return Case(
            backend=runner.backend,
            precision=runner.precision,
            batch=batch,
            height=height,
            width=width,
            path=None if runner.path is None else str(runner.path),
            device=self.options.device,
            threads=self.options.threads,
            images=images,
            processor=self.bundle.processor.to_dict(),
            max_depth=self.bundle.manifest.config.max_depth,
            delay_ms=self.options.null_delay_ms if runner.backend == "null" else 0.0,
            label=runner.label,
        )

    def start(self, case: Case) -> WorkerProcess:
        """A process for a case, of the Python that has its backend.

        Raises:
            BackendError: It did not start.
        """
        backend = VARIANTS[case.backend].of if case.backend in VARIANTS else case.backend
        return WorkerProcess(self.options.pythons.get(backend, sys.executable))

    def cases(self, batch: int, height: int, width: int, images: tuple[str, ...]) -> list[Case]:
        """What runs at a shape; engines that do not take it are noted."""
        found = []
        shape = (batch, *self.bundle.processor.target_size(height, width))
        for runner in self.runners:
            case = self.case(runner, batch, height, width, images)
            if runner.takes(shape):
                found.append(case)
            else:
                built = " or ".join(profile.name for profile in runner.profiles)
                self.not_run.append(NotRun(case.key, f"the engine was built for {built}"))
        return found


@dataclasses.dataclass
class ShapeResult:
    """What one shape gave.

    Attributes:
        rows: Measured cases, errors and ratios filled in.
        calibration: The matrix product beside them [ms].
        overhead_ms: Readings of the timing loop around nothing [ms].
        ceilings: ``product_gflops_per_s``, ``half_gflops_per_s``, ``copy_gb_per_s``, ``by``, ``device``.
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
    outputs: dict[str, NDArray[np.float32]] = {}
    sizes = {runner.name: runner.bytes for runner in bench.runners}
    if not waiting:
        return result
    baseline = waiting[0]
    while waiting:
        with contextlib.ExitStack() as stack:
            calibration = _start(_calibration(baseline), bench, stack)
            lives = [live for live in (calibration,) if live is not None]
            again = None
            if result.rows and result.rows[0].key == baseline.key:
                again = _start(baseline, bench, stack)
                lives += [again] if again is not None else []
            _fill(waiting, lives, bench, stack)
            group = [live for live in lives if live is not calibration]
            if not group:
                break
            _measure_group(bench, result, lives, again, outputs, sizes)
    for runner in [r for r in bench.runners if r.probe]:  # what a file cannot give it gives at no shape
        if not any(row.key.startswith(f"{runner.name} ") for row in result.rows):
            bench.runners.remove(runner)
    on_cpu = {row.key: outputs[row.key] for row in result.rows if row.device == "cpu" and row.key in outputs}
    result.reference, depth = _reference(bench, baseline, on_cpu)
    if depth is not None:
        result.rows = [_with_error(row, outputs.get(row.key), depth) for row in result.rows]
    return result


def _calibration(like: Case) -> Case:
    return Case(CALIBRATION, "fp32", 1, like.height, like.width, device=like.device, threads=like.threads)


def _fill(
    waiting: collections.deque[Case], lives: list[Live], bench: Bench, stack: contextlib.ExitStack
) -> None:
    """Starts waiting cases while there is room: at least one, then as long as two more of the largest fit."""
    psutil = require_psutil()
    started = 0
    while waiting:
        largest = max((live.peak_mib or 0.0 for live in lives), default=0.0)
        free = psutil.virtual_memory().available / 2**20
        if started and (len(lives) >= bench.options.live or free < 2 * largest):
            break
        live = _start(waiting.popleft(), bench, stack)
        if live is not None:
            lives.append(live)
            started += 1


def _start(case: Case, bench: Bench, stack: contextlib.ExitStack) -> Live | None:
    """A warm worker, or None; the reason is noted."""
    with progress.step(case.key if case.backend != CALIBRATION else "matrix product") as step:
        try:
            worker = stack.enter_context(bench.start(case))
            loaded = worker.ask("load", load_limit_s(case), case=case.to_dict())
            live = Live(case, worker, loaded, peak_mib=loaded["peak_mib"])
            live.prepare()
        except BackendError as error:
            bench.not_run.append(NotRun(case.key if case.backend != CALIBRATION else CALIBRATION, str(error)))
            step.finish(f"not run: {error}")
            return None
        if case.backend != CALIBRATION:
            cold = worker.start_s + loaded["load_s"] + loaded["first_call_s"]
            step.finish(f"first depth after {cold:.2f} s on {loaded['device']}")
    return live


def _measure_group(
    bench: Bench,
    result: ShapeResult,
    lives: list[Live],
    again: Live | None,
    outputs: dict[str, NDArray[np.float32]],
    sizes: dict[str, int | None],
) -> None:
    group = [live for live in lives if live.case.backend != CALIBRATION]
    meter = open_meter(bench.gpu, group[0].loaded["device"])
    hot = throttle_count()
    try:
        bench.rounds = measure_rounds(
            lives if again is None else [again, *(live for live in lives if live is not again)],
            bench.rounds,
            bench.options.rounds,
            Watch(),
            meter,
            bench.gpu,
            f"rounds {'x'.join(map(str, group[0].case.shape))}",
        )
    finally:
        if meter is not None:
            meter.close()
    throttled = hot is not None and (throttle_count() or 0) > hot
    for live in lives:
        if live.case.backend == CALIBRATION:
            _read_ceilings(live, result)
    first = group[0]  # the baseline, or the first that started in its place
    is_baseline = first.case.runner == bench.runners[0].name
    for live in group:
        if live is again:
            continue
        if live.failed is not None or not live.samples:
            reason = live.failed or "the time limit left it no round"
            bench.not_run.append(NotRun(live.case.key, reason))
            continue
        extra = _besides(bench, live, outputs)
        row = make_row(
            live, bench.options.limits, throttled, {**extra, "disk_bytes": sizes[live.case.runner]}
        )
        result.rows.append(with_speedup(row, first if is_baseline else None))


def _read_ceilings(live: Live, result: ShapeResult) -> None:
    result.calibration.update(live.samples)
    with contextlib.suppress(BackendError):
        result.overhead_ms += live.worker.ask("overhead", runs=_OVERHEAD_RUNS)
        result.ceilings["copy_gb_per_s"] = live.worker.ask("bandwidth")
        result.ceilings["half_gflops_per_s"] = live.worker.ask("half_product")
    samples = [value for values in (*live.samples.values(), *live.warm_up.values()) for value in values]
    rate = live.loaded["flops"] / (min(samples) / 1e3) / 1e9 if samples else None
    result.ceilings |= {
        "product_gflops_per_s": rate,
        "by": live.loaded["by"],
        "device": live.loaded["device"],
    }


def _besides(bench: Bench, live: Live, outputs: dict[str, NDArray[np.float32]]) -> dict[str, Any]:
    """Stages, outputs and accuracy; what fails is noted and left out."""
    case = live.case
    extra: dict[str, Any] = {"device_memory_mib": bench.gpu.memory_mib(live.worker.pid)}
    typical_s = float(np.median(np.concatenate(list(live.samples.values())))) / 1e3
    try:
        if bench.options.stages:
            runs = max(1, min(_STAGE_RUNS, round(_STAGE_S / max(typical_s, 1e-6))))
            taken = live.worker.ask("stages", runs=runs, warm_up=1)
            extra["stages"] = {name: float(np.median([one[name] for one in taken])) for name in taken[0]}
        path = bench.work / "outputs.npy"
        live.worker.ask("outputs", path=str(path))
        extra["runtime"] = live.worker.ask("about")
        outputs[case.key] = np.load(path)
        choice = bench.options.evaluate
        if choice is not None and case.runner not in bench.accuracy:
            with progress.step(f"evaluate {case.runner}") as step:
                found = live.worker.ask("evaluate", _EVALUATION_LIMIT_S, **dataclasses.asdict(choice))
                bench.accuracy[case.runner] = found
                step.finish(f"δ1 {found['delta1']:.3f}, AbsRel {found['abs_rel']:.3f}")
    except BackendError as error:
        bench.not_run.append(NotRun(f"{case.key}, beside its latency", str(error)))
    return {**extra, "accuracy": bench.accuracy.get(case.runner)}


def _reference(
    bench: Bench, like: Case, outputs: dict[str, NDArray[np.float32]]
) -> tuple[str | None, NDArray[np.float32] | None]:
    """PyTorch's FP32 depth of the images, or the FP32 artefact's where torch or the checkpoint is missing.

    On the CPU: on a GPU torch convolves in TF32. ``outputs`` are those of rows that ran there.
    """
    candidates: list[tuple[str, Path]] = []
    if bench.checkpoint is not None and BACKENDS["torch"].missing() is None:
        candidates.append(("torch", bench.checkpoint))
    with contextlib.suppress(GlpnError):
        candidates.append(("onnxruntime", bench.bundle.artefact_path(bench.bundle.artefact("fp32"))))
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
        for key, depth in outputs.items():
            if key.startswith(f"{case.runner} "):
                return case.runner, depth
        with contextlib.suppress(BackendError), bench.start(case) as worker:
            worker.ask("load", case=case.to_dict())
            target = bench.work / "reference.npy"
            worker.ask("outputs", path=str(target))
            return case.runner, np.load(target)
    return None, None


def _with_error(row: Row, depth: NDArray[np.float32] | None, reference: NDArray[np.float32]) -> Row:
    if depth is None or depth.shape != reference.shape:
        return row
    return dataclasses.replace(row, error=error_stats(depth, reference).to_dict())
