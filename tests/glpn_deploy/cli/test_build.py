"""glpn-build: what it would build is told without a GPU; without one it stops before the work."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glpn_deploy.exporters import engines
from glpn_deploy.gpu.cuda_device import CudaDevice, find_device_or_none
from glpn_deploy.gpu.tensorrt_versions import tensorrt_of
from glpn_deploy.optional import install_line

no_gpu = pytest.mark.skipif(find_device_or_none() is not None, reason="this machine has a GPU")


def test_help_teaches_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['glpn-build', '--help']\n"
        "try:\n"
        "    from glpn_deploy.cli.build import main; main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
        "heavy = {'torch', 'numpy', 'onnxruntime', 'onnx', 'PIL', 'tensorrt'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for word in ("Example", "Exit status", "--size", "--hardware-compatible", "--timing-cache", "480x640"):
        assert word in done.stdout


def test_a_dry_run_says_what_would_be_built(run: Callable, bundle_copy: Path) -> None:
    before = sorted(bundle_copy.rglob("*"))
    options = ["--size", "480x640,256x320", "--batch", "1:4", "--level", 5, "--tf32", "--workspace", 512]
    result = run("build", bundle_copy, *options, "--dry-run")
    assert result.status == 0
    name = "engines/glpn-tiny.fp32.480x640.b1-4+256x320.b1-4.tf32.trt*.sm*.engine"
    assert f"model.onnx -> {name}" in result.out
    assert "1x480x640:1x480x640:4x480x640" in result.out
    assert "level 5, workspace 512 MB, TF32 allowed" in result.out
    assert sorted(bundle_copy.rglob("*")) == before


def test_a_dry_run_for_machines(run: Callable, tiny_bundle: Path) -> None:
    spans = ["--min", "1x256x320", "--opt", "1x480x640", "--max", "4x480x640", "--profile", "1x32x64"]
    result = run("build", tiny_bundle, *spans, "--precision", "fp32", "--dry-run", "--json")
    (engine,) = json.loads(result.out)["engines"]
    assert engine["onnx"] == "model.onnx"
    assert [profile["max"] for profile in engine["profiles"]] == [[1, 32, 64], [4, 480, 640]]
    assert engine["hardware_compatibility"] == "none"


def test_a_dry_run_needs_neither_torch_nor_tensorrt(tiny_bundle: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnxruntime', 'tensorrt', 'cuda'): sys.modules[name] = None\n"
        f"sys.argv = ['glpn-build', {str(tiny_bundle)!r}, '--dry-run']\n"
        "from glpn_deploy.cli.build import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--precision", "int4"], "the option precision is 'int4'; expected one of fp32"),
        (["--precision", "fp16"], "has no fp16 artefact; expected one of those it has: fp32"),
        (["--size", "481x640"], "expected a multiple of 32 px"),
        (["--batch", "many"], "write --batch 1:4"),
        (["--min", "1x32x32"], "expected --min and --max"),
        (["--level", "6"], "--level"),
        (["--hardware-compatible", "turing"], "turing"),
        (["--workspace", "0"], "--workspace"),
        (["--tactic-sources", " , "], "expected at least one word, or the option left out"),
        (["--timing-cache", "no/such/folder/times"], "there is no folder no/such/folder"),
    ],
)
def test_wrong_use(run: Callable, tiny_bundle: Path, arguments: list[str], words: str) -> None:
    result = run("build", tiny_bundle, *arguments, "--dry-run")
    assert result.status == 2
    assert words in result.err


def test_not_a_bundle(run: Callable, tmp_path: Path) -> None:
    result = run("build", tmp_path, "--dry-run")
    assert result.status == 2
    assert "is not a bundle" in result.err


@no_gpu
@pytest.mark.parametrize("command", ["build", "export"])
def test_without_a_gpu(
    run: Callable, command: str, bundle_copy: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    before = sorted(bundle_copy.rglob("*"))
    arguments = [bundle_copy] if command == "build" else [tiny_checkpoint, tmp_path / "out", "--engine"]
    result = run(command, *arguments)
    assert result.status == 1
    assert "error: " in result.err
    assert "NVIDIA driver" in result.err
    assert result.err.count("\n") == 1
    assert sorted(bundle_copy.rglob("*")) == before
    assert not (tmp_path / "out").exists()


@pytest.fixture
def stand_in(put_engine: Callable[..., Path], bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """A build that ends with this sidecar; what is tested is what is said of it."""
    orin = CudaDevice(0, "Orin", (8, 7), 32 << 30, True, (12, 6))
    trt = tensorrt_of(types.SimpleNamespace(__version__="10.13.3"))

    def stand(parity: dict | None = None, **changed: Any) -> Path:
        about = {"layers": {"fp16": 210, "fp32": 8}, "build_s": 61.5, "parity": parity}
        engine = put_engine(bundle_copy, plan=b"plan" * 250_000, **about, **changed)
        monkeypatch.setattr(engines, "require_tensorrt", lambda opset=0: (orin, trt))
        monkeypatch.setattr(engines, "build_engine", lambda *arguments: engine)
        return engine

    return stand


def test_what_was_built_is_told(run: Callable, bundle_copy: Path, stand_in: Callable) -> None:
    report = {"reference": {"backend": "golden"}, "cases": [{"max_abs_m": 0.0021}, {"max_abs_m": 0.004}]}
    parity = {"passed": True, "reports": [report], "not_checked": {"4x480x640": "too large to compare"}}
    engine = stand_in(parity)
    result = run("build", bundle_copy)
    assert result.status == 0
    assert str(engine) in result.out
    assert "1.0 MB, built in 62 s with TensorRT 10.3.0 for Orin (sm 8.7)" in result.out
    assert "layers: 210 fp16, 8 fp32" in result.out
    assert "✓ 2 batches against golden: at most 0.004 m off" in result.out
    assert "not verified at 4x480x640: too large to compare" in result.out
    for following in ("glpn-verify", "glpn-predict", "glpn-bench"):
        assert f"  {following} {bundle_copy}" in result.out
    assert "warns" not in result.out
    (told,) = json.loads(run("build", bundle_copy, "--json").out)["engines"]
    assert (told["path"], told["layers"], told["parity"]) == (str(engine), {"fp16": 210, "fp32": 8}, parity)


def test_the_line_to_predict_with_asks_for_what_was_built(
    run: Callable, bundle_copy: Path, plant: Callable, stand_in: Callable
) -> None:
    plant(bundle_copy, "fp16")
    stand_in()
    result = run("build", bundle_copy)  # FP16 by default, which precision auto of glpn-predict is not
    assert f"  glpn-predict {bundle_copy} photo.jpg --backend tensorrt --precision fp16\n" in result.out
    several = run("build", bundle_copy, "--precision", "fp32", "--precision", "fp16").out
    assert "--backend tensorrt --precision fp32\n" in several


def test_what_tensorrt_told_is_shown(run: Callable, bundle_copy: Path, stand_in: Callable) -> None:
    warnings = tuple(f"[MemUsage] number {n}" for n in range(7))
    stand_in(warnings=warnings, device_memory_bytes=123_456_789)
    out = run("build", bundle_copy).out
    assert "device memory: 123.5 MB to run in" in out
    assert out.count("TensorRT warns: [MemUsage] number") == 5
    assert "and 2 warnings more, in the sidecar" in out


def test_an_empty_proof_is_told(run: Callable, bundle_copy: Path, stand_in: Callable) -> None:
    why = f"no golden has this shape, and ONNX Runtime is not installed ({install_line('cpu')})"
    parity = {"passed": None, "reports": [], "not_checked": {"1x64x96": why}}
    stand_in(parity)
    out = run("build", bundle_copy).out
    assert "nothing was compared: whether its depth is right is not known" in out
    assert f"not verified at 1x64x96: {why}" in out


def test_what_was_not_verified_is_told(run: Callable, bundle_copy: Path, stand_in: Callable) -> None:
    stand_in()
    assert "not verified: --no-verify was given" in run("build", bundle_copy, "--no-verify").out


def test_export_goes_on_to_the_engine(
    run: Callable, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_in: Callable
) -> None:
    asked = []
    engine = stand_in()

    def build_engine(folder, precision, **options):
        asked.append((folder, precision, options["verify"]))
        return engine

    monkeypatch.setattr(engines, "build_engine", build_engine)
    result = run("export", tiny_checkpoint, tmp_path / "out", "--engine", "--no-verify")
    assert result.status == 0
    assert asked == [(tmp_path / "out", "fp32", False)]
    assert str(engine) in result.out
