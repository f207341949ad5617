"""The benchmark itself: every case of every shape, measured in rounds, judged and reported."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import itertools
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from glpn_deploy.benchmarks.bench_images import cut_images, find_images
from glpn_deploy.benchmarks.cases import PEERS, NotRun, Runner
from glpn_deploy.benchmarks.ceilings import count_flops
from glpn_deploy.benchmarks.gpu import Gpu
from glpn_deploy.benchmarks.load_runs import LoadOptions, measure_load
from glpn_deploy.benchmarks.machine_state import identity, require_psutil, state, versions
from glpn_deploy.benchmarks.plan import plan_runners
from glpn_deploy.benchmarks.results import Report, Row, Samples
from glpn_deploy.benchmarks.rounds import RoundOptions
from glpn_deploy.benchmarks.rows import headline, with_ceilings
from glpn_deploy.benchmarks.shape_group import Bench, measure_shape
from glpn_deploy.benchmarks.stability import StabilityLimits
from glpn_deploy.bundle import Bundle
from glpn_deploy.config import GLPNConfig
from glpn_deploy.cuda_device import find_device_or_none
from glpn_deploy.errors import GlpnError, InputError
from glpn_deploy.progress import Progress, SilentProgress
from glpn_deploy.runtimes.base import Device, Precision, RuntimeOptions
from glpn_deploy.runtimes.registry import BACKENDS


@dataclasses.dataclass(frozen=True)
class EvalChoice:
    """A data set to judge every backend and precision on.

    Attributes:
        dataset: Its kind, see `glpn_deploy.datasets.registry.open_dataset`.
        path: Where it lies; rooms lie nowhere.
        count: Rooms to render.
    """

    dataset: Literal["nyu", "kitti", "folder", "rooms"]
    path: str | None = None
    count: int | None = None


@dataclasses.dataclass(frozen=True)
class BenchOptions:
    """What is measured, and how.

    Attributes:
        backends: Names; None takes all that are installed.
        precisions: Names; None takes all.
        shapes: Sizes of the images (height, width) [px].
        batches: Images a run.
        baseline: Backend, ``backend precision``, or a peer's name; None takes torch FP32 or the first row.
        peers: Other projects' rows.
        reference: Checkpoint that the bundle was made from; None takes the manifest's where it is at hand.
        images: Folder of photographs; None takes the bundle's goldens.
        device: Where to run.
        threads: Threads within one operator; None leaves the backends' defaults.
        rounds: When rounds stop.
        limits: From where on a row is not stable; its ``half_width`` is that of ``rounds``.
        live: Most workers that are alive at a time.
        stages: Also measure the stages.
        evaluate: A data set to judge on, or None.
        load: What to measure under load.
        offline: Use the hub's cache only.
        null_delay_ms: The null backend's planted delay [ms], for tests.
        pythons: By backend, another Python that has its packages, where they are not this one's.

    Raises:
        InputError: A value is out of range.
    """

    backends: tuple[str, ...] | None = None
    precisions: tuple[Precision, ...] | None = None
    shapes: tuple[tuple[int, int], ...] = ((480, 640),)
    batches: tuple[int, ...] = (1,)
    baseline: str | None = None
    peers: tuple[str, ...] = ()
    reference: str | None = None
    images: Path | None = None
    device: Device = "auto"
    threads: int | None = None
    rounds: RoundOptions = RoundOptions()  # noqa: RUF009 - frozen
    limits: StabilityLimits = StabilityLimits()  # noqa: RUF009 - frozen
    live: int = 8
    stages: bool = True
    evaluate: EvalChoice | None = None
    load: LoadOptions = LoadOptions()  # noqa: RUF009 - frozen
    offline: bool = False
    null_delay_ms: float = 0.0
    pythons: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        RuntimeOptions(self.device, threads=self.threads)
        if not self.shapes or not self.batches or min(itertools.chain(*self.shapes, self.batches)) < 1:
            raise InputError(f"shapes {self.shapes}, batches {self.batches}", expected="positive numbers")
        for name in self.pythons:
            if name not in BACKENDS:
                raise InputError(f"a Python for backend {name!r}", expected=f"one of {', '.join(BACKENDS)}")
        if self.live < 3:
            raise InputError(f"{self.live} workers at a time", expected="at least 3")

    def settings(self) -> dict[str, Any]:
        """For the report."""
        values = dataclasses.asdict(self)
        return {**values, "images": None if self.images is None else str(self.images)}


def run_sweep(
    folder: str | Path,
    options: BenchOptions = BenchOptions(),
    progress: Progress = SilentProgress(),  # noqa: B008 - stateless
) -> Report:
    """Measures every backend and artefact of a bundle that this machine can run.

    A case that fails is reported with its reason and ends nothing else.

    Args:
        folder: The bundle.
        options: What to measure, and how.
        progress: Told of every step.

    Raises:
        GlpnError: The bundle cannot be used, an option is none, or not one case ran.
    """
    begin = time.perf_counter()
    require_psutil()
    gpu = Gpu()
    bundle = Bundle.open(folder)
    options = dataclasses.replace(
        options, limits=dataclasses.replace(options.limits, half_width=options.rounds.half_width)
    )
    images = find_images(bundle, options.images)
    checkpoint, note = find_checkpoint(bundle, options)
    peers = list(options.peers)
    if options.baseline in PEERS and options.baseline not in peers:
        peers.insert(0, options.baseline)
    runners, not_run = plan_runners(
        bundle,
        checkpoint,
        options.backends,
        options.precisions,
        peers,
        None if options.device == "cpu" else find_device_or_none(),
        options.pythons,
    )
    if not runners:
        reasons = "; ".join(f"{item.name}: {item.reason}" for item in not_run)
        raise InputError(f"nothing to measure ({reasons or 'no artefact of these precisions'})")
    baseline = choose_baseline(runners, options.baseline)
    runners.sort(key=lambda runner: runner is not baseline)
    for size in options.shapes:
        bundle.processor.target_size(*size)  # refuses a size that shrinks to nothing
    before = state(gpu)
    rows: list[Row] = []
    calibration: Samples = {}
    load: list[dict[str, Any]] = []
    overheads: list[float] = []
    ceilings: dict[str, Any] = {}
    headlines = []
    reference = None
    with tempfile.TemporaryDirectory(prefix="glpn-bench-") as name:
        bench = Bench(options, bundle, checkpoint, runners, Path(name), gpu, progress, not_run)
        for (height, width), batch in itertools.product(options.shapes, options.batches):
            files = cut_images(images, height, width, Path(name))
            found = measure_shape(bench, batch, height, width, files)
            calibration.update(found.calibration)
            overheads += found.overhead_ms
            ceilings = _best(ceilings, found.ceilings)
            reference = found.reference or reference
            if found.rows:
                headlines.append(headline(found.rows, baseline.name, found.reference))
            rows += found.rows
        if options.load.wanted:
            first = options.shapes[0]
            files = cut_images(images, *first, Path(name))
            cases = [bench.case(r, options.batches[0], *first, files) for r in runners]
            ran = {row.key for row in rows}
            wanted = [case for case in cases if case.key in ran]
            load = measure_load(wanted, options.load, progress, not_run, bench.start)
    if not rows:
        raise InputError("no case ran: " + "; ".join(f"{item.name}: {item.reason}" for item in not_run))
    rows = _share_of_ceilings(rows, bundle, ceilings)
    if note:
        not_run.insert(0, NotRun("reference", note))
    overhead = sorted(overheads)[len(overheads) // 2] if overheads else 0.0
    shortest = min(row.latency.median_ms for row in rows)
    return Report(
        source={
            "bundle": bundle.folder.resolve().name,
            "checkpoint": bundle.manifest.source.get("digest"),
            "images": [path.name for path in images],
        },
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        machine=identity(gpu, options.threads),
        state={"before": before, "after": state(gpu)},
        versions=versions(),
        settings=options.settings(),
        rows=tuple(rows),
        not_run=tuple(not_run),
        calibration=calibration,
        ceilings=ceilings,
        harness={"overhead_ms": overhead, "share_of_shortest": overhead / shortest},
        baseline=baseline.name,
        reference=reference,
        headlines=tuple(headlines),
        load=tuple(load),
        seconds=time.perf_counter() - begin,
    )


def find_checkpoint(bundle: Bundle, options: BenchOptions) -> tuple[Path | None, str]:
    """The checkpoint that the bundle was made from, or why it is not at hand.

    Raises:
        GlpnError: One was asked for and cannot be used.
    """
    about = bundle.manifest.source
    named = options.reference or str(about.get("source"))
    try:
        from glpn_deploy.checkpoint_files import checkpoint_digest  # needs safetensors
        from glpn_deploy.checkpoint_hub import resolve_checkpoint

        path = resolve_checkpoint(named, offline=options.offline or options.reference is None)
        if checkpoint_digest(path) != about.get("digest"):
            raise InputError(f"{named} is not the checkpoint that this bundle was exported from")
        if (
            path.is_dir()
            and GLPNConfig.from_json_file(path / "config.json").max_depth != bundle.manifest.config.max_depth
        ):
            raise InputError(f"{named} has another max_depth than this bundle was exported with")
    except (GlpnError, ImportError) as error:
        if options.reference is not None:
            raise
        return None, f"{error} Errors refer to the bundle's FP32 artefact"
    return path, ""


def choose_baseline(runners: Sequence[Runner], asked: str | None) -> Runner:
    """The runner that ratios refer to.

    Raises:
        InputError: None of that name is to be run.
    """
    if asked is None:
        certain = [r for r in runners if not r.probe] or list(runners)
        full = [r for r in certain if r.precision == "fp32" and r.backend not in PEERS] or certain
        return next((r for r in full if r.backend == "torch"), full[0])
    wanted = asked.replace(":", " ")
    for runner in runners:
        if wanted in (runner.name, runner.backend):
            return runner
    have = ", ".join(runner.name for runner in runners)
    raise InputError(f"--baseline {asked}", expected=f"one of those that can be run: {have}")


def _best(known: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Ceilings are the best that was seen."""
    both = {**known, **new}
    for name in ("product_gflops_per_s", "half_gflops_per_s", "copy_gb_per_s"):
        values = [part[name] for part in (known, new) if part.get(name) is not None]
        both[name] = max(values, default=None)
    return both


def _share_of_ceilings(rows: list[Row], bundle: Bundle, ceilings: dict[str, Any]) -> list[Row]:
    config = bundle.manifest.config
    counts: dict[tuple[int, int], int | None] = {}
    for size in {row.network_size for row in rows}:
        with contextlib.suppress(Exception):  # a count that torch cannot make is left out, and stands as null
            counts[size] = count_flops(config, *size)
    ceilings["flops_by"] = "torch.utils.flop_counter" if any(counts.values()) else None
    names = ("product_gflops_per_s", "half_gflops_per_s", "copy_gb_per_s")
    product, half, copy = (ceilings[name] * 1e9 if ceilings.get(name) else None for name in names)
    return [
        with_ceilings(
            row,
            counts.get(row.network_size),
            half if half is not None and row.precision != "fp32" and row.device != "cpu" else product,
            copy,
        )
        for row in rows
    ]
