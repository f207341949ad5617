"""What a repository holds, what it is refused for, and what glpn-verify finds in a changed one."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from glpn_deploy.bundle.bundle import Bundle, write_manifest
from glpn_deploy.bundle.manifest import Manifest
from glpn_deploy.errors import BundleError, ConfigError, EngineError, InputError
from glpn_deploy.exporters.to_uint8 import to_uint8
from glpn_deploy.images.options import ImageOptions
from glpn_deploy.reading import file_digest
from glpn_deploy.runtimes.onnx_file.header import read_header
from glpn_deploy.scale.triton.config_text import Enum, to_text
from glpn_deploy.scale.triton.options import ServeOptions
from glpn_deploy.scale.triton.repository import REPOSITORY, check_repository
from glpn_deploy.scale.triton.writing import write_repository

SMALL = ServeOptions(shape=(64, 96), batch=4, instances=3)


@pytest.fixture
def repository(tiny_bundle, tmp_path) -> Path:
    write_repository(Bundle.open(tiny_bundle), tmp_path / "models", SMALL)
    return tmp_path / "models"


def config(repository: Path, model: str) -> str:
    return (repository / model / "config.pbtxt").read_text()


def test_text_format_by_hand():
    message = {
        "name": 'a "b"',
        "kind": Enum("KIND_CPU"),
        "on": True,
        "dims": [3, -1],
        "steps": [{"n": 1}, {}],
    }
    assert to_text(message) == (
        'name: "a \\"b\\""\nkind: KIND_CPU\non: true\ndims: [3, -1]\nsteps {\n  n: 1\n}\nsteps {\n}\n'
    )


def test_the_files_and_their_digests(repository, tiny_bundle):
    listed = json.loads((repository / REPOSITORY).read_text())
    there = {path.relative_to(repository).as_posix() for path in repository.rglob("*") if path.is_file()}
    assert set(listed["files"]) == there - {REPOSITORY}
    for name, entry in listed["files"].items():
        assert entry["sha256"] == file_digest(repository / name)
    digest = Bundle.open(tiny_bundle).manifest.files["model.onnx"]["sha256"]
    assert listed["network"] == {"file": "model.onnx", "precision": "fp32", "sha256": digest}
    assert listed["files"]["glpn_net/1/model.onnx"]["sha256"] == digest
    assert listed["files"]["glpn_python/1/bundle/model.onnx"]["sha256"] == digest
    assert listed["manifest_sha256"] == file_digest(tiny_bundle / "manifest.json")


def test_batches_queue_and_warm_up(repository):
    net = config(repository, "glpn_net")
    assert "max_batch_size: 4" in net
    assert "preferred_batch_size: [2, 4]" in net
    assert "dims: [3, 64, 96]" in net
    for model in ("glpn_net", "glpn_raw", "glpn_preprocess", "glpn_postprocess", "glpn_python"):
        assert "max_queue_size: 64" in config(repository, model)
        assert "default_timeout_microseconds: 10000000" in config(repository, model)
    assert "count: 3" in config(repository, "glpn_python")
    assert "execution_accelerators" not in net


def test_tensorrt_compiles_for_one_size_and_keeps_its_engines(tiny_bundle, tmp_path):
    options = dataclasses.replace(SMALL, tensorrt_cache=Path("/engines"))
    write_repository(Bundle.open(tiny_bundle), tmp_path / "models", options)
    told = dict(re.findall(r'key: "(\w+)"\s+value: "([^"]*)"', config(tmp_path / "models", "glpn_net")))
    assert told["trt_engine_cache_enable"] == "1"
    assert told["trt_engine_cache_path"].startswith("/engines/glpn-tiny-glpn_net-")
    assert told["trt_profile_min_shapes"] == "pixel_values:1x3x64x96"
    assert told["trt_profile_max_shapes"] == "pixel_values:4x3x64x96"
    assert '\\"input_size\\": [64, 96]' in config(tmp_path / "models", "glpn_preprocess")
    raw = config(tmp_path / "models", "glpn_raw")
    assert "/engines/glpn-tiny-glpn_raw-" in raw
    assert "trt_profile" not in raw


def test_images_of_many_sizes_for_an_engine_that_takes_them(engine, bundle_copy, tmp_path):
    images = ImageOptions(max_side=128)
    options = dataclasses.replace(SMALL, engine=engine(), images=images)
    write_repository(Bundle.open(bundle_copy), tmp_path / "models", options)
    preprocess = config(tmp_path / "models", "glpn_preprocess")
    assert '\\"max_side\\": 128' in preprocess
    assert "input_size" not in preprocess


def test_the_raw_graph_is_the_network_after_the_processor(repository, tiny_bundle):
    bundle = Bundle.open(tiny_bundle)
    image = np.random.default_rng(1).integers(0, 256, (64, 96, 3), np.uint8)
    image.reshape(-1)[:256] = np.arange(256)  # every byte there is
    raw, net = (
        onnxruntime.InferenceSession(path)
        for path in (repository / "glpn_raw" / "1" / "model.onnx", tiny_bundle / "model.onnx")
    )
    (found,) = raw.run(None, {"IMAGE": image[None]})
    (expected,) = net.run(None, {"pixel_values": bundle.processor.prepare(image)[None]})
    assert np.array_equal(found, expected)


def test_a_network_that_takes_bytes(bundle_copy, tmp_path):
    to_uint8(bundle_copy / "model.onnx", bundle_copy / "model.onnx")
    manifest = Manifest.from_json((bundle_copy / "manifest.json").read_text(), "manifest.json")
    found = read_header(bundle_copy / "model.onnx")
    artefacts = (dataclasses.replace(manifest.artefacts[0], io="uint8", nodes=found.nodes, parity=None),)
    write_manifest(bundle_copy, dataclasses.replace(manifest, artefacts=artefacts, tensors=found.tensors))
    write_repository(Bundle.open(bundle_copy), tmp_path / "models", SMALL)
    net, before = (config(tmp_path / "models", name) for name in ("glpn_net", "glpn_preprocess"))
    assert "dims: [-1, -1, 3]" in net
    assert "dims: [64, 96, 3]" in net  # of the warm-up
    assert (net.count("TYPE_UINT8"), net.count("TYPE_FP32")) == (2, 1)
    assert "dims: [-1, -1, -1, 3]" in before
    raw = onnxruntime.InferenceSession(tmp_path / "models" / "glpn_raw" / "1" / "model.onnx")
    assert raw.get_inputs()[0].shape[1:] == [64, 96, 3]


def test_fewer_models(tiny_bundle, tmp_path):
    options = dataclasses.replace(SMALL, models=("glpn_python",))
    found = write_repository(Bundle.open(tiny_bundle), tmp_path / "models", options)
    assert found.models == ("glpn_python",)


def test_it_replaces_a_repository_and_nothing_else(repository, tiny_bundle, tmp_path):
    bundle = Bundle.open(tiny_bundle)
    write_repository(bundle, repository, dataclasses.replace(SMALL, models=("glpn_python",)))
    assert not (repository / "glpn_net").exists()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_bytes(b"mine")
    with pytest.raises(BundleError) as refusal:
        write_repository(bundle, tmp_path / "photos", SMALL)
    assert "something else" in refusal.value.got
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["one.jpg"]
    (tmp_path / "empty").mkdir()
    write_repository(bundle, tmp_path / "empty", SMALL)
    check_repository(tmp_path / "empty")


def test_a_processor_that_normalizes_has_no_raw_model(bundle_copy, tmp_path):
    settings = bundle_copy / "preprocessor_config.json"
    changed = json.loads(settings.read_text()) | {
        "do_normalize": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    settings.write_text(json.dumps(changed))
    manifest = Manifest.from_json((bundle_copy / "manifest.json").read_text(), "manifest.json")
    write_manifest(bundle_copy, dataclasses.replace(manifest, preprocessing=changed))
    bundle = Bundle.open(bundle_copy)
    with pytest.raises(ConfigError) as refusal:
        write_repository(bundle, tmp_path / "models", SMALL)
    assert "--models" in refusal.value.fix
    assert not (tmp_path / "models").exists()
    write_repository(bundle, tmp_path / "models", dataclasses.replace(SMALL, models=("glpn", "glpn_python")))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: (folder / "glpn_net" / "1" / "model.onnx").write_bytes(b"x"), "changed"),
        (lambda folder: (folder / "glpn" / "config.pbtxt").unlink(), "there is no file"),
        (lambda folder: (folder / "glpn_net" / "1" / "other.onnx").touch(), "Triton may serve it"),
        (lambda folder: (folder / REPOSITORY).write_text("{}"), "is not a model repository's list"),
    ],
    ids=["changed", "missing", "one too many", "no list"],
)
def test_what_is_not_as_it_was_written_is_found(repository, change, says):
    assert len(check_repository(repository).files) == 19
    change(repository)
    with pytest.raises(BundleError) as refusal:
        check_repository(repository)
    assert says in refusal.value.got


@pytest.mark.parametrize(
    "values",
    [
        {"models": ()},
        {"models": ("glpn", "other")},
        {"shape": (480, 650)},
        {"shape": (0, 32)},
        {"batch": 0},
        {"queue_seconds": 0},
        {"engine": Path("x.engine"), "models": ("glpn_python",)},
        {"engine": Path("x.engine"), "tensorrt_cache": Path("/engines")},
        {"tensorrt_cache": Path("/engines"), "images": ImageOptions(max_side=640)},
        {"tensorrt_cache": Path("/engines"), "images": ImageOptions(input_size=(240, 320))},
    ],
    ids=str,
)
def test_options_that_cannot_be(values):
    with pytest.raises(InputError):
        ServeOptions(**values)


def test_an_engine_that_is_none(tiny_bundle, tmp_path):
    options = dataclasses.replace(SMALL, engine=tmp_path / "x.engine")
    with pytest.raises(EngineError) as refusal:
        write_repository(Bundle.open(tiny_bundle), tmp_path / "models", options)
    assert "there is no engine" in refusal.value.got


def test_an_engine_is_tensorrts(engine, bundle_copy, tmp_path):
    options = dataclasses.replace(SMALL, engine=engine(io="half"))
    found = write_repository(Bundle.open(bundle_copy), tmp_path / "models", options)
    assert (tmp_path / "models" / "glpn_net" / "1" / "model.plan").read_bytes() == options.engine.read_bytes()
    assert found.network["tensorrt"] == "10.3.0"
    net = config(tmp_path / "models", "glpn_net")
    for line in (
        'backend: "tensorrt"',
        'default_model_filename: "model.plan"',
        "kind: KIND_GPU",
        "max_batch_size: 6",  # the profile's, not the option's
        "preferred_batch_size: [2, 4, 6]",
        "dims: [3, 96, 128]",
        "batch_size: 2",  # of the warm-up: what the profile is tuned for
    ):
        assert line in net
    assert net.count("TYPE_FP16") == 3  # input, output and warm-up
    assert "TYPE_FP16" in config(tmp_path / "models", "glpn_preprocess")
    assert '\\"input_size\\": [96, 128]' in config(tmp_path / "models", "glpn_preprocess")
    check_repository(tmp_path / "models")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"mine": False}, "was not built on this machine"),
        ({"stripped": True}, "without weights"),
        ({"onnx_sha256": "ab" * 32}, "from another model.onnx"),
        ({"sha256": "ab" * 32}, "changed since it was built"),
        ({"backend": "tensorrt_rtx", "targets": ("8.9",), "sm": None}, "tensorrt_rtx"),
    ],
    ids=["another's", "stripped", "another bundle's", "changed", "RTX"],
)
def test_an_engine_that_is_not_served(engine, bundle_copy, tmp_path, changes, says):
    options = dataclasses.replace(SMALL, engine=engine(**changes))
    with pytest.raises(EngineError) as refusal:
        write_repository(Bundle.open(bundle_copy), tmp_path / "models", options)
    assert says in refusal.value.got
    assert not (tmp_path / "models").exists()


def test_an_engine_of_others_is_taken_where_they_are_trusted(engine, bundle_copy, tmp_path):
    options = dataclasses.replace(SMALL, engine=engine(mine=False), trust_engines=True)
    write_repository(Bundle.open(bundle_copy), tmp_path / "models", options)
