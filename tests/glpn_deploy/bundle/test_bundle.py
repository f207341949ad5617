"""A bundle gives out nothing that is not what was exported, whatever its manifest says."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glpn_deploy.atomic import replace_folder
from glpn_deploy.bundle.bundle import Bundle, write_manifest
from glpn_deploy.bundle.manifest import Manifest
from glpn_deploy.errors import BundleError, GlpnError
from glpn_deploy.reading import file_digest
from glpn_deploy.runtimes.onnx_file.artefact_file import artefact_path
from tests.refusals import refused


def edit(folder: Path, change) -> None:
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_round_trip(tiny_bundle):
    bundle = Bundle.open(tiny_bundle)
    assert Manifest.from_json(bundle.manifest.to_json(), "here") == bundle.manifest
    assert bundle.check_files() == len(bundle.manifest.files) == 9
    assert artefact_path(bundle, bundle.artefact("fp32")) == tiny_bundle / "model.onnx"


def test_digest_of_an_empty_file(tmp_path):
    (tmp_path / "empty").touch()
    known = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # FIPS 180-4
    assert file_digest(tmp_path / "empty") == known


def test_one_flipped_bit_in_any_file_is_found(bundle_copy):
    bundle = Bundle.open(bundle_copy)
    for name in bundle.manifest.files:
        path = bundle_copy / name
        content = path.read_bytes()
        for position in (0, len(content) // 2, len(content) - 1):
            damaged = bytearray(content)
            damaged[position] ^= 1
            path.write_bytes(damaged)
            with refused(BundleError, got="changed since the export") as caught:
                bundle.check_files()
            assert str(path) in str(caught.value)
        path.write_bytes(content)
    bundle.check_files()


def test_missing_and_truncated_files_are_found(bundle_copy):
    bundle = Bundle.open(bundle_copy)
    for name in bundle.manifest.files:
        path = bundle_copy / name
        content = path.read_bytes()
        path.write_bytes(content[:-1])
        with refused(BundleError, got=f"has {len(content) - 1} bytes", expected=f"{len(content)}"):
            bundle.path(name)
        path.unlink()
        with refused(BundleError, got="No such file"):
            bundle.path(name)
        path.mkdir()
        with pytest.raises(BundleError):
            bundle.path(name)
        path.rmdir()
        path.write_bytes(content)


def test_a_file_without_a_digest_is_not_given_out(bundle_copy):
    (bundle_copy / "extra.onnx").write_bytes(b"x")
    with refused(BundleError, got="has no digest for 'extra.onnx'"):
        Bundle.open(bundle_copy).path("extra.onnx")


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "manifest.json"])
def test_line_endings_of_another_system_are_no_damage(name, bundle_copy):
    path = bundle_copy / name
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert Bundle.open(bundle_copy).check_files() == 9
    path.write_bytes(path.read_bytes().replace(b"\r\n", b"\r\n\r\n", 1))
    if name != "manifest.json":  # which has no digest
        with pytest.raises(BundleError):
            Bundle.open(bundle_copy).check_files()


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("config", "max_depth", 11),
        ("config", "head_in_index", -2),
        ("preprocessing", "rescale_factor", 0.1),
        ("preprocessing", "size_divisor", 64),
        ("preprocessing", "resample", 3),
    ],
)
def test_a_manifest_that_says_something_else_than_the_configs(section, name, value, bundle_copy):
    edit(bundle_copy, lambda m: m[section].update({name: value}))
    with pytest.raises(BundleError) as caught:
        Bundle.open(bundle_copy)
    assert name in caught.value.got
    assert repr(value) in caught.value.expected


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_a_config_that_says_something_else_than_the_manifest(file, bundle_copy):
    path = bundle_copy / file
    text = path.read_text()
    path.write_text(text.replace('"max_depth": 10', '"max_depth": 11').replace("0.0039", "0.0040"))
    with pytest.raises(BundleError):
        Bundle.open(bundle_copy)
    path.unlink()
    with refused(BundleError, got=("there is no file", file)):
        Bundle.open(bundle_copy)


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [("config", "max_depth", 1e6), ("preprocessing", "rescale_factor", 1e-5)],
)
def test_values_beyond_any_network(section, name, value, bundle_copy):
    """Even where all files agree: a tolerance is a share of max_depth."""
    edit(bundle_copy, lambda m: m[section].update({name: value}))
    file = {"config": "config.json", "preprocessing": "preprocessor_config.json"}[section]
    values = json.loads((bundle_copy / file).read_text())
    (bundle_copy / file).write_text(json.dumps(values | {name: value}))
    with pytest.raises(GlpnError, match=name):
        Bundle.open(bundle_copy)


def test_what_is_replaced_after_it_was_checked_is_noticed(bundle_copy, tmp_path):
    bundle = Bundle.open(bundle_copy)
    model = bundle.path("model.onnx")
    bundle.require_unchanged()
    content = model.read_bytes()
    model.write_bytes(content)  # in place, with what was there
    with refused(BundleError, got="model.onnx was replaced or written to"):
        bundle.require_unchanged()
    bundle.path("model.onnx")  # checked anew
    bundle.require_unchanged()
    other = Path(shutil.copytree(bundle_copy, tmp_path / "other"))
    replace_folder(other, bundle_copy)
    with refused(BundleError, got="was replaced"):
        bundle.require_unchanged()


def test_a_precision_it_has_not(tiny_bundle):
    with refused(BundleError, got="has no int8 artefact", expected="one of those it has: fp32"):
        Bundle.open(tiny_bundle).artefact("int8")


# Paths ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", "golden/../../secret", "link", "circle", "nul\0", "\ud800"]
)
@pytest.mark.parametrize("where", ["files", "artefact", "data", "golden"])
def test_a_manifest_that_points_outside(name, where, bundle_copy):
    (bundle_copy.parent / "secret").write_text("someone's")
    (bundle_copy / "link").symlink_to("../secret")
    (bundle_copy / "circle").symlink_to("circle")

    def point(values):
        if where == "files":
            values["files"][name] = {"sha256": "0" * 64, "bytes": 9}
        elif where == "artefact":
            values["artefacts"][0]["file"] = name
        elif where == "data":
            values["artefacts"][0]["data"] = [name]
        else:
            values["goldens"][0]["depth"] = name

    edit(bundle_copy, point)
    with refused(BundleError, got="lies outside the bundle", fix="do not use this bundle"):
        Bundle.open(bundle_copy)


def test_a_file_turned_into_a_link_outside_is_not_read(bundle_copy):
    bundle = Bundle.open(bundle_copy)
    (bundle_copy / "config.json").rename(bundle_copy.parent / "config.json")
    (bundle_copy / "config.json").symlink_to("../config.json")
    with refused(BundleError, got="outside the bundle"):
        bundle.path("config.json")


def test_a_bundle_behind_a_link_is_a_bundle(tiny_bundle, tmp_path):
    (tmp_path / "latest").symlink_to(tiny_bundle)
    assert Bundle.open(tmp_path / "latest").check_files() == 9


# Manifests --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "null", "7", "[" * 100_000, '{"format": "other"}', "\ufeff{}"]
)
def test_not_a_manifest(text, bundle_copy):
    (bundle_copy / "manifest.json").write_text(text, encoding="utf-8")
    with refused(BundleError, got="is not a bundle's manifest"):
        Bundle.open(bundle_copy)


def test_not_text(bundle_copy):
    (bundle_copy / "manifest.json").write_bytes(b"\xff\xfe\x00")
    with refused(BundleError, got="cannot be read"):
        Bundle.open(bundle_copy)


def test_no_bundle(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with refused(BundleError, got="has no manifest.json", fix="make one with glpn-export"):
            Bundle.open(folder)


@pytest.mark.parametrize("version", [2, 99])
def test_a_later_format(version, bundle_copy):
    edit(bundle_copy, lambda m: m.update(format_version=version))
    with refused(BundleError, got=f"format version {version}", expected="at most 1", fix="upgrade with pip"):
        Bundle.open(bundle_copy)


@pytest.mark.parametrize("version", [0, -1, True, 1.0, "1", None])
def test_a_version_that_is_none(version, bundle_copy):
    edit(bundle_copy, lambda m: m.update(format_version=version))
    with refused(BundleError, got="is not a bundle's manifest"):
        Bundle.open(bundle_copy)


def test_additions_of_later_versions_are_read_over(bundle_copy):
    def add(values):
        values["new"] = values["artefacts"][0]["new"] = values["goldens"][0]["new"] = 1

    edit(bundle_copy, add)
    Bundle.open(bundle_copy).check_files()


def test_a_config_with_nonsense_names_the_manifest(bundle_copy):
    edit(bundle_copy, lambda m: m["config"].update(depths=[1, 2]))
    with refused(BundleError, got=("manifest.json is damaged:", "config value depths = [1, 2]")):
        Bundle.open(bundle_copy)


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 10**6),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["../x", "/x", "", "\0", math.inf, 10**400]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def spots(value, path=()):
    """Every place in a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from spots(item, (*path, key))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_change_of_the_manifest_is_taken_or_refused(data, tiny_bundle):
    """Taken or refused in one sentence: no other exception, from opening to the last file."""
    original = json.loads((tiny_bundle / "manifest.json").read_text())
    values = copy.deepcopy(original)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from([p for p in spots(values) if p]))
        holder = values
        for key in path[:-1]:
            holder = holder[key]
        if data.draw(st.booleans()):
            del holder[path[-1]]
        else:
            holder[path[-1]] = data.draw(JUNK)
        if not values:
            break
    with contextlib.suppress(BundleError):
        manifest = Manifest.from_json(json.dumps(values), "manifest.json")
        bundle = Bundle(tiny_bundle, manifest)
        for name in bundle._named_files():
            bundle._inside(name)
        with contextlib.suppress(GlpnError):  # a processor's settings are a ConfigError
            assert bundle.processor is not None
        bundle.check_files()
        for golden in manifest.goldens:
            bundle.golden_depth(golden)


@pytest.mark.parametrize(
    "save",
    [
        lambda path: path.write_bytes(b"not an array"),
        lambda path: path.write_bytes(b""),
        lambda path: np.save(path, np.zeros((32, 32), np.float64)),
        lambda path: np.save(path, np.zeros((1, 32, 32), np.float32)),
        lambda path: np.save(path, np.array([{"code": print}], object), allow_pickle=True),
        lambda path: np.savez(path.open("wb"), depth=np.zeros((32, 32), np.float32)),
    ],
)
def test_a_golden_that_is_no_depth(save, bundle_copy):
    bundle = Bundle.open(bundle_copy)
    golden = bundle.manifest.goldens[0]
    save(bundle_copy / golden.depth)
    write_manifest(bundle_copy, bundle.manifest)
    with refused(BundleError, got="is not a depth array"):
        Bundle.open(bundle_copy).golden_depth(golden)
