"""glpn-verify: whole and right is 0, moved is 1, damaged is 2."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from glpn_deploy.bundle import Bundle, write_manifest


def test_a_good_bundle(run: Callable, tiny_bundle: Path) -> None:
    result = run("verify", tiny_bundle)
    assert result.status == 0
    assert result.out.count("✓ golden/") == 3
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
