"""Engines that glpn-export could not build are refused before the long work, with advice that helps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from glpn_deploy.exporters import engines
from glpn_deploy.gpu.cuda_device import CudaDevice

ORIN, A100, TURING = (
    CudaDevice(0, name, sm, 32 << 30, sm == (8, 7), (12, 6))
    for name, sm in (("Orin", (8, 7)), ("A100", (8, 0)), ("T4", (7, 5)))
)


@pytest.fixture
def export(
    no_work: None,
    run: Callable,
    tiny_checkpoint: Path,
    tmp_path: Path,
    tensorrt_stand_in: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable:
    """``glpn-export --engine`` on a machine; the work itself would fail the test."""

    def call(version: str, device: CudaDevice, *arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(engines, "find_device", lambda: device)
        monkeypatch.setattr(engines, "import_tensorrt", lambda: tensorrt_stand_in(version))
        result = run("export", tiny_checkpoint, tmp_path / "b", "--engine", *arguments)
        assert not list(tmp_path.iterdir())
        assert result.err.count("error:") == 1
        return result.status, result.err

    return call


@pytest.mark.parametrize(
    ("version", "device", "arguments", "status", "says"),
    [
        ("10.3.0", ORIN, ["--bf16"], 2, "bf16 takes opset 22, and TensorRT 10.3.0 reads up to 20"),
        ("10.3.0", ORIN, ["--bf16"], 2, "expected TensorRT 11 or later; leave out --bf16, or --engine and"),
        ("10.3.0", ORIN, ["--bf16", "--opset", 25], 2, "bf16 takes opset 22"),  # 17 would not help
        ("8.6.0", ORIN, ["--fp8"], 2, "fp8 takes opset 19, and TensorRT 8.6.0 reads up to 17"),
        ("8.6.0", ORIN, ["--fp16", "--fp8"], 2, "expected TensorRT 10 or later; leave out --fp8"),
        ("8.6.0", ORIN, ["--fp16", "--opset", 20], 2, "opset 20, which TensorRT 8.6.0 does not read"),
        ("10.13.3", A100, ["--fp8"], 1, "A100 (compute capability 8.0) has no FP8"),
        ("11.4.0", TURING, ["--bf16"], 1, "T4 (compute capability 7.5) has no BF16"),
        ("11.4.0", TURING, ["--bf16"], 1, "leave out --bf16, or --engine and build it elsewhere"),
        ("10.13.3", ORIN, ["--int8", "--target", "cpu"], 2, "leave out --target cpu, or --engine"),
        (
            "10.3.0",
            ORIN,
            ["--fp16", "--no-verify"],
            2,
            "--no-verify with TensorRT 10.3.0 and fp16: TensorRT 10.3",
        ),
        ("10.3.0", ORIN, ["--fp16", "--no-verify"], 2, "leave out --no-verify"),
    ],
)
def test_engines_that_cannot_be_built_here(
    export: Callable, version: str, device: CudaDevice, arguments: list[object], status: int, says: str
) -> None:
    found, error = export(version, device, *arguments)
    assert says in error
    assert found == status


@pytest.mark.parametrize(
    ("version", "device", "arguments"),
    [
        ("8.6.0", TURING, ["--fp16", "--no-verify"]),
        ("10.3.0", ORIN, ["--fp16"]),  # the engine is compared with the reference
        ("10.3.0", ORIN, ["--no-verify"]),  # FP32, of which nothing is known there
        ("11.4.0", A100, ["--bf16", "--opset", 25]),
    ],
)
def test_those_that_can_be_are_left_to_the_export(
    export: Callable, version: str, device: CudaDevice, arguments: list[object]
) -> None:
    with pytest.raises(pytest.fail.Exception, match="the work had begun"):
        export(version, device, *arguments)
