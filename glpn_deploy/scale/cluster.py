"""Ray's part of a job: a cluster of this machine alone, or one that is joined, and what is free in it."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator
from typing import Any

from glpn_deploy.errors import BackendError
from glpn_deploy.optional import needs
from glpn_deploy.scale.options import BatchOptions

CLAIM = 0.35
"""CPUs that a worker claims, below the one that it uses: with all of them claimed nothing else of Ray would
start, and the workers of a lost node would find no room on the others."""
READING = {"num_cpus": 0.25, "concurrency": 2}
"""What tasks that read Parquet and shards claim, and how many run at a time."""
_STORE_BYTES = 512 << 20  # of a machine alone; Ray would take a third of its memory
ALONE = {
    "RAY_USAGE_STATS_ENABLED": "0",  # reports to Ray's makers
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # as on these systems: all servers listen on loopback alone
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # it has advice for those who write programs with it
}
"""The environment of a Ray of this machine alone, unless it says otherwise already."""


@contextlib.contextmanager
def joined(options: BatchOptions) -> Iterator[Any]:
    """Ray, started on this machine alone or connected to a cluster; a Ray that runs in this process stays.

    Raises:
        MissingDependencyError: Ray is not installed.
        BackendError: It does not start, or there is no such cluster.
    """
    alone = options.address is None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if alone:
        for name, value in ALONE.items():
            os.environ.setdefault(name, value)
        if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
            # Ray asks for a token from 2.59 on; this one is the job's own, and written nowhere.
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    with needs("glpn-batch", "ray"):
        import pyarrow  # noqa: F401
        import ray
        import ray.data

    ours = not ray.is_initialized()
    if ours:
        about: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if alone:
            cpus = max(os.cpu_count() or 1, 2, round((options.workers or 1) * CLAIM + 1))
            about |= {"include_dashboard": False, "num_cpus": cpus, "object_store_memory": _STORE_BYTES}
        try:
            with _hushed() if alone else contextlib.nullcontext():
                ray.init(options.address or "local", **about)
        except Exception as error:  # ConnectionError, ValueError, RuntimeError, its own
            raise BackendError(
                f"Ray did not {'start' if alone else f'find the cluster {options.address}'} ({error})",
                fix="look into /tmp/ray/session_latest/logs" if alone else "look at ray status, there",
            ) from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    # Ray 2.60's new reader of Parquet starts six actors to read footers, and gives a file to a single worker.
    context.use_datasource_v2 = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Standard error to nowhere, for Ray's C++ part, which says there that it was told to say nothing."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def worker_count(ray: Any, options: BatchOptions) -> int:
    """The workers asked for, or one for each CPU or share of a GPU that the cluster has."""
    if options.workers is not None:
        return options.workers
    have = ray.cluster_resources()
    if options.gpus_per_worker:
        return max(1, int(have.get("GPU", 0) / options.gpus_per_worker))
    return max(1, min(int(have.get("CPU", 1)), _most_workers(have.get("CPU", 1))))


def _most_workers(cpus: float) -> int:
    return int((cpus - 2 * READING["num_cpus"]) / CLAIM)


def whats_wrong(ray: Any, options: BatchOptions, workers: int, state: dict[str, Any]) -> str:
    """Why no image gets finished, as far as Ray and the ledger tell."""
    have, free = ray.cluster_resources(), ray.available_resources()
    nodes = [node for node in ray.nodes() if node["Alive"]]
    told = [
        f"{workers} workers are asked for, {state['ready']} have loaded the network; "
        f"{state['deaths']} died at work"
    ]
    for name, claim in (("CPU", CLAIM), ("GPU", options.gpus_per_worker)):
        if claim:
            told.append(f"{free.get(name, 0):g} of {have.get(name, 0):g} {name}s are unclaimed")
            if free.get(name, 0) < claim and state["ready"] < workers:
                told.append(f"a worker claims {claim:g}: other jobs hold them, or --workers is too many")
    told.append(f"{len(nodes)} machines")
    if state["under_way"]:
        told.append(f"the longest at work is the block that begins with {state['under_way'][0][1]}")
    return "; ".join(told)
