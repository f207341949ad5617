"""What the GPU tests share: bundles made beforehand, engines built once, and the JSON report.

This runs on a Python that has TensorRT and neither torch nor ONNX Runtime; see README.md in this folder.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glpn_deploy.benchmarks.claims.gpu_bundles import DEMO, NYU, PRECISIONS, PROFILE, golden
from glpn_deploy.errors import BackendError
from glpn_deploy.gpu.cuda_device import CudaDevice, find_device, find_device_or_none
from glpn_deploy.proof.parity import Batch

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PREPARE = "python -m glpn_deploy.benchmarks.claims.gpu_bundles"
REPORT = "report.json"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gpu")
    group.addoption("--bundles", type=Path, default=None, help=f"folder that `{PREPARE}` wrote")
    group.addoption("--report", type=Path, default=None, help=f"folder for {REPORT}")
    group.addoption("--tactic-sources", default=None, help="as of glpn-build; separated by commas")
    group.addoption("--reuse-engines", action="store_true", help="take engines of an earlier run")


def option(config: pytest.Config, name: str) -> Any:
    """An option, or None where this file was read too late to add it (`pytest` in the root)."""
    return config.getoption(name, default=None)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RESULTS] = {}


RESULTS: pytest.StashKey[dict[str, dict[str, Any]]] = pytest.StashKey()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mine = [item for item in items if HERE in item.path.parents]
    reason = missing()
    for item in mine:
        item.add_marker(pytest.mark.gpu)
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


def missing() -> str | None:
    """Why these tests cannot run here, or None."""
    try:
        find_device()
    except BackendError as error:
        return str(error)
    if importlib.util.find_spec("tensorrt") is None:
        return 'there is a GPU, but tensorrt is not installed (pip install "glpn-deploy[tensorrt]")'
    return None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, None]:
    outcome = yield
    report = outcome.get_result()
    if HERE not in item.path.parents:
        return
    results = item.config.stash.setdefault(RESULTS, {})
    entry = results.setdefault(item.name, {"outcome": "passed", "seconds": 0.0})
    entry["seconds"] += report.duration
    entry["figures"] = dict(item.user_properties)
    if report.outcome != "passed":
        entry["outcome"] = "error" if report.failed and report.when != "call" else report.outcome
        entry["reason"] = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else call.excinfo)[
            :2000
        ]


def pytest_sessionfinish(session: pytest.Session) -> None:
    folder, results = option(session.config, "--report"), session.config.stash.get(RESULTS, {})
    if folder is None or not results:
        return
    outcomes = [entry["outcome"] for entry in results.values()]
    report = {
        "format": "glpn-deploy-gpu-tests",
        "format_version": 1,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "environment": environment(),
        "summary": {name: outcomes.count(name) for name in ("passed", "failed", "error", "skipped")},
        "tests": results,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / REPORT
    path.write_text(json.dumps(report, indent=2, default=str) + "\n", encoding="utf-8")
    print(f"\n{path}")


def environment() -> dict[str, Any]:
    """GPU, driver and versions."""
    device = find_device_or_none()
    versions = {"python": platform.python_version()}
    for name in ("tensorrt", "numpy", "onnx"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    driver = Path("/proc/driver/nvidia/version")
    return {
        "gpu": None if device is None else device.name,
        "sm": None if device is None else device.capability,
        "memory_bytes": None if device is None else device.memory_bytes,
        "driver_cuda": None if device is None else device.cuda,
        "driver": driver.read_text(encoding="utf-8").partition("\n")[0] if driver.is_file() else None,
        "versions": versions,
    }


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Keeps figures for the report."""

    def keep(**figures: Any) -> None:
        request.node.user_properties.extend(figures.items())

    return keep


@pytest.fixture(scope="session")
def device() -> CudaDevice:
    return find_device()


@pytest.fixture(scope="session")
def trt() -> Any:
    from glpn_deploy.gpu.tensorrt_versions import import_tensorrt

    return import_tensorrt()


@pytest.fixture(scope="session")
def cuda(device: CudaDevice) -> Any:
    """CUDA's driver, in this thread."""
    from glpn_deploy.runtimes.engine.cuda_memory import Cuda

    cuda = Cuda(device.index)
    cuda.use()
    return cuda


@pytest.fixture(scope="session")
def prepared(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of bundles and goldens; where none is named, the demo network's are made here with torch."""
    given: Path | None = option(pytestconfig, "--bundles")
    if given is not None:
        return given
    if importlib.util.find_spec("torch") is None:
        pytest.skip(f"no bundles: make them where torch is ({PREPARE} DIR), and pass --bundles DIR")
    folder = tmp_path_factory.mktemp("gpu")
    command = [sys.executable, "-m", "glpn_deploy.benchmarks.claims.gpu_bundles", str(folder)]
    subprocess.run([*command, "--only", DEMO], check=True, cwd=ROOT)
    return folder


@pytest.fixture(scope="session")
def bundle(prepared: Path) -> Callable[[str], Path]:
    """A network's bundle of the tests' own, by links, so that what they build is not benchmarked."""

    def find(network: str) -> Path:
        if not (prepared / network).is_dir():
            pytest.skip(f"{prepared} has no {network}; {PREPARE} {prepared} makes it")
        place = prepared / "tested" / network
        if not place.is_dir():
            left_out = shutil.ignore_patterns("engines")
            shutil.copytree(prepared / network, place, copy_function=link, ignore=left_out)
        return place

    return find


def link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)


@pytest.fixture(scope="session")
def sources(pytestconfig: pytest.Config) -> tuple[str, ...] | None:
    given = option(pytestconfig, "--tactic-sources")
    return tuple(given.split(",")) if given else None


@pytest.fixture(scope="session")
def engine(
    bundle: Callable[[str], Path],
    sources: tuple[str, ...] | None,
    device: CudaDevice,
    trt: Any,
    pytestconfig: pytest.Config,
) -> Callable[[str, str], Path]:
    """The engine of a network and precision over `PROFILE`, built when it is first asked for."""
    from glpn_deploy.exporters.engines import build_engine, plan_engine
    from glpn_deploy.exporters.to_engine import EngineOptions
    from glpn_deploy.gpu.tensorrt_versions import known_problem, tensorrt_of

    about = tensorrt_of(trt)
    built: dict[tuple[str, str], Path | BaseException] = {}

    def build(network: str, precision: str) -> Path:
        folder = bundle(network)
        options = EngineOptions(
            profiles=(PROFILE,),
            precision=precision,
            timing_cache=folder.parent / "timing.cache",
            tactic_sources=sources,
        )
        name = plan_engine(folder, precision, options).file_name(about.text, device.capability)
        path = folder / "engines" / name
        if option(pytestconfig, "--reuse-engines") and path.is_file():
            return path
        # Parity has a test of its own, which must see an engine that is wrong, too.
        verify = known_problem(about.version, precision, device.sm) is not None
        return build_engine(folder, precision, options, verify=verify)

    def get(network: str, precision: str) -> Path:
        key = network, precision
        if key not in built:
            try:
                built[key] = build(network, precision)
            except Exception as error:  # raised again below: nothing is built twice
                built[key] = error
        found = built[key]
        if isinstance(found, BaseException):
            raise found
        return found

    return get


@pytest.fixture
def load(engine: Callable[[str, str], Path]) -> Iterator[Callable[..., Any]]:
    """A loaded engine, closed at the end of the test."""
    from glpn_deploy.runtimes.base import RuntimeOptions
    from glpn_deploy.runtimes.registry import load_runtime

    loaded: list[Any] = []

    def open_engine(network: str = DEMO, precision: str = "fp16") -> Any:
        runtime = load_runtime("tensorrt", engine(network, precision), RuntimeOptions(device="cuda"))
        loaded.append(runtime)
        return runtime

    yield open_engine
    for runtime in loaded:
        runtime.close()


@pytest.fixture(scope="session")
def goldens(prepared: Path) -> Callable[..., Batch]:
    """A batch with its reference depth: ``goldens(network, (n, height, width))``."""
    known: dict[tuple[str, tuple[int, int, int]], Batch] = {}

    def get(network: str = DEMO, shape: tuple[int, int, int] = (1, 480, 640)) -> Batch:
        if (network, shape) not in known:
            known[network, shape] = golden(prepared, network, shape)
        return known[network, shape]

    return get


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    """``(480, 640, 3)`` uint8, a rendered room."""
    from glpn_deploy.datasets.rooms import render_room
    from glpn_deploy.proof.parity import VERIFICATION_SEED

    return render_room(VERIFICATION_SEED, 480, 640).image


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every precision of both networks; the large one's take minutes to build."""
    if "network" in metafunc.fixturenames:
        marks = {DEMO: (), NYU: (pytest.mark.slow,)}
        networks = [pytest.param(name, marks=marks[name]) for name in (DEMO, NYU)]
        metafunc.parametrize("network", networks, scope="session")
    if "precision" in metafunc.fixturenames:
        metafunc.parametrize("precision", PRECISIONS, scope="session")
