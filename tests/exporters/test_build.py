"""Checkpoint to bundle: what is in it, what proves it, and what is left when something stops it."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import skimage.data
import torch
from PIL import Image

from glpn_deploy import GLPNConfig, GLPNImageProcessor, __version__
from glpn_deploy.bundle.bundle import Bundle, write_manifest
from glpn_deploy.errors import (
    BundleError,
    CheckpointError,
    ConfigError,
    ImageError,
    MissingDependencyError,
    ParityError,
    WriteError,
)
from glpn_deploy.exporters import build
from glpn_deploy.exporters.build import build_bundle
from glpn_deploy.exporters.options import BuildOptions, OnnxOptions
from glpn_deploy.exporters.to_onnx import FP32Graphs
from glpn_deploy.optional import install_line
from glpn_deploy.proof import parity
from tests.folders import content, names
from tests.refusals import refused

UNVERIFIED = BuildOptions(verify=False)


def test_what_a_bundle_holds(tiny_bundle, tiny_checkpoint, tiny_config):
    manifest = json.loads((tiny_bundle / "manifest.json").read_text())
    goldens = [f"golden/{i}.{kind}" for i in range(3) for kind in ("npy", "png")]
    rest = ["config.json", "model.onnx", "preprocessor_config.json"]
    assert sorted(content(tiny_bundle)) == sorted([*rest, *goldens, "manifest.json"])
    assert {name: entry["sha256"] for name, entry in manifest["files"].items()} == {
        name: digest for name, digest in content(tiny_bundle).items() if name != "manifest.json"
    }
    assert (manifest["format"], manifest["format_version"]) == ("glpn-deploy-bundle", 1)
    assert (manifest["name"], manifest["unit"], manifest["max_depth"]) == ("glpn-tiny", "metres", 10)
    assert GLPNConfig.from_dict(manifest["config"]) == tiny_config
    assert GLPNConfig.from_json_file(tiny_bundle / "config.json") == tiny_config
    assert GLPNImageProcessor.from_pretrained(tiny_bundle) == GLPNImageProcessor.from_dict(
        manifest["preprocessing"]
    )
    assert manifest["tools"]["glpn-deploy"] == __version__
    assert manifest["tools"]["onnxruntime"] == ort.__version__
    assert manifest["source"]["source"] == tiny_checkpoint.name
    assert str(tiny_checkpoint.parent) not in (tiny_bundle / "manifest.json").read_text()


def test_the_manifest_tells_the_tensors_as_the_graph_has_them(tiny_bundle):
    tensors = json.loads((tiny_bundle / "manifest.json").read_text())["tensors"]
    session = ort.InferenceSession(tiny_bundle / "model.onnx", providers=["CPUExecutionProvider"])
    for value in (*session.get_inputs(), *session.get_outputs()):
        assert tensors[value.name]["shape"] == value.shape


def test_the_proof_covers_the_sweep_and_is_written_down(tiny_bundle):
    (artefact,) = json.loads((tiny_bundle / "manifest.json").read_text())["artefacts"]
    assert (artefact["file"], artefact["kind"], artefact["precision"]) == ("model.onnx", "onnx", "fp32")
    assert artefact["nodes"] == len(onnx.load(str(tiny_bundle / "model.onnx")).graph.node)
    proof = artefact["parity"]
    assert proof["passed"]
    assert [tuple(case["shape"]) for case in proof["cases"]] == list(parity.SWEEP)
    assert 0 < proof["max_abs_m"] <= proof["tolerance_m"] == 1e-5 * 10
    assert proof["max_abs_m"] == max(case["max_abs_m"] for case in proof["cases"])
    assert (proof["reference"]["backend"], proof["candidate"]["backend"]) == ("torch", "onnxruntime")


def test_without_the_proof_the_manifest_says_so(tiny_checkpoint, tmp_path):
    bundle = build_bundle(tiny_checkpoint, tmp_path / "out", UNVERIFIED)
    (artefact,) = bundle.manifest.artefacts
    assert artefact.parity is None
    assert bundle.check_files() == 9


def test_same_checkpoint_twice(tiny_checkpoint, tiny_bundle, tmp_path):
    build_bundle(tiny_checkpoint, tmp_path / "out", UNVERIFIED)
    ours, theirs = content(tmp_path / "out"), content(tiny_bundle)
    assert ours.keys() == theirs.keys()
    for name in ours.keys() - {"manifest.json"}:  # torch's own results may differ in their last bit
        assert name.endswith(".npy") or ours[name] == theirs[name]


def test_options_reach_the_bundle(tiny_checkpoint, tmp_path):
    options = BuildOptions(onnx=OnnxOptions(20, single_file_limit=1000), verify=False, max_depth=80.0)
    bundle = build_bundle(tiny_checkpoint, tmp_path / "out", options)
    (artefact,) = bundle.manifest.artefacts
    assert (bundle.manifest.config.max_depth, artefact.opset) == (80, 20)
    assert artefact.data == ("model.onnx.data",)
    assert artefact.data[0] in bundle.manifest.files
    deepest = max(bundle.golden_depth(golden).max() for golden in bundle.manifest.goldens)
    assert 10 < deepest < 80


def test_goldens_from_photographs(tiny_checkpoint, tiny_model, tmp_path):
    photographs = []
    for name in ("coffee", "chelsea"):
        photographs.append(tmp_path / f"{name}.png")
        Image.fromarray(getattr(skimage.data, name)()).save(photographs[-1])
    panorama = tmp_path / "panorama.png"
    Image.fromarray(skimage.data.coffee()).resize((3000, 100)).save(panorama)
    options = BuildOptions(verify=False, golden_images=(*photographs, panorama))
    bundle = build_bundle(tiny_checkpoint, tmp_path / "out", options)
    assert [golden.source for golden in bundle.manifest.goldens] == [
        "coffee.png",
        "chelsea.png",
        "panorama.png",
    ]
    sizes = [Image.open(bundle.path(golden.image)).size for golden in bundle.manifest.goldens]
    assert sizes == [(600, 400), (451, 300), (1920, 64)]  # the panorama keeps a side that the network takes
    golden = bundle.manifest.goldens[1]
    x = bundle.processor.prepare(np.asarray(Image.open(bundle.path(golden.image))))[None]
    with torch.inference_mode():
        expected = tiny_model(torch.from_numpy(x)).predicted_depth.numpy()[0]
    np.testing.assert_allclose(bundle.golden_depth(golden), expected, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("no_work")
def test_a_golden_that_is_no_image_is_refused_before_the_work(tiny_checkpoint, tmp_path):
    (tmp_path / "note.png").write_text("not a picture")
    with refused(ImageError, got="note.png"):
        build_bundle(tiny_checkpoint, tmp_path / "out", BuildOptions(golden_images=(tmp_path / "note.png",)))
    assert names(tmp_path) == ["note.png"]


# A wrong graph --------------------------------------------------------------------------------------


@pytest.fixture
def wrong_weight(monkeypatch):
    """One weight of the written graph is off by a little."""

    def write(graphs, path, options):
        real(graphs, path, options)
        graph = onnx.load(str(path))
        tensor = next(t for t in graph.graph.initializer if t.name == "head.biases")
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + 1e-3, tensor.name))
        onnx.save_model(graph, str(path))
        return path

    real = FP32Graphs.write
    monkeypatch.setattr(FP32Graphs, "write", write)


@pytest.mark.usefixtures("short_sweep", "wrong_weight")
def test_a_wrong_weight_is_found_and_nothing_is_left(tiny_checkpoint, tmp_path):
    with refused(ParityError, got=("differs by up to", "m (", "2 of 2 cases)"), expected="at most 0.0001 m"):
        build_bundle(tiny_checkpoint, tmp_path / "out")
    assert names(tmp_path) == []


@pytest.mark.usefixtures("short_sweep", "wrong_weight")
def test_a_wrong_weight_leaves_the_old_bundle_whole(tiny_checkpoint, bundle_copy):
    before = content(bundle_copy)
    with pytest.raises(ParityError):
        build_bundle(tiny_checkpoint, bundle_copy)
    assert content(bundle_copy) == before
    assert names(bundle_copy.parent) == ["bundle"]


@pytest.mark.usefixtures("short_sweep", "wrong_weight")
def test_a_wider_tolerance_can_be_chosen(tiny_checkpoint, tmp_path):
    bundle = build_bundle(tiny_checkpoint, tmp_path / "out", BuildOptions(tolerance=1e-2))
    assert 1e-4 < bundle.manifest.artefacts[0].parity["max_abs_m"] <= 0.1


@pytest.mark.usefixtures("short_sweep")
def test_a_graph_that_gives_nan_is_found(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "glpn_deploy.runtimes.rt_onnxruntime.OnnxRuntime._infer",
        lambda self, x: np.full((len(x), *x.shape[2:]), np.nan, np.float32),
    )
    with refused(ParityError, got="is not finite"):
        build_bundle(tiny_checkpoint, tmp_path / "out")
    assert names(tmp_path) == []


# Places ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("manifest", [None, "{}", '{"format": "chrome-extension"}', "not JSON", "[1]"])
def test_a_folder_with_something_else_is_refused_before_the_work(manifest, tiny_checkpoint, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"x")
    if manifest is not None:  # other software has files of that name, too
        (tmp_path / "photos" / "manifest.json").write_text(manifest)
    with refused(BundleError, got="has something else in it"):
        build_bundle(tiny_checkpoint, tmp_path / "photos")
    assert (tmp_path / "photos" / "holiday.jpg").exists()


@pytest.mark.usefixtures("no_work")
def test_a_file_is_refused_before_the_work(tiny_checkpoint, tmp_path):
    (tmp_path / "out").write_text("mine")
    with refused(BundleError, got="is a file"):
        build_bundle(tiny_checkpoint, tmp_path / "out")
    with refused(WriteError, got="cannot be written"):
        build_bundle(tiny_checkpoint, tmp_path / "out" / "below")
    with refused(WriteError, got="cannot be written"):
        build_bundle(tiny_checkpoint, tmp_path / "nul\0")
    assert names(tmp_path) == ["out"]


@pytest.mark.usefixtures("no_work")
def test_a_missing_backend_is_told_before_the_work(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with refused(MissingDependencyError, fix=install_line("cpu")):
        build_bundle(tiny_checkpoint, tmp_path / "out")


def test_empty_folder_new_parents_and_the_folder_one_stands_in(tiny_checkpoint, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "a" / "b" / "c"):
        assert build_bundle(tiny_checkpoint, out, UNVERIFIED).check_files() == 9
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert build_bundle(tiny_checkpoint, ".", UNVERIFIED).manifest.name == "here"
    assert names(tmp_path) == ["a", "empty", "here"]


def test_a_link_is_followed(tiny_checkpoint, bundle_copy, tmp_path):
    (tmp_path / "latest").symlink_to("bundle")
    build_bundle(tiny_checkpoint, tmp_path / "latest", BuildOptions(verify=False, max_depth=80))
    assert (tmp_path / "latest").is_symlink()
    assert Bundle.open(bundle_copy).manifest.config.max_depth == 80


def test_a_bundle_is_replaced_whole(tiny_checkpoint, bundle_copy):
    (bundle_copy / "model.int8.onnx").write_bytes(b"of the old network")
    write_manifest(bundle_copy, Bundle.open(bundle_copy).manifest)  # which lists it
    build_bundle(tiny_checkpoint, bundle_copy, UNVERIFIED)
    assert not (bundle_copy / "model.int8.onnx").exists()
    assert names(bundle_copy.parent) == ["bundle"]


# Networks that no image can be fed to ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_channels": 1}, "num_channels is 1; expected 3"),
        ({"sr_ratios": (16, 4, 2, 1)}, "size_divisor is 32; expected a multiple of 64"),
    ],
)
def test_a_network_the_processor_cannot_feed(changes, words, make_model, tiny_config, tmp_path):
    make_model(tiny_config.replace(**changes)).save_pretrained(tmp_path / "checkpoint")
    with pytest.raises(ConfigError, match=words):
        build_bundle(tmp_path / "checkpoint", tmp_path / "out")
    assert names(tmp_path) == ["checkpoint"]


@pytest.mark.usefixtures("short_sweep")
def test_a_processor_with_a_larger_step(tiny_checkpoint, tmp_path):
    checkpoint = shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    settings = json.loads((checkpoint / "preprocessor_config.json").read_text())
    (checkpoint / "preprocessor_config.json").write_text(json.dumps({**settings, "size_divisor": 128}))
    bundle = build_bundle(checkpoint, tmp_path / "out")
    assert bundle.processor.size_divisor == 128
    assert [case["shape"] for case in bundle.manifest.artefacts[0].parity["cases"]] == [
        [1, 128, 128],
        [2, 128, 128],
    ]


def test_not_a_checkpoint(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError):
        build_bundle(tmp_path / "empty", tmp_path / "out")
    assert names(tmp_path) == ["empty"]


# Stopped in the middle -------------------------------------------------------------------------------

STEPS = ("FP32Graphs", "_write_goldens", "_prove", "write_manifest", "replace_folder")


@pytest.mark.usefixtures("short_sweep")
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(errno.ENOSPC, "No space left on device"), WriteError),
    ],
)
def test_stopped_at_any_step(step, error, seen, tiny_checkpoint, bundle_copy, monkeypatch):
    def stop(*args, **options):
        raise error

    before = content(bundle_copy)
    monkeypatch.setattr(build, step, stop)
    for out in (bundle_copy, bundle_copy.parent / "new"):
        with pytest.raises(seen, match="No space left" if seen is WriteError else None):
            build_bundle(tiny_checkpoint, out)
    assert content(bundle_copy) == before
    assert names(bundle_copy.parent) == ["bundle"]


PROGRAM = """
import sys, torch
torch.set_num_threads(1)
from glpn_deploy.exporters.build import build_bundle
from glpn_deploy.exporters.options import BuildOptions
print("ready", flush=True)
build_bundle(sys.argv[1], sys.argv[2], BuildOptions(verify=False, max_depth=80))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_at_a_random_time_leaves_the_old_bundle_or_the_new(tiny_checkpoint, bundle_copy):
    rng = random.Random(0)
    for _ in range(4):
        command = [sys.executable, "-c", PROGRAM, str(tiny_checkpoint), str(bundle_copy)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as run:
            run.stdout.readline()
            time.sleep(rng.uniform(0, 1.0))
            run.send_signal(signal.SIGKILL)
        bundle = Bundle.open(bundle_copy)
        bundle.check_files()
        assert sorted(content(bundle_copy)) == sorted([*bundle.manifest.files, "manifest.json"])
    build_bundle(tiny_checkpoint, bundle_copy, UNVERIFIED)
    assert names(bundle_copy.parent) == ["bundle"]
    assert Bundle.open(bundle_copy).manifest.config.max_depth == 10
