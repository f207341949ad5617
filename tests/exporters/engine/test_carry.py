"""A bundle exported again keeps the engines that still belong to it, and says which it drops."""

from __future__ import annotations

import os

import pytest

from glpn_deploy import progress
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.bundle.engine_sidecar import (
    ENGINES,
    check_bundle,
    read_sidecar,
    sidecar_path,
)
from glpn_deploy.errors import EngineError
from glpn_deploy.exporters.build import build_bundle
from glpn_deploy.exporters.engine.carry import carry_engines
from glpn_deploy.exporters.options import BuildOptions
from tests.listening import Listener
from tests.refusals import refused


def test_what_stays_and_what_goes(put_engine, bundle_copy, tmp_path):
    good = put_engine(bundle_copy, "good.engine")
    put_engine(bundle_copy, "old.engine", onnx_sha256="cd" * 32)
    put_engine(bundle_copy, "gone.engine", onnx="model.fp16.onnx")
    sidecar_path(put_engine(bundle_copy, "bare.engine")).unlink()
    (tmp_path / "new").mkdir()
    carried = carry_engines(bundle_copy, tmp_path / "new", Bundle.open(bundle_copy).manifest)
    assert carried.kept == ("good.engine",)
    assert carried.dropped == {
        "old.engine": "model.onnx changed",
        "gone.engine": "the new bundle has no model.fp16.onnx",
        "bare.engine": "it has no sidecar that can be read",
    }
    assert sorted(p.name for p in (tmp_path / "new" / ENGINES).iterdir()) == ["good.engine", "good.json"]
    assert read_sidecar(tmp_path / "new" / ENGINES / "good.engine") == read_sidecar(good)
    assert str(carried).startswith("1 kept; dropped bare.engine (it has no")


def test_without_engines_nothing_is_made_or_said(bundle_copy, tmp_path):
    carried = carry_engines(bundle_copy, tmp_path, Bundle.open(bundle_copy).manifest)
    assert str(carried) == ""
    assert not (tmp_path / ENGINES).exists()


def test_a_file_system_without_links(put_engine, bundle_copy, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    put_engine(bundle_copy, "good.engine")
    (tmp_path / "new").mkdir()
    monkeypatch.setattr(os, "link", refuse)
    carry_engines(bundle_copy, tmp_path / "new", Bundle.open(bundle_copy).manifest)
    assert (tmp_path / "new" / ENGINES / "good.engine").read_bytes() == b"a plan"


@pytest.mark.parametrize(("max_depth", "stays"), [(None, True), (80.0, False)])
def test_export_over_a_bundle(put_engine, tiny_checkpoint, bundle_copy, max_depth, stays):
    engine = put_engine(bundle_copy, "net.engine")
    told = Listener()
    with progress.shown(told):
        bundle = build_bundle(tiny_checkpoint, bundle_copy, BuildOptions(verify=False, max_depth=max_depth))
    assert engine.exists() == sidecar_path(engine).exists() == stays
    said = told["write bundle"].summary
    assert ("1 kept" if stays else "dropped net.engine (model.onnx changed)") in said
    assert not any(name.startswith(ENGINES) for name in bundle.manifest.files)
    assert bundle.check_files() == 9
    if stays:
        assert check_bundle(engine, read_sidecar(engine), bundle.manifest).file == "model.onnx"


def test_an_engine_of_another_bundle(put_engine, bundle_copy):
    manifest = Bundle.open(bundle_copy).manifest
    other = put_engine(bundle_copy, "net.engine", onnx_sha256="cd" * 32)
    with refused(EngineError, got="built from another model.onnx", fix=("glpn-build", "--size 480x640")):
        check_bundle(other, read_sidecar(other), manifest)
    missing = put_engine(bundle_copy, "net.engine", onnx="model.fp16.onnx")
    with refused(EngineError, got="model.fp16.onnx (fp32), which this bundle does not have"):
        check_bundle(missing, read_sidecar(missing), manifest)
