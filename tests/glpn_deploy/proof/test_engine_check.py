"""Engines of a bundle: damage is a failure everywhere, another machine's engine is not run and said so."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glpn_deploy.bundle.bundle import Bundle, write_manifest
from glpn_deploy.bundle.engine_profile import Profile
from glpn_deploy.bundle.engine_sidecar import (
    current_platform,
    read_sidecar,
    sidecar_path,
)
from glpn_deploy.bundle.engine_trust import remember_engine
from glpn_deploy.cli.verify import main
from glpn_deploy.errors import BackendError, EngineError, ParityError
from glpn_deploy.gpu.cuda_device import CudaDevice
from glpn_deploy.proof import engine_check
from glpn_deploy.proof.findings import Verification
from glpn_deploy.proof.options import VerifyOptions
from glpn_deploy.proof.verification import verify
from glpn_deploy.runtimes import rt_tensorrt
from glpn_deploy.runtimes.base import RuntimeOptions
from glpn_deploy.runtimes.registry import load_runtime
from tests.refusals import refused

pytestmark = pytest.mark.usefixtures("short_sweep")

CPU, GPU = RuntimeOptions(device="cpu", threads=1), RuntimeOptions(threads=1)
A6000 = CudaDevice(0, "NVIDIA RTX A6000", (8, 6), 48 << 30, False, (12, 6))
ORIN = CudaDevice(0, "Orin", (8, 7), 32 << 30, True, (12, 6))


@pytest.fixture
def engine(put_engine: Callable[..., Path], bundle_copy: Path) -> Path:
    """A whole engine that was built of the bundle's FP32 file on an A6000; its plan is no plan."""
    path = put_engine(
        bundle_copy,
        plan=b"a plan" * 100,
        gpu=A6000.name,
        sm="8.6",
        platform=current_platform(),
        profiles=(Profile((1, 32, 32), (1, 96, 320), (2, 96, 320)),),
    )
    remember_engine(read_sidecar(path))
    return path


def folder_of(engine: Path) -> Path:
    return engine.parent.parent


def check(engine: Path, options: RuntimeOptions = GPU, **kwargs: Any) -> Verification:
    return verify(folder_of(engine), VerifyOptions(runtime=options, **kwargs))


def edit(engine: Path, /, **changes: Any) -> None:
    path = sidecar_path(engine)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# What cannot be run here ----------------------------------------------------------------------------------


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_device() -> CudaDevice:
        raise BackendError("there is no NVIDIA driver", fix="install it")

    monkeypatch.setattr(engine_check, "find_device", find_device)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tensorrt_stand_in: Callable[[str], Any]) -> Callable[..., None]:
    """Makes this the machine with a GPU and a TensorRT."""

    def become(device: CudaDevice = A6000, tensorrt: str = "10.3.0") -> None:
        module = tensorrt_stand_in(tensorrt)
        monkeypatch.setattr(engine_check, "find_device", lambda: device)
        monkeypatch.setattr(rt_tensorrt, "import_tensorrt", lambda: module)

    return become


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_a_whole_engine_is_not_run_and_no_failure(engine: Path) -> None:
    found = check(engine)
    assert found.passed
    assert not found.complete
    (item,) = found.not_run
    assert (item.file, item.precision) == ("engines/net.engine", "fp32")
    assert item.reason == "there is no NVIDIA driver; install it"
    found.require()
    assert [report.candidate["backend"] for report in found.reports] == ["onnxruntime"]


def test_the_cpu_is_no_place_for_engines(engine: Path) -> None:
    (item,) = check(engine, CPU).not_run
    assert "TensorRT runs on NVIDIA GPUs only" in item.reason


@pytest.mark.parametrize(
    ("device", "tensorrt", "reason"),
    [
        (ORIN, "10.3.0", "was built for NVIDIA RTX A6000 .* this GPU is Orin"),
        (A6000, "8.6.0", "was built with TensorRT 10.3.0; this is TensorRT 8.6.0"),
    ],
)
def test_another_machine_s_engine_is_not_run(
    device: CudaDevice, tensorrt: str, reason: str, engine: Path, machine: Callable[..., None]
) -> None:
    machine(device, tensorrt)
    found = check(engine)
    assert found.passed
    (item,) = found.not_run
    assert re.search(reason, item.reason)
    assert "glpn-build" in item.reason


@pytest.mark.usefixtures("no_gpu")
def test_only_engines_of_the_precisions_asked_for(engine: Path, plant: Callable[..., Path]) -> None:
    plant(folder_of(engine), "int8", 1.001)
    assert not check(engine, precisions=("int8",), sweep=False).not_run
    assert len(check(engine, precisions=("fp32",), sweep=False).not_run) == 1


# Damage ----------------------------------------------------------------------------------------------------


def truncate(engine: Path) -> None:
    engine.write_bytes(engine.read_bytes()[:-1])


def flip_a_bit(engine: Path) -> None:
    content = bytearray(engine.read_bytes())
    content[7] ^= 1
    engine.write_bytes(content)


def another_checkpoint(engine: Path) -> None:
    edit(engine, onnx_sha256="ab" * 32)


DAMAGE = {
    "truncated": (truncate, "has 599 bytes; expected 600"),
    "a bit": (flip_a_bit, "changed since it was built"),
    "no sidecar": (lambda engine: sidecar_path(engine).unlink(), "has no sidecar"),
    "no JSON": (lambda engine: sidecar_path(engine).write_text("{"), "is not JSON"),
    "no profile": (lambda engine: edit(engine, profiles=[]), "profiles"),
    "renamed": (lambda engine: edit(engine, engine="other.engine"), "is the sidecar of other.engine"),
    "another ONNX": (another_checkpoint, "was built from another model.onnx"),
    "no such ONNX": (lambda engine: edit(engine, precision="fp16"), "this bundle does not have"),
}


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_engine_is_a_failure_even_without_a_gpu(damage: str, engine: Path) -> None:
    harm, reason = DAMAGE[damage]
    harm(engine)
    found = check(engine)
    assert not found.passed
    assert found.reports[0].passed  # all else was checked
    (broken,) = found.broken
    assert broken.file == "engines/net.engine"
    assert "glpn-build" in broken.reason
    with refused(ParityError, got=("engines/net.engine cannot be used", reason)) as caught:
        found.require()
    assert caught.value.exit_code == 1
    assert found.to_dict()["broken"] == [{"file": "engines/net.engine", "reason": broken.reason}]


def test_a_plan_that_tensorrt_does_not_take_is_a_failure(
    engine: Path, machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise EngineError("TensorRT does not take it")

    machine()
    monkeypatch.setattr(engine_check, "load_runtime", refuse)
    assert [item.reason for item in check(engine).broken] == ["TensorRT does not take it"]


# What runs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, 0.01])
def test_an_engine_that_runs_is_held_to_its_profile(
    shift: float,
    engine: Path,
    bundle_copy: Path,
    plant: Callable[..., Path],
    machine: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ONNX Runtime stands in for the engine: with the bundle's own graph, and with one 1 cm off."""
    machine()
    manifest = Bundle.open(bundle_copy).manifest
    plant(bundle_copy, "int8", 1.0, shift)
    moved = bundle_copy / "model.int8.onnx"
    write_manifest(bundle_copy, dataclasses.replace(manifest, files={}))
    monkeypatch.setattr(
        engine_check, "load_runtime", lambda name, path, options: load_runtime("onnxruntime", moved, CPU)
    )
    found = check(engine)
    full, goldens, shapes = found.reports
    assert full.passed
    assert not found.broken
    for report in (goldens, shapes):
        assert report.candidate["file"] == "engines/net.engine"
        assert report.passed is (shift == 0)
    assert {case.shape for case in goldens.cases} == {(1, 96, 320), (2, 96, 320)}
    assert {(1, 32, 32), (2, 96, 320)} <= {case.shape for case in shapes.cases}
    assert found.passed is (shift == 0)


@pytest.mark.usefixtures("no_gpu")
def test_the_command_says_it(
    engine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def status() -> int:
        monkeypatch.setattr("sys.argv", ["glpn-verify", str(folder_of(engine)), "--no-sweep"])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    assert status() == 0
    out = capsys.readouterr().out
    assert "not checked here: engines/net.engine (fp32): there is no NVIDIA driver" in out
    assert "The check is incomplete" in out
    flip_a_bit(engine)
    assert status() == 1
    assert "broken: engines/net.engine" in capsys.readouterr().out
