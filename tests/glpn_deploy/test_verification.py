"""Verifying where a bundle stands: digests, goldens, and PyTorch where a checkpoint is given."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from glpn_deploy import parity
from glpn_deploy.bundle import Bundle, write_manifest
from glpn_deploy.errors import BundleError, CheckpointError, MissingDependencyError
from glpn_deploy.exporters.build import BuildOptions, build_bundle
from glpn_deploy.runtimes.base import RuntimeOptions
from glpn_deploy.verification import verify_bundle

CPU = RuntimeOptions(device="cpu", threads=1)


@pytest.fixture(autouse=True)
def short_sweep(monkeypatch, tiny_bundle):
    monkeypatch.setattr(parity, "SWEEP", ((1, 32, 32), (2, 64, 96)))


def test_goldens_alone(tiny_bundle):
    (report,) = verify_bundle(tiny_bundle, options=CPU)
    assert report.passed
    assert report.reference["backend"] == "golden"
    assert report.worst.stats.max_abs_m <= 1e-5 * 10


def test_against_the_checkpoint(tiny_bundle, tiny_checkpoint):
    goldens, sweep = verify_bundle(tiny_bundle, str(tiny_checkpoint), CPU)
    assert goldens.passed
    assert sweep.passed
    assert [case.shape for case in sweep.cases] == [(1, 32, 32), (2, 64, 96)]
    assert sweep.reference["backend"] == "torch"


def test_another_scale_is_compared_fairly(tiny_checkpoint, tmp_path):
    options = BuildOptions(verify=False, max_depth=80, norm_eps="original")
    build_bundle(tiny_checkpoint, tmp_path / "out", options)
    reports = verify_bundle(tmp_path / "out", str(tiny_checkpoint), CPU)
    assert all(report.passed for report in reports)
    assert reports[1].tolerance_m == pytest.approx(8e-4)


def test_other_weights_fail(tiny_bundle, make_model, tmp_path):
    make_model(seed=1).save_pretrained(tmp_path)
    goldens, sweep = verify_bundle(tiny_bundle, str(tmp_path), CPU)
    assert goldens.passed
    assert not sweep.passed


def test_training_settings_do_not_make_another_network(tiny_bundle, make_model, tiny_config, tmp_path):
    make_model(tiny_config.replace(drop_path_rate=0.3, hidden_dropout_prob=0.1)).save_pretrained(tmp_path)
    assert all(report.passed for report in verify_bundle(tiny_bundle, str(tmp_path), CPU))


def test_another_architecture_is_refused(tiny_bundle, make_model, tiny_config, tmp_path):
    make_model(tiny_config.replace(depths=(1, 1, 1, 1))).save_pretrained(tmp_path)
    with pytest.raises(BundleError, match=r"is not the network that .* their configs differ"):
        verify_bundle(tiny_bundle, str(tmp_path), CPU)
    with pytest.raises(CheckpointError):
        verify_bundle(tiny_bundle, str(tmp_path / "nowhere"), CPU)


def test_wrong_goldens_fail_with_their_digests_right(bundle_copy):
    manifest = Bundle.open(bundle_copy).manifest
    path = bundle_copy / manifest.goldens[1].depth
    np.save(path, np.load(path) + np.float32(2e-3))
    write_manifest(bundle_copy, manifest)
    (report,) = verify_bundle(bundle_copy, options=CPU)
    assert [case.passed for case in report.cases] == [True, False, True]
    (report,) = verify_bundle(bundle_copy, options=CPU, tolerance=1e-3)
    assert report.passed


def test_damage_anywhere_stops_it(bundle_copy):
    (bundle_copy / "config.json").write_text("{}")
    with pytest.raises(BundleError, match=r"config\.json"):
        verify_bundle(bundle_copy, options=CPU)


def test_no_fp32_artefact(bundle_copy):
    manifest = Bundle.open(bundle_copy).manifest
    write_manifest(bundle_copy, dataclasses.replace(manifest, artefacts=()))
    with pytest.raises(BundleError, match="has no fp32 artefact; expected one of those it has: none"):
        verify_bundle(bundle_copy, options=CPU)


def test_a_missing_backend_names_the_line(tiny_bundle, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"glpn-deploy\[cpu\]"):
        verify_bundle(tiny_bundle)


def test_goldens_need_neither_torch_nor_onnx(tiny_bundle):
    program = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'safetensors', 'transformers', 'huggingface_hub'):\n"
        "    sys.modules[name] = None\n"
        "from glpn_deploy.verification import verify_bundle\n"
        f"assert verify_bundle({str(tiny_bundle)!r})[0].passed"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
