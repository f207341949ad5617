"""A real tritonserver on loopback, and NVIDIA's client, both from wheels that pytest's cache keeps."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from glpn_deploy.benchmarks.claims.triton_server import CLIENT, SERVER, fetch, serving, why_not
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.bundle.engine_profile import parse_profiles
from glpn_deploy.bundle.engine_sidecar import read_sidecar
from glpn_deploy.bundle.engine_trust import remember_engine
from glpn_deploy.errors import BackendError
from glpn_deploy.scale.triton.options import ServeOptions
from glpn_deploy.scale.triton.writing import write_repository

SHAPE = (64, 96)
Client = Callable[..., subprocess.CompletedProcess]


class Server(NamedTuple):
    url: str
    grpc: str
    process: int
    log: Path
    repository: Path

    def batches(self) -> list[int]:
        """Sizes of the batches that the stand-in for ONNX Runtime has run."""
        return [int(size) for size in re.findall(r"BATCH of (\d+)", self.log.read_text(errors="replace"))]


def fetched(config: pytest.Config, name: str, packages: tuple[str, ...]) -> Path:
    try:
        return fetch(Path(config.cache.mkdir("triton")) / name, packages)
    except BackendError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def server(
    pytestconfig: pytest.Config, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with all models of the tiny bundle, ready; where it cannot be, the test is skipped."""
    if why_not():
        pytest.skip(f"no tritonserver here: {why_not()}")
    packages = fetched(pytestconfig, "server-0.7.0", SERVER)
    work = tmp_path_factory.mktemp("triton")
    options = ServeOptions(shape=SHAPE, batch=4, instances=1, queue_delay_ms=50)
    write_repository(Bundle.open(tiny_bundle), work / "models", options)
    stand_in = {"onnxruntime": Path(__file__).parent / "onnxruntime_stand_in"}
    with serving(packages, work / "models", work, stand_in) as (url, grpc, process):
        yield Server(url, grpc, process, work / "server.log", work / "models")


@pytest.fixture(scope="session")
def client(pytestconfig: pytest.Config) -> Client:
    """Runs Python with NVIDIA's client installed."""
    packages = fetched(pytestconfig, "client", CLIENT)

    def run(*arguments: object) -> subprocess.CompletedProcess:
        path = os.pathsep.join((str(packages), *filter(None, [os.environ.get("PYTHONPATH")])))
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": path},
        )

    return run


@pytest.fixture
def engine(bundle_copy, put_engine):
    """Writes an engine of the bundle that nothing but its sidecar says anything of."""

    def write(mine: bool = True, **changes) -> Path:
        plan = str(bundle_copy).encode()  # each test's its own, since who built them is remembered
        values = {"gpu": "NVIDIA L4", "sm": "8.9", "profiles": parse_profiles(["96x128"], "1:2:6")}
        path = put_engine(bundle_copy, "x.engine", plan, **(values | changes))
        if mine:
            remember_engine(read_sidecar(path))
        return path

    return write
