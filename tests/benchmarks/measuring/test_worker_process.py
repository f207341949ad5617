"""The worker's pipe: answers, errors, noise, death and silence."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest

from glpn_deploy.benchmarks.measuring.worker import peak_memory_mib, time_calls
from glpn_deploy.benchmarks.measuring.worker_process import WorkerProcess
from glpn_deploy.benchmarks.workload.cases import Case
from glpn_deploy.errors import BackendError
from tests.refusals import refused


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> str:
    from PIL import Image

    path = tmp_path_factory.mktemp("images") / "0.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 64, 3), np.uint8)).save(path)
    return str(path)


@pytest.fixture
def worker():
    with WorkerProcess() as process:
        yield process


def test_it_loads_runs_and_gives_its_outputs(worker, image, tmp_path) -> None:
    case = Case(backend="null", precision="fp32", batch=2, height=40, width=64, images=(image,), delay_ms=5.0)
    loaded = worker.ask("load", case=dataclasses.asdict(case))
    assert loaded["network_size"] == [32, 64]
    assert loaded["first_call_s"] >= 0.005
    reply = worker.ask("run", runs=3, warm_up=1, turn=0)
    assert len(reply["samples_ms"]) == 3
    assert len(reply["warm_up_ms"]) == 1
    assert min(reply["samples_ms"]) >= 5
    assert reply["peak_mib"] > 10
    worker.ask("outputs", path=str(tmp_path / "o.npy"))
    assert np.load(tmp_path / "o.npy").shape == (1, 32, 64)
    stages = worker.ask("stages", turn=0)
    assert set(stages) == {"decode", "preprocess", "postprocess"}
    assert min(stages.values()) > 0
    assert worker.ask("operators") == {}  # which the null backend does not tell


def test_an_error_is_a_sentence_and_the_worker_goes_on(worker, image) -> None:
    case = Case(
        backend="onnxruntime",
        precision="fp32",
        batch=1,
        height=40,
        width=64,
        path="/nowhere.onnx",
        images=(image,),
    )
    with refused(BackendError, got="no file /nowhere.onnx"):
        worker.ask("load", case=dataclasses.asdict(case))
    assert len(worker.ask("overhead", runs=10)) == 10


def test_a_death_is_told_with_its_signal(worker) -> None:
    worker._process.kill()
    with refused(BackendError, got="SIGKILL, as the system does when memory runs out"):
        worker.ask("overhead", runs=1)


def test_silence_ends_at_the_limit(worker, image) -> None:
    case = Case(
        backend="null", precision="fp32", batch=1, height=40, width=64, images=(image,), delay_ms=200.0
    )
    worker.ask("load", case=dataclasses.asdict(case))
    with refused(BackendError, got="did not answer within 0 s"):
        worker.ask("run", 0.3, runs=50, warm_up=0, turn=0)


def test_calls_take_their_turns() -> None:
    turns: list[int] = []
    assert len(time_calls(turns.append, 3, 5)) == 3
    assert turns == [5, 6, 7]


def test_memory_is_told_in_mib() -> None:
    import psutil

    held = np.ones(50 * 2**20, np.uint8)
    assert peak_memory_mib() >= 0.99 * psutil.Process().memory_info().rss / 2**20
    assert peak_memory_mib() < 100 * 2**10
    assert held.sum() > 0


def test_another_python_runs_the_worker(tmp_path) -> None:
    """As where TensorRT belongs to one Python and torch to another."""
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\necho "the other one" >&2\nexec "{sys.executable}" "$@"\n')
    other.chmod(0o755)
    with WorkerProcess(str(other)) as worker:
        assert len(worker.ask("overhead", runs=3)) == 3
        worker._stderr.seek(0)
        assert b"the other one" in worker._stderr.read()


def test_a_python_that_is_none_is_named() -> None:
    with refused(BackendError, got="/no/such/python does not start"):
        WorkerProcess("/no/such/python")
