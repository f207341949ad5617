"""glpn-build --rtx and --explain, for real where NVIDIA's compiler for RTX cards is installed."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from glpn_deploy.bundle.engine_sidecar import ENGINES, read_sidecar, sidecar_path
from glpn_deploy.gpu.cuda_device import find_device_or_none
from glpn_deploy.optional import install_line
from glpn_deploy.reading import file_digest

no_gpu = pytest.mark.skipif(find_device_or_none() is not None, reason="this machine has a GPU")


def test_a_dry_run_needs_no_compiler(
    run: Callable, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = run("build", tiny_bundle, "--rtx", "--dry-run", "--json")
    (engine,) = json.loads(result.out)["engines"]
    assert engine["engine"].endswith("fp32.480x640.b1.rtx*.sm80-86-89-120.engine")
    assert engine["targets"] == ["8.0", "8.6", "8.9", "12.0"]
    missing = run("build", tiny_bundle, "--rtx")
    assert (missing.status, install_line("rtx") in missing.err) == (2, True)


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--sm", "89"], 2, "--sm without --rtx"),
        (["--rtx", "--sm", "90"], 2, "some of 75, 80, 86, 89, 120, 121"),
        (["--rtx", "--sm", "75"], 1, "compute capability 7.5 has no FP32"),
        (["--rtx", "--strip"], 2, "--strip with TensorRT for RTX"),
        (["--rtx", "--workspace", "64"], 2, "--workspace with TensorRT for RTX"),
        (["--rtx", "--hardware-compatible", "ampere"], 2, "--hardware-compatible with TensorRT for RTX"),
    ],
)
def test_refusals(run: Callable, tiny_bundle: Path, options: list[str], status: int, words: str) -> None:
    result = run("build", tiny_bundle, *options)
    assert (result.status, words in result.err) == (status, True)
    assert not (tiny_bundle / ENGINES).exists()


@no_gpu
@pytest.mark.usefixtures("rtx_compiler")
def test_an_engine_is_built_without_a_gpu(run: Callable, bundle_copy: Path) -> None:
    result = run("build", bundle_copy, "--rtx", "--sm", "89,120", "--size", "96x128", "--json")
    assert result.status == 0, result.err
    (engine,) = (bundle_copy / ENGINES).glob("*.engine")
    assert engine.name.startswith("glpn-tiny.fp32.96x128.b1.rtx1.")
    assert engine.name.endswith(".sm89-120.engine")
    sidecar = read_sidecar(engine)
    assert (sidecar.backend, sidecar.targets) == ("tensorrt_rtx", ("8.9", "12.0"))
    assert (sidecar.gpu, sidecar.sm, sidecar.cuda) == ("", None, "")
    assert (sidecar.sha256, sidecar.bytes) == (file_digest(engine), engine.stat().st_size)
    assert sidecar.parity is None
    assert "no GPU here that it runs on" in result.err
    assert json.loads(result.out)["engines"][0]["path"] == str(engine)
    said = run("predict", bundle_copy, bundle_copy / "golden" / "0.png", "--backend", "tensorrt_rtx")
    assert (said.status, "driver" in said.err) == (1, True)
    values = json.loads(sidecar_path(engine).read_text())
    sidecar_path(engine).write_text(json.dumps({**values, "sm": "8.9"}))
    assert "targets for tensorrt_rtx, else sm" in run("predict", engine, bundle_copy / "golden" / "0.png").err


@no_gpu
@pytest.mark.usefixtures("rtx_compiler")
def test_graphs_are_explained(run: Callable, tiny_bundle: Path) -> None:
    shown = run("build", tiny_bundle, "--explain")
    assert shown.status == 0, shown.err
    for word in ("compute capability 8.9", "kernels", "traffic", "matrix product", "Heaviest of model.onnx"):
        assert word in shown.out
    options = ["--explain", "--sm", "120", "--size", "64x96", "--json"]
    result = run("build", tiny_bundle / "model.onnx", *options)
    (explained,) = json.loads(result.out)["explained"]
    assert explained["shape"] == "1x64x96"
    assert "12.0" in explained["target"]
    assert explained["traffic_bytes"] == sum(k["traffic_bytes"] for k in explained["kinds"].values()) > 1e6
    assert explained["weights_bytes"] < explained["plan_bytes"]
    refused = run("build", tiny_bundle / "model.onnx", "--explain", "--precision", "fp16")
    assert refused.status == 2
    assert not (tiny_bundle / ENGINES).exists()
