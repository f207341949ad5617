"""A job: an archive of images through many workers, every image once, with a row for each."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from glpn_deploy import progress
from glpn_deploy.atomic import only_one
from glpn_deploy.errors import BackendError
from glpn_deploy.estimator import DepthEstimator
from glpn_deploy.optional import needs
from glpn_deploy.runtimes.options import LoadOptions
from glpn_deploy.scale.cluster import CLAIM, READING, joined, whats_wrong, worker_count
from glpn_deploy.scale.options import BatchOptions

_MANY = 1_000_000  # images, from which on parts are larger
_POLL = 1.0  # s


@dataclasses.dataclass(frozen=True)
class BatchReport:
    """What became of a job.

    Attributes:
        images: Images with a row in the manifest.
        failed: Those without depth.
        done_before: Those that an earlier run had done.
        errors: The first reasons, by path.
        workers: Processes asked for.
        deaths: Blocks that a worker died of or on.
        seconds: Of work, without Ray's start and end.
        runtime: What ran, as `Runtime.describe`; empty where nothing had to.
    """

    images: int
    failed: int
    done_before: int
    errors: dict[str, str]
    workers: int
    deaths: int
    seconds: float
    runtime: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)


def run_batch(
    source: str,
    images: str,
    out: str,
    options: BatchOptions = BatchOptions(),
    load: LoadOptions = LoadOptions(),
    *,
    opener: Callable[[], DepthEstimator] | None = None,
) -> BatchReport:
    """Predicts every image of an archive, on this machine or on a Ray cluster.

    What an earlier run of the same job finished is left as it is; images that failed then are tried again
    with ``retry_failed``. An image that fails is a row with its reason; so is one that ends the process that
    works on it.

    Args:
        source: What `DepthEstimator.load` takes; every machine of a cluster has to reach it.
        images: Folder, glob, ``.txt`` list, Parquet (``path``, ``bytes``) or WebDataset shards.
        out: Folder for results; with ``manifest.parquet``, a row an image.
        options: What is written, and by how many workers.
        load: How the network is loaded.
        opener: Loads the network instead, for tests; has to be picklable.

    Raises:
        InputError: Nothing is there, or ``out`` has another job's results.
        BackendError: Ray did not start, or the workers cannot.
        WriteError: ``out`` cannot be written.

    Warns:
        UserWarning: No image was finished for a while; says why.
    """
    with needs("glpn-batch", "ray"):
        import pyarrow  # noqa: F401

        from glpn_deploy.scale.inputs import find_source
        from glpn_deploy.scale.results import claim, clean, write_manifest
        from glpn_deploy.scale.storage import Folder
    found, target = find_source(images), Folder.of(out)
    source = str(Path(source).resolve()) if Path(source).exists() else source
    run = secrets.token_hex(8)
    with contextlib.ExitStack() as stack:
        if target.local:
            Path(target.path, "_job").mkdir(parents=True, exist_ok=True)
            stack.enter_context(only_one(Path(target.path, "_job", "lock"), "another glpn-batch"))
        claim(target, {"source": source, "images": images, "into": options.into, "save": options.save}, run)
        done = clean(target, options)
        workers, seconds = 0, 0.0
        state: dict[str, Any] = {"deaths": 0, "runtime": {}}
        if found.kind != "listed" or any(path not in done for path, _ in found.images):
            with progress.step("start Ray"):
                ray = stack.enter_context(joined(options))
            opener = opener or partial(DepthEstimator.open, source, load)
            job = _Run(ray, found, target, options, opener, done, run)
            seconds = job.run()
            workers, state = job.workers, job.state
        count, failed, errors = write_manifest(target, options)
    return BatchReport(count, failed, len(done), errors, workers, state["deaths"], seconds, state["runtime"])


class _Run:
    """One run of a job on a Ray that is there."""

    def __init__(
        self,
        ray: Any,
        source: Any,
        target: Any,
        options: BatchOptions,
        opener: Callable[[], DepthEstimator],
        done: set[str],
        run: str,
    ) -> None:
        self._ray, self._source, self._target, self._options = ray, source, target, options
        self._opener, self._done, self._id = opener, done, run
        self.workers = 0
        self.state: dict[str, Any] = {}

    def run(self) -> float:
        """Does what is left; gives the seconds that it took."""
        from glpn_deploy.scale.inputs import dataset
        from glpn_deploy.scale.worker import DepthWorker, Job

        ray, options = self._ray, self._options
        self.workers = worker_count(ray, options)
        listed = self._source.kind == "listed"
        part = self._part()
        rows, count = dataset(self._source, part, self._done, READING)
        if listed:
            self.workers = min(self.workers, math.ceil((count or 1) / part))
        ledger = self._ledger()
        results = rows.map_batches(
            DepthWorker,
            fn_constructor_args=(
                Job(self._opener, self._source.folder, self._target, options, self._id),
                ledger,
                None if listed or not self._done else ray.put(self._done),
            ),
            batch_size=None if listed else part,
            batch_format="pyarrow",
            concurrency=self.workers,
            num_cpus=CLAIM,
            num_gpus=options.gpus_per_worker or None,
        )
        start = time.perf_counter()
        total = count if listed or count is None else count - len(self._done)
        with progress.step("predict", total) as step, self._watched(ledger) as watch:
            failed = finished = 0
            try:
                for block in results.iter_batches(batch_size=None, batch_format="pyarrow"):
                    images = sum(block["images"].to_pylist())
                    failed, finished = failed + sum(block["failed"].to_pylist()), finished + images
                    watch()
                    for _ in range(images):
                        step.advance(f"{failed} failed" if failed else "")
            except ray.exceptions.RayError as error:
                raise self._failure(ledger, error) from error
            step.finish(f"{finished - failed} of {finished} images on {self.workers} workers")
        self.state = ray.get(ledger.state.remote())
        return time.perf_counter() - start

    def _part(self) -> int:
        if self._options.images_per_part is not None:
            return self._options.images_per_part
        left = len(self._source.images) - len(self._done)
        if self._source.kind != "listed":
            return 64
        return 1000 if left > _MANY else min(64, max(1, left // (8 * self.workers)))

    def _ledger(self) -> Any:
        """An actor on this very machine: it is lost with the driver, not before."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        from glpn_deploy.scale.ledger import Ledger

        here = NodeAffinitySchedulingStrategy(self._ray.get_runtime_context().get_node_id(), soft=False)
        return self._ray.remote(Ledger).options(num_cpus=0, scheduling_strategy=here).remote()

    def _failure(self, ledger: Any, error: Exception) -> Exception:
        """What ended the job, in words."""
        with contextlib.suppress(Exception):
            found = self._ray.get(ledger.state.remote(), timeout=10)["refusal"]
            if found:
                got, expected, fix = found
                return BackendError(f"the workers cannot start: {got}", expected=expected, fix=fix)
        words = str(error).strip().splitlines() or [type(error).__name__]
        return BackendError(f"Ray ended the job ({words[-1][:300]})", fix="the same command goes on with it")

    @contextlib.contextmanager
    def _watched(self, ledger: Any) -> Iterator[Callable[[], None]]:
        """A thread that says why nothing is finished for a while; what is yielded is called when it is."""
        last, stop = [time.monotonic()], threading.Event()

        def watch() -> None:
            while not stop.wait(_POLL):
                if time.monotonic() - last[0] < self._options.stalled_after:
                    continue
                with contextlib.suppress(self._ray.exceptions.RayError):
                    state = self._ray.get(ledger.state.remote(), timeout=5)
                    why = whats_wrong(self._ray, self._options, self.workers, state)
                    warnings.warn(
                        f"No image was finished for {self._options.stalled_after:g} s: {why}", stacklevel=1
                    )
                last[0] = time.monotonic()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield lambda: last.__setitem__(0, time.monotonic())
        finally:
            stop.set()
            thread.join(timeout=10)
