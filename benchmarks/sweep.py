"""The benchmark itself: every case of every shape, measured in rounds and reported."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import itertools
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glpn_deploy import progress
from glpn_deploy.benchmarks.bench import Bench, Start, start_worker
from glpn_deploy.benchmarks.machine.environment import versions
from glpn_deploy.benchmarks.machine.gpu import Gpu
from glpn_deploy.benchmarks.machine.machine_state import identity, require_psutil, state
from glpn_deploy.benchmarks.measuring.load import measure_callers
from glpn_deploy.benchmarks.options import BenchOptions
from glpn_deploy.benchmarks.report.results import Headline, Report
from glpn_deploy.benchmarks.report.rows import best_ceilings, headline, share_of_ceilings
from glpn_deploy.benchmarks.shape_group import ShapeResult, measure_shape
from glpn_deploy.benchmarks.workload.asked import require_asked
from glpn_deploy.benchmarks.workload.bench_images import cut_images, find_images
from glpn_deploy.benchmarks.workload.cases import MADE_PEERS, PEERS, CaseId, NotRun, parse_runner
from glpn_deploy.benchmarks.workload.made_peers import Making, make_peers
from glpn_deploy.benchmarks.workload.plan import plan_runners
from glpn_deploy.benchmarks.workload.references import (
    check_dataset,
    choose_baseline,
    describe_source,
    find_checkpoint,
)
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.errors import BackendError, InputError
from glpn_deploy.gpu.cuda_device import find_device_or_none


@dataclasses.dataclass(kw_only=True)
class _Found(ShapeResult):
    """What a sweep has come to, all of it of complete shapes."""

    headlines: list[Headline] = dataclasses.field(default_factory=list)
    load: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    interrupted: bool = False


def run_sweep(
    folder: str | Path,
    options: BenchOptions = BenchOptions(),
    start: Start | None = None,
) -> Report:
    """Measures every backend and artefact of a bundle that this machine can run.

    A case that fails is reported with its reason and ends nothing else. Ctrl-C ends the sweep; the report
    then has the shapes that were complete and says that it was interrupted.

    Args:
        folder: The bundle.
        options: What to measure, and how.
        start: Starts a case's process; None takes the Python that has its backend.

    Raises:
        GlpnError: The bundle or the data set cannot be used, or an option is wrong.
        BackendError: Not one case ran.
        KeyboardInterrupt: Interrupted before one shape was complete.
    """
    with tempfile.TemporaryDirectory(prefix="glpn-bench-") as work:
        return _run_sweep(folder, options, start, Path(work))


def _run_sweep(folder: str | Path, options: BenchOptions, start: Start | None, work: Path) -> Report:
    begin = time.perf_counter()
    require_psutil()
    gpu = Gpu()
    bundle = Bundle.open(folder)
    check_dataset(options.evaluate)
    images = find_images(bundle, options.images)
    with progress.step("checkpoint"):
        checkpoint, note = find_checkpoint(bundle, options.reference, offline=options.offline)
    peers = list(options.peers)
    asked = parse_runner(options.baseline or "").backend
    if asked in PEERS and asked not in (peer.partition("=")[0] for peer in peers):
        peers.insert(0, asked)
    runners, not_run = plan_runners(
        bundle,
        checkpoint,
        options.backends,
        options.precisions,
        [peer for peer in peers if peer not in MADE_PEERS],
        None if options.device == "cpu" else find_device_or_none(),
        options.pythons,
    )
    for size in options.shapes:
        bundle.processor.target_size(*size)  # refuses a size that shrinks to nothing
    if {*peers} & {*MADE_PEERS}:
        files = cut_images(images, *options.shapes[0], work)
        making = Making(checkpoint, files, bundle.processor, options.pythons, work / "peers")
        made, not_made = make_peers(peers, making)
        more, why_not = plan_runners(bundle, None, [], options.precisions, made)
        runners, not_run = [*runners, *more], [*not_run, *not_made, *why_not]
    if not runners:
        raise InputError(f"nothing to measure ({_reasons(not_run) or 'no artefact of these precisions'})")
    require_asked(options, [runner.id for runner in runners], not_run)
    baseline = choose_baseline(runners, options.baseline, not_run)
    runners.sort(key=lambda runner: runner is not baseline)
    before = state(gpu)
    found = _Found()
    bench = Bench(
        options=options,
        bundle=bundle,
        checkpoint=checkpoint,
        runners=runners,
        work=work,
        gpu=gpu,
        not_run=not_run,
        start=start or functools.partial(start_worker, pythons=options.pythons),
    )
    try:
        _measure(bench, images, found)
    except KeyboardInterrupt:
        if not found.rows:
            raise
        found.interrupted = True
    if not found.rows:
        if bench.unavailable:
            require_asked(options, [], not_run)
        raise BackendError(f"no case ran ({_reasons(not_run)})")
    with progress.step("count arithmetic"):
        rows = share_of_ceilings(found.rows, bundle.manifest.config, found.ceilings)
    if note:
        not_run.insert(0, NotRun(CaseId(), note, "reference"))
    overhead = statistics.median(found.overhead_ms or [0.0])
    shortest = min(row.latency.median_ms for row in rows)
    return Report(
        source=describe_source(bundle, images),
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        machine=identity(gpu, options.threads),
        state={"before": before, "after": state(gpu)},
        versions=versions(),
        settings=options.settings(),
        rows=tuple(rows),
        not_run=tuple(not_run),
        calibration=found.calibration,
        ceilings=found.ceilings,
        harness={"overhead_ms": overhead, "share_of_shortest": overhead / shortest},
        baseline=str(baseline.id),
        reference=found.reference,
        headlines=tuple(found.headlines),
        load=tuple(found.load),
        interrupted=found.interrupted,
        seconds=time.perf_counter() - begin,
    )


def _measure(bench: Bench, images: Sequence[Path], found: _Found) -> None:
    """Every shape, then the load; what an interruption leaves out is noted in ``bench.not_run``."""
    options = bench.options
    left = [(batch, *size) for size, batch in itertools.product(options.shapes, options.batches)]
    loading = bool(options.callers)
    try:
        while left:
            batch, height, width = left[0]
            files = cut_images(images, height, width, bench.work)
            of_shape = measure_shape(bench, batch, height, width, files)
            found.calibration.update(of_shape.calibration)
            found.overhead_ms += of_shape.overhead_ms
            found.ceilings = best_ceilings(found.ceilings, of_shape.ceilings)
            found.reference = of_shape.reference or found.reference
            if of_shape.rows:
                found.headlines.append(headline(of_shape.rows, options.rounds.half_width, options.within))
            found.rows += of_shape.rows
            left.pop(0)
        if loading:
            first = options.shapes[0]
            files = cut_images(images, *first, bench.work)
            cases = [bench.case(r, options.batches[0], *first, files) for r in bench.runners]
            ran = {row.id for row in found.rows}
            wanted = [case for case in cases if case.id in ran]
            for loaded in measure_callers(wanted, options, bench.not_run, bench.start):
                found.load.append(loaded)
            loading = False
    finally:
        words = "interrupted before it was complete"
        bench.not_run += [NotRun(CaseId(shape=shape), words) for shape in left]
        bench.not_run += [NotRun(CaseId(), words, "load")] if loading else []


def _reasons(not_run: Sequence[NotRun]) -> str:
    return "; ".join(f"{item.name}: {item.reason.rstrip('.')}" for item in not_run)
