"""An artefact is given out where graph, data and manifest agree, and only then."""

from __future__ import annotations

import dataclasses
import json

import onnx
import pytest

from glpn_deploy.bundle.bundle import Bundle, write_manifest
from glpn_deploy.errors import BundleError
from glpn_deploy.runtimes.onnx_file.artefact_file import artefact_path
from tests.refusals import refused


def fp32(folder):
    bundle = Bundle.open(folder)
    return artefact_path(bundle, bundle.artefact("fp32"))


def rewrite(folder, *, listed=(), **changes):
    """Digests as if the files had been exported so."""
    manifest = Bundle.open(folder).manifest
    first = dataclasses.replace(manifest.artefacts[0], data=tuple(listed), **changes)
    write_manifest(folder, dataclasses.replace(manifest, artefacts=(first, *manifest.artefacts[1:])))


@pytest.fixture
def external(bundle_copy):
    """A bundle whose weights stand beside the graph."""
    path = bundle_copy / "model.onnx"
    model = onnx.load(path)
    onnx.save_model(model, path, save_as_external_data=True, location="model.onnx.data", size_threshold=256)
    rewrite(bundle_copy, listed=["model.onnx.data"])
    return bundle_copy


def test_data_that_is_listed_and_whole(external):
    assert fp32(external) == external / "model.onnx"
    (external / "model.onnx.data").write_bytes(b"w")
    with refused(BundleError, got="model.onnx.data has 1 bytes"):
        fp32(external)


def test_data_that_the_manifest_does_not_list_is_not_read(external):
    rewrite(external)
    with pytest.raises(BundleError) as caught:
        fp32(external)
    assert "model.onnx.data" in caught.value.got
    assert caught.value.expected.startswith("no other file")


def test_data_that_the_graph_does_not_name(bundle_copy):
    (bundle_copy / "model.onnx.data").write_bytes(b"weights")
    rewrite(bundle_copy, listed=["model.onnx.data"])
    with pytest.raises(BundleError) as caught:
        fp32(bundle_copy)
    assert "no other file" in caught.value.got


def test_a_kind_that_is_unknown(bundle_copy):
    rewrite(bundle_copy, kind="plan9")
    with refused(BundleError, got="unknown kind 'plan9'"):
        fp32(bundle_copy)


@pytest.mark.parametrize("change", ["max_depth", "config", "nothing", "no json"])
def test_a_graph_that_says_something_else_than_the_manifest(change, bundle_copy):
    path = bundle_copy / "model.onnx"
    model = onnx.load(path)
    about = {entry.key: entry.value for entry in model.metadata_props}
    config = json.loads(about["glpn_config"])
    if change == "max_depth":
        about["max_depth"] = "11.0"
    elif change == "config":
        about["glpn_config"] = json.dumps(config | {"max_depth": 11})
    elif change == "nothing":
        del about["glpn_config"]
    else:
        about["glpn_config"] = "{"
    onnx.helper.set_model_props(model, about)
    onnx.save(model, path)
    rewrite(bundle_copy)
    with pytest.raises(BundleError, match=r"max_depth|does not say what network"):
        fp32(bundle_copy)


def test_manifest_and_config_edited_alike_still_contradict_the_graph(bundle_copy):
    for name in ("manifest.json", "config.json"):
        values = json.loads((bundle_copy / name).read_text())
        for place in (values, values["config"]) if name == "manifest.json" else (values,):
            place["max_depth"] = 11
        (bundle_copy / name).write_text(json.dumps(values))
    with pytest.raises(BundleError) as caught:
        fp32(bundle_copy)
    assert "max_depth 10" in caught.value.got


def statements(value, path=()):
    """Every single value in JSON, with its path."""
    if isinstance(value, (dict, list)):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from statements(part, (*path, key))
    else:
        yield path, value


def test_what_the_manifest_says_of_its_network_is_what_the_file_says(bundle_copy):
    """Programs that embed a bundle read names, types, layout and scale from its manifest."""
    manifest = bundle_copy / "manifest.json"
    good = json.loads(manifest.read_text())
    fp32(bundle_copy)
    checked = {key: good[key] for key in ("tensors", "max_depth", "unit")}
    checked["artefacts"] = [{key: good["artefacts"][0][key] for key in ("io", "opset", "nodes")}]
    for path, value in statements(checked):
        changed = json.loads(json.dumps(good))
        *parents, last = path
        place = changed
        for key in parents:
            place = place[key]
        place[last] = value + ("x" if isinstance(value, str) else 1)
        manifest.write_text(json.dumps(changed))
        with pytest.raises(BundleError) as caught:
            fp32(bundle_copy)
        assert caught.value.expected, path
