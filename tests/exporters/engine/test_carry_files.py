"""What a user keeps in a bundle's folder is there after the next export."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.errors import WriteError
from glpn_deploy.exporters import build as building
from glpn_deploy.exporters.build import build_bundle
from glpn_deploy.exporters.engine.carry import carry_files
from glpn_deploy.exporters.options import BuildOptions

FAST = BuildOptions(verify=False)


def test_files_that_are_not_the_bundles_stay(tiny_checkpoint, bundle_copy):
    (bundle_copy / "notes.txt").write_text("mine")
    (bundle_copy / "depth" / "a").mkdir(parents=True)
    (bundle_copy / "depth" / "a" / "1.png").write_bytes(b"png")
    (bundle_copy / "golden" / "mine.png").write_bytes(b"golden")
    (bundle_copy / "latest").symlink_to("depth/a")
    bundle = build_bundle(tiny_checkpoint, bundle_copy, FAST)
    assert (bundle_copy / "notes.txt").read_text() == "mine"
    assert (bundle_copy / "depth" / "a" / "1.png").read_bytes() == b"png"
    assert (bundle_copy / "golden" / "mine.png").read_bytes() == b"golden"
    assert (bundle_copy / "latest").readlink() == Path("depth/a")
    assert "notes.txt" not in bundle.manifest.files
    assert Bundle.open(bundle_copy).check_files() == 9


def test_what_the_old_bundle_lists_goes(tiny_bundle, bundle_copy, tmp_path):
    (tmp_path / "new").mkdir()
    (bundle_copy / "engines").mkdir()
    (bundle_copy / "engines" / "a.engine").write_bytes(b"plan")  # `carry_engines` decides about these
    (bundle_copy / "engines" / "timing.cache").write_bytes(b"timing")
    assert carry_files(bundle_copy, tmp_path / "new") == ("engines/timing.cache",)
    assert carry_files(tiny_bundle, tmp_path / "new") == ()


def test_a_name_that_the_new_bundle_takes(bundle_copy, tmp_path):
    new = tmp_path / "new"
    new.mkdir()
    (bundle_copy / "model.int8.onnx").write_bytes(b"mine")
    (new / "model.int8.onnx").write_bytes(b"new")
    assert carry_files(bundle_copy, new) == ("model.int8.onnx.kept",)
    assert (new / "model.int8.onnx").read_bytes() == b"new"
    assert (new / "model.int8.onnx.kept").read_bytes() == b"mine"


def test_a_mount_point_is_refused_before_the_work(tmp_path, monkeypatch):
    place = tmp_path / "a volume"
    place.mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == place)
    with pytest.raises(WriteError) as refused:
        build_bundle("no such checkpoint", place)
    assert str(place / "bundle") in refused.value.fix


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="Linux only")
def test_what_is_a_mount_point(tmp_path):
    assert building._is_mount_point(Path("/proc"))
    assert not building._is_mount_point(tmp_path)
