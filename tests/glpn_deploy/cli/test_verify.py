"""glpn-verify: whole and right is 0, moved is 1, damaged is 2."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from glpn_deploy.bundle.bundle import Bundle, write_manifest
from glpn_deploy.bundle.engine_profile import Profile
from glpn_deploy.optional import install_line
from glpn_deploy.proof import engine_check, parity
from glpn_deploy.reading import file_digest
from glpn_deploy.runtimes import rt_tensorrt


def test_a_good_bundle(run: Callable, tiny_bundle: Path) -> None:
    result = run("verify", tiny_bundle)
    assert result.status == 0
    assert "model.onnx: 3 batches, worst golden/" in result.out
    assert " mm off (0.1 mm allowed)" in result.out
    assert "✓ golden/" not in result.out
    assert run("verify", tiny_bundle, "-v").out.count("✓ golden/") == 3
    assert "The depth is the reference's." in result.out


def test_against_the_checkpoint(run: Callable, tiny_bundle: Path, tiny_checkpoint: Path) -> None:
    result = run("verify", tiny_bundle, "--reference", tiny_checkpoint, "--json")
    report = json.loads(result.out)
    assert result.status == 0
    assert report["passed"]
    assert [r["reference"]["backend"] for r in report["reports"]] == ["golden", "torch"]
    shapes = [tuple(case["shape"]) for case in report["reports"][1]["cases"]]
    assert {batch for batch, _, _ in shapes} == {1, 2, 3}
    assert (1, 32, 32) in shapes
    assert (1, 480, 640) in shapes


def test_an_onnx_file_of_other_software(run: Callable, foreign_onnx: Path, tiny_checkpoint: Path) -> None:
    result = run("verify", foreign_onnx, "--reference", tiny_checkpoint)
    assert result.status == 0
    assert "parity: 1 of 1 within 0.0001 m" in result.out + result.err
    assert "The depth is the reference's. Worst: model.onnx at 1x64x96:" in result.out
    result = run("verify", foreign_onnx)
    assert result.status == 2
    assert "--reference CHECKPOINT" in result.err


def test_the_worst_image_of_another_file(
    run: Callable, foreign_onnx: Path, make_model: Callable, tmp_path: Path
) -> None:
    make_model(seed=1).save_pretrained(tmp_path / "other")
    picture = tmp_path / "worst.png"
    result = run("verify", foreign_onnx, "--reference", tmp_path / "other", "--error-map", picture)
    assert result.status == 1
    assert Image.open(picture).size[0] > 96


def test_without_torch(tiny_bundle: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'safetensors', 'transformers'): sys.modules[name] = None\n"
        f"sys.argv = ['glpn-verify', {str(tiny_bundle)!r}]\n"
        "from glpn_deploy.cli.verify import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_depth_that_moved_is_status_1(run: Callable, bundle_copy: Path) -> None:
    bundle = Bundle.open(bundle_copy)
    path = bundle_copy / bundle.manifest.goldens[0].depth
    np.save(path, np.load(path) + np.float32(0.01))
    write_manifest(bundle_copy, bundle.manifest)
    result = run("verify", bundle_copy, "--json")
    assert result.status == 1
    assert not json.loads(result.out)["passed"]
    assert "differs by up to 0.01" in result.err


def test_a_changed_file_is_refused(run: Callable, bundle_copy: Path) -> None:
    with (bundle_copy / "model.onnx").open("r+b") as file:
        file.seek(1000)
        file.write(b"\xff")
    result = run("verify", bundle_copy)
    assert result.status == 2
    assert "SHA-256 differs" in result.err


def test_a_manifest_that_points_outside(run: Callable, bundle_copy: Path) -> None:
    path = bundle_copy / "manifest.json"
    path.write_text(path.read_text().replace('"model.onnx"', '"../model.onnx"'))
    result = run("verify", bundle_copy)
    assert result.status == 2
    assert "outside the bundle" in result.err


def test_onnx_weights_outside(run: Callable, bundle_copy: Path) -> None:
    path = bundle_copy / "model.onnx"
    model = onnx.load(path)
    onnx.save_model(model, str(path), save_as_external_data=True, location="weights")
    (bundle_copy / "weights").rename(bundle_copy.parent / "weights")
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../weights"
    path.write_bytes(model.SerializeToString())
    write_manifest(bundle_copy, Bundle.open(bundle_copy).manifest)
    result = run("verify", bundle_copy)
    assert result.status == 2
    assert "outside its own folder" in result.err


@pytest.mark.parametrize("what", ["", "manifest.json"])
def test_not_a_bundle(what: str, run: Callable, tmp_path: Path) -> None:
    if what:
        (tmp_path / what).write_text("{}")
    result = run("verify", tmp_path)
    assert result.status == 2
    assert result.err.count("\n") == 1


# Artefacts of lower precision -----------------------------------------------------------------------------


def test_every_artefact_within_its_budget(
    run: Callable, bundle_copy: Path, plant: Callable, short_sweep: None, tmp_path: Path
) -> None:
    plant(bundle_copy, "fp16", 1.0005)
    result = run("verify", bundle_copy, "--error-map", tmp_path / "worst.png", "--verbose")
    assert result.status == 0, result.err
    assert "Worst: model.fp16.onnx at " in result.out
    assert "model.fp16.onnx, onnxruntime on cpu against onnxruntime, AbsRel at most 0.001:" in result.out
    assert result.out.count("✓ golden/") == 6
    assert "✓ 2x64x96" in result.out
    assert result.out.count("by depth") == 2
    assert "every artefact within its budget." in result.out
    with Image.open(tmp_path / "worst.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 4 * 240


def test_an_artefact_out_of_budget_is_status_1(
    run: Callable, bundle_copy: Path, plant: Callable, short_sweep: None
) -> None:
    plant(plant(bundle_copy, "fp16", 1.0005), "int8", 0.0, 3.0)
    result = run("verify", bundle_copy, "--json")
    report = json.loads(result.out)
    assert result.status == 1
    assert (report["passed"], report["complete"]) == (False, True)
    assert [r["passed"] for r in report["reports"]] == [True, True, True, False, False]
    assert {flag for case in report["reports"][-1]["cases"] for flag in case["flags"]} == {"constant"}
    assert report["reports"][-1]["by_range"].keys() == {"0-1", "1-3", "3-10", "10-80"}
    assert "constant map" in result.err
    assert run("verify", bundle_copy, "--precision", "fp16", "--no-sweep").status == 0
    refused = run("verify", bundle_copy, "--precision", "fp12")
    assert refused.status == 2
    assert "the option precision is 'fp12'; expected one of fp32" in refused.err


def test_what_the_machine_cannot_run_is_said_and_is_no_failure(
    run: Callable, bundle_copy: Path, plant: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(bundle_copy, "bf16")
    known = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnx" else known(name))
    result = run("verify", bundle_copy, "--no-sweep")
    assert result.status == 0
    assert "not checked here: model.bf16.onnx (bf16): ONNX Runtime's CPU has no bf16 kernels" in result.out
    assert "The check is incomplete" in result.out
    report = json.loads(run("verify", bundle_copy, "--no-sweep", "--json").out)
    assert (report["passed"], report["complete"], len(report["reports"])) == (True, False, 1)
    alone = run("verify", bundle_copy, "--no-sweep", "--precision", "bf16")
    assert alone.status == 2
    assert "precision bf16 was asked for, and model.bf16.onnx cannot be checked here" in alone.err
    allowed = run("verify", bundle_copy, "--no-sweep", "--precision", "bf16", "--allow-fallback")
    assert allowed.status == 0
    assert "No depth was compared." in allowed.out
    assert "The depth is the reference's" not in allowed.out
    assert "✗" not in allowed.out


def test_polygraphy_agrees(run: Callable, bundle_copy: Path, plant: Callable, short_sweep: None) -> None:
    pytest.importorskip("polygraphy", reason="the polygraphy extra is not installed")
    plant(bundle_copy, "int8", 1.01)
    result = run("verify", bundle_copy, "--polygraphy")
    assert result.status == 0, result.err
    assert result.out.count("agrees with our result on 3 of 3; its worst AbsRel") == 2
    assert result.out.count("agrees with our result on 2 of 2; its worst AbsRel") == 1
    report = json.loads(run("verify", bundle_copy, "--polygraphy", "--json").out)
    assert [opinion["agrees"] for opinion in report["polygraphy"]] == [True] * 3


# A Jetson: TensorRT, but no ONNX Runtime -------------------------------------------------------------------


@pytest.fixture
def jetson(
    make_gpu: Callable[..., Any],
    tensorrt_simulator: Any,
    bundle_copy: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Path]:
    """Builds engines on a machine with a simulated GPU, for a bundle whose network is the simulator's."""
    gpu = make_gpu(integrated=True)
    monkeypatch.setattr(engine_check, "find_device", lambda: gpu.device)
    monkeypatch.setattr(rt_tensorrt, "import_tensorrt", lambda: gpu.trt)
    known = importlib.util.find_spec
    found = {"onnxruntime": None, "onnx": None, "torch": None, "tensorrt": known("json")}
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: found[name] if name in found else known(name)
    )
    bundle = Bundle.open(bundle_copy)
    for batch, golden in zip(parity.golden_batches(bundle), bundle.manifest.goldens, strict=True):
        np.save(bundle_copy / golden.depth, tensorrt_simulator.depth_of(batch.pixel_values)[0])
    write_manifest(bundle_copy, bundle.manifest)

    def build(*profiles: Profile, **changed: Any) -> Path:
        digest = file_digest(bundle_copy / "model.onnx")
        return Path(gpu.engine(bundle_copy / "engines", profiles, **{"onnx_sha256": digest, **changed}))

    return build


GOLDEN, OTHER = Profile.fixed((1, 96, 320)), Profile.fixed((1, 64, 96))


def test_without_onnxruntime_the_engines_are_checked(
    run: Callable, bundle_copy: Path, jetson: Callable[..., Path]
) -> None:
    jetson(GOLDEN)
    result = run("verify", bundle_copy)
    assert result.status == 0, result.err
    assert "engines/test.engine: 1 batch, worst golden/" in result.out
    assert (
        "not checked here: model.onnx (fp32): ONNX Runtime, which runs it, is not installed: pip"
        in result.out
    )
    assert "The depth is the reference's. Worst: engines/test.engine at golden/" in result.out
    assert "The check is incomplete: see above." in result.out
    report = json.loads(run("verify", bundle_copy, "--json").out)
    assert (report["passed"], report["complete"]) == (True, False)
    assert [item["file"] for item in report["not_run"]] == ["model.onnx"]


def test_without_onnxruntime_a_wrong_engine_is_status_1(
    run: Callable, bundle_copy: Path, jetson: Callable[..., Path]
) -> None:
    jetson(GOLDEN)
    bundle = Bundle.open(bundle_copy)
    path = bundle_copy / bundle.manifest.goldens[2].depth
    np.save(path, np.load(path) + np.float32(0.01))
    write_manifest(bundle_copy, bundle.manifest)
    result = run("verify", bundle_copy)
    assert result.status == 1
    assert "differs by up to 0.01" in result.err


def test_without_onnxruntime_what_no_golden_shows_is_said(
    run: Callable, bundle_copy: Path, jetson: Callable[..., Path]
) -> None:
    jetson(OTHER)
    result = run("verify", bundle_copy)
    assert result.status == 0
    assert "not checked here: engines/test.engine (fp32): at 1x64x96: no golden has this shape" in result.out
    assert "No depth was compared." in result.out
    assert "The depth is the reference's" not in result.out


def test_without_onnxruntime_a_broken_engine_is_status_1(
    run: Callable, bundle_copy: Path, jetson: Callable[..., Path]
) -> None:
    with jetson(GOLDEN).open("ab") as file:
        file.write(b"more")
    result = run("verify", bundle_copy)
    assert result.status == 1
    assert "broken: engines/test.engine" in result.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--reference", "anything"], "the onnxruntime backend needs onnxruntime"),
        (["--polygraphy"], "the onnxruntime backend needs onnxruntime"),
        (
            ["--device", "cpu"],
            "no engine of what is asked for fits (engines/test.engine: TensorRT runs on NVIDIA",
        ),
    ],
)
def test_what_needs_onnxruntime(
    arguments: list[str], words: str, run: Callable, bundle_copy: Path, jetson: Callable[..., Path]
) -> None:
    jetson(GOLDEN)
    result = run("verify", bundle_copy, *arguments)
    assert result.status == 2
    assert words in result.err
    assert install_line("cpu") in result.err


def test_without_onnxruntime_and_an_engine_that_fits_it_is_needed(
    run: Callable, bundle_copy: Path, jetson: Callable[..., Path]
) -> None:
    jetson(GOLDEN, tensorrt="10.7.0")
    result = run("verify", bundle_copy)
    assert result.status == 2
    assert "test.engine was built with TensorRT 10.7.0; this is TensorRT 10.3.0" in result.err
    assert f"glpn-build {bundle_copy} --precision fp32 --size 96x320" in result.err
    shutil.rmtree(bundle_copy / "engines")
    result = run("verify", bundle_copy)
    assert result.status == 2
    assert "the onnxruntime backend needs onnxruntime" in result.err


def test_without_onnxruntime_nothing_imports_it(tiny_bundle: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('onnxruntime', 'torch', 'onnx'): sys.modules[name] = None\n"
        "import glpn_deploy.proof.engine_proof, glpn_deploy.proof.engine_check\n"
        f"sys.argv = ['glpn-verify', {str(tiny_bundle)!r}]\n"
        "from glpn_deploy.cli.verify import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: the onnxruntime backend needs onnxruntime")


def test_every_artefact_is_not_claimed_where_some_were_not_run(
    run: Callable, bundle_copy: Path, plant: Callable, jetson: Callable[..., Path]
) -> None:
    plant(bundle_copy, "fp16", 1.0)
    half = {"onnx": "model.fp16.onnx", "onnx_sha256": file_digest(bundle_copy / "model.fp16.onnx")}
    jetson(GOLDEN, precision="fp16", **half)
    result = run("verify", bundle_copy)
    assert result.status == 0, result.err
    assert "every artefact that was run within its budget." in result.out
    assert result.out.count("not checked here: model.") == 2
