"""Loading a bundle that is replaced meanwhile: whole or refused, never one's scale and another's network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from glpn_deploy import DepthEstimator
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.errors import BundleError
from glpn_deploy.exporters.build import build_bundle
from glpn_deploy.exporters.options import BuildOptions
from glpn_deploy.runtimes.base import RuntimeOptions
from glpn_deploy.runtimes.onnx_file import artefact_file
from glpn_deploy.runtimes.registry import load_runtime
from tests.refusals import refused

LOADS = int(os.environ.get("GLPN_REPLACED_LOADS", "20"))
REPLACER = """
import random, shutil, sys, time
from pathlib import Path
from glpn_deploy.atomic import replace_folder, staging_folder

place, *bundles = map(Path, sys.argv[1:])
print("ready", flush=True)
while True:
    for bundle in bundles:
        with staging_folder(place) as folder:
            shutil.copytree(bundle, folder / place.name)
            time.sleep(random.uniform(0, 0.3))  # without, every load is refused
            replace_folder(folder / place.name, place)
"""


@pytest.fixture(scope="module")
def pair(tiny_bundle, make_model, tiny_config, tmp_path_factory):
    """Two bundles of one name whose depths differ at every pixel."""
    folder = tmp_path_factory.mktemp("other")
    make_model(tiny_config.replace(max_depth=80), seed=3).save_pretrained(folder / "checkpoint")
    other = build_bundle(folder / "checkpoint", folder / "glpn-tiny", BuildOptions(verify=False))
    return tiny_bundle, other.folder


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_loads_while_a_bundle_is_replaced_as_fast_as_it_goes(backend, pair, tmp_path):
    pytest.importorskip(backend)
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    expected = {}
    for bundle in pair:
        with DepthEstimator.load(bundle, backend, device="cpu") as estimator:
            expected[estimator.max_depth] = estimator(image).depth
    assert sorted(expected) == [10, 80]
    place = tmp_path / "glpn-tiny"
    shutil.copytree(pair[0], place)
    found = {10.0: 0, 80.0: 0, "refused": 0}
    command = [sys.executable, "-c", REPLACER, str(place), *map(str, pair)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as replacer:
        try:
            assert replacer.stdout.readline()
            for _ in range(LOADS):
                try:
                    estimator = DepthEstimator.load(place, backend, device="cpu")
                except BundleError:
                    found["refused"] += 1
                    continue
                with estimator:
                    depth = estimator(image).depth
                np.testing.assert_allclose(depth, expected[estimator.max_depth], rtol=0, atol=1e-4)
                found[estimator.max_depth] += 1
        finally:
            replacer.kill()
    print(found)
    assert sum(found.values()) == LOADS
    assert found[10.0] + found[80.0] > 0


@pytest.mark.parametrize("after", [False, True])
def test_what_is_replaced_between_the_check_and_the_loading(after, pair, tmp_path, monkeypatch):
    place = tmp_path / "bundle"
    shutil.copytree(pair[0], place)

    def load(*arguments):
        if not after:
            shutil.copy(pair[1] / "model.onnx", place / "model.onnx")
        runtime = load_runtime(*arguments)
        shutil.copy(pair[0] / "model.onnx", place / "model.onnx")  # and back
        return runtime

    monkeypatch.setattr(artefact_file, "load_runtime", load)
    bundle = Bundle.open(place)
    with refused(BundleError, got="was replaced"):
        artefact_file.load_artefact(
            bundle, bundle.artefact("fp32"), "onnxruntime", RuntimeOptions(device="cpu")
        )
