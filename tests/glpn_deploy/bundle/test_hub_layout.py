"""A bundle laid out as the ONNX repositories of the hub: for us, transformers and transformers.js."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import transformers
from PIL import Image

from glpn_deploy import DepthEstimator
from glpn_deploy.bundle.bundle import Bundle, write_manifest
from glpn_deploy.bundle.hub_layout import to_hub_layout
from glpn_deploy.exporters.build import build_bundle
from glpn_deploy.exporters.options import BuildOptions
from glpn_deploy.proof.verification import verify

PACKAGE = "@huggingface/transformers"
PROGRAM = """
import { pipeline, env, RawImage } from "@huggingface/transformers";
const [folder, image, ...dtypes] = process.argv.slice(2);
env.allowRemoteModels = false;
env.localModelPath = folder;
const found = {};
for (const dtype of dtypes) {
  const estimate = await pipeline("depth-estimation", "model", { dtype });
  const { predicted_depth } = await estimate(await RawImage.read(image));
  found[dtype] = { dims: predicted_depth.dims, data: Array.from(predicted_depth.data) };
}
console.log(JSON.stringify(found));
"""


@pytest.fixture(scope="module")
def hub_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "model"
    return build_bundle(tiny_checkpoint, folder, BuildOptions(layout="hub", verify=False)).folder


def test_it_is_a_bundle_as_any_other(hub_bundle: Path, tiny_bundle: Path) -> None:
    assert (hub_bundle / "onnx" / "model.onnx").is_file()
    assert not (hub_bundle / "model.onnx").exists()
    found = verify(hub_bundle)
    assert found.passed
    image = np.random.default_rng(0).integers(0, 256, (70, 100, 3), dtype=np.uint8)
    with DepthEstimator.load(hub_bundle, "onnxruntime") as ours:
        depth = ours(image).depth
    with DepthEstimator.load(tiny_bundle, "onnxruntime") as plain:
        np.testing.assert_array_equal(depth, plain(image).depth)
    with DepthEstimator.load(hub_bundle / "onnx" / "model.onnx", "onnxruntime") as lone:
        np.testing.assert_array_equal(depth, lone(image).depth)


def test_transformers_reads_its_configs(hub_bundle: Path) -> None:
    processor = transformers.AutoImageProcessor.from_pretrained(hub_bundle)
    assert type(processor).__name__.startswith("GLPNImageProcessor")
    assert processor.size_divisor == 32
    assert transformers.AutoConfig.from_pretrained(hub_bundle).model_type == "glpn"


def test_lower_precisions_have_transformers_js_names(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "b"))
    bundle = Bundle.open(folder)
    (full,) = bundle.manifest.artefacts
    artefacts = [full]
    for precision in ("fp16", "int8", "bf16"):
        name = f"model.{precision}.onnx"
        (folder / name).write_bytes(precision.encode())
        artefacts.append(type(full)(**{**vars(full), "file": name, "precision": precision}))
    moved = to_hub_layout(folder, artefacts)
    assert [artefact.file for artefact in moved] == [
        "onnx/model.onnx",
        "onnx/model_fp16.onnx",
        "onnx/model_quantized.onnx",
        "onnx/model_bf16.onnx",
    ]
    assert (folder / "onnx" / "model_quantized.onnx").read_bytes() == b"int8"
    write_manifest(folder, bundle.manifest)
    assert "onnx/model_fp16.onnx" in json.loads((folder / "manifest.json").read_text())["files"]


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which Node finds transformers.js: the one that GLPN_NODE_MODULES names, or a new one."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node and npm are not installed")
    given = os.environ.get("GLPN_NODE_MODULES")
    folder = Path(given) if given else tmp_path_factory.mktemp("node")
    if not (folder / "node_modules" / PACKAGE).is_dir():
        quiet = ("--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--fetch-retries=0")
        command = ["npm", "install", *quiet, f"{PACKAGE}@4"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            pytest.skip("npm took more than two minutes to fetch transformers.js")
        if done.returncode:
            pytest.skip(f"npm cannot fetch transformers.js: {done.stderr.strip()[-200:]}")
    return folder


@pytest.mark.slow
def test_transformers_js_gives_the_same_depth(hub_bundle: Path, node_modules: Path, tmp_path: Path) -> None:
    """Its own pipeline, in Node, on what was exported: no file changed, none fetched."""
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "image.png")
    (node_modules / "depth.mjs").write_text(PROGRAM)
    command = ["node", "depth.mjs", str(hub_bundle.parent), str(tmp_path / "image.png"), "fp32"]
    done = subprocess.run(command, cwd=node_modules, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)["fp32"]
    assert found["dims"][-2:] == [64, 96]
    with DepthEstimator.load(hub_bundle, "onnxruntime") as estimator:
        expected = estimator(image).depth
    np.testing.assert_allclose(np.array(found["data"]).reshape(64, 96), expected, rtol=0, atol=1e-4)
