"""An estimator and other processes: forked after it was loaded, spawned with it, pickled, copied."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from glpn_deploy import DepthEstimator, GLPNImageProcessor
from glpn_deploy.errors import BackendError, BundleError, InputError
from glpn_deploy.images.options import ImageOptions
from glpn_deploy.runtimes.rt_null import NullRuntime

IMAGE = np.random.default_rng(0).integers(0, 256, (128, 160, 3), dtype=np.uint8)
LIMIT_S = 60
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

# A process of its own: tests run with one thread, and what is tried is a process that has more.
FORKED = """
import os, sys, time, warnings
warnings.simplefilter("ignore")
import numpy as np
from glpn_deploy import DepthEstimator
backend, source = sys.argv[1:3]
image = np.random.default_rng(0).integers(0, 256, (256, 320, 3), dtype=np.uint8)
estimator = DepthEstimator.load(source, backend, threads=3)
before = estimator(image).depth
child = os.fork()
if child == 0:
    depth = estimator(image).depth
    again = estimator.predict([image, image])[1].depth
    right = np.allclose(depth, again, atol=1e-4) and np.allclose(depth, before, atol=1e-4)
    os._exit(0 if right and 0 < depth.min() else 3)
deadline = time.monotonic() + 40
while time.monotonic() < deadline:
    ended, status = os.waitpid(child, os.WNOHANG)
    if ended:
        sys.exit(os.waitstatus_to_exitcode(status))
    time.sleep(0.02)
os.kill(child, 9)
sys.exit(9)
"""


@pytest.mark.parametrize("backend", ["torch", "onnxruntime", "openvino"])
def test_a_forked_process_predicts(backend, tiny_checkpoint, tiny_onnx):
    """As gunicorn --preload forks; with torch every worker waited for threads that it does not have."""
    source = tiny_checkpoint if backend == "torch" else tiny_onnx
    done = subprocess.run(
        [sys.executable, "-c", FORKED, backend, str(source)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env={name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"},
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_demo_network_forks_by_itself_too():
    """The model alone, whose check of 4 million weights started OpenMP's threads."""
    program = (
        "import os, torch\n"
        "from glpn_deploy import GLPNForDepthEstimation\n"
        "torch.set_num_threads(3)\n"
        "model = GLPNForDepthEstimation.from_pretrained('demo', dtype='float32')\n"
        "assert torch.get_num_threads() == 3\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    with torch.inference_mode(): model(torch.rand(1, 3, 96, 128))\n"
        "    os._exit(0)\n"
        "import signal; signal.signal(signal.SIGALRM, lambda *_: os.kill(child, 9)); signal.alarm(40)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", program], timeout=LIMIT_S, env=environment)
    assert done.returncode == 0


def test_on_a_gpu_the_child_is_told(monkeypatch):
    runtime = NullRuntime()
    runtime.device = "cuda:0"
    x = np.zeros((1, 3, 32, 32), np.float32)
    assert not runtime.forked
    runtime.run_unchecked(x)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(BackendError) as caught:
        runtime.run_unchecked(x)
    assert "forked" in caught.value.got
    assert "load it in each worker" in caught.value.fix


def depth_of(estimator: DepthEstimator, answers: Any) -> None:
    answers.send((estimator(IMAGE).depth, estimator.runtime.backend, estimator.images.max_side))


@pytest.mark.parametrize("way", ["spawn", "fork"])
def test_a_process_of_multiprocessing_gets_it_as_an_argument(way, tiny_bundle):
    context = multiprocessing.get_context(way)
    answers, sender = context.Pipe(duplex=False)
    with DepthEstimator.load(tiny_bundle, "onnxruntime", max_side=128) as estimator:
        expected = estimator(IMAGE).depth
        process = context.Process(target=depth_of, args=(estimator, sender))
        process.start()
        answered = answers.poll(LIMIT_S)
        depth, backend, max_side = answers.recv() if answered else (None, "", 0)
        process.join(10)
        process.kill()
    assert answered
    np.testing.assert_allclose(depth, expected, rtol=0, atol=1e-5)
    assert (backend, max_side) == ("onnxruntime", 128)


@pytest.mark.parametrize("kind", ["bundle", "checkpoint", "onnx"])
def test_copies_load_what_it_was_loaded_from(kind, tiny_bundle, tiny_checkpoint, tiny_onnx):
    source = {"bundle": tiny_bundle, "checkpoint": tiny_checkpoint, "onnx": tiny_onnx}[kind]
    with DepthEstimator.load(source) as estimator:
        estimator.images = ImageOptions(max_side=96)
        estimator.processor = GLPNImageProcessor(resample=3)
        expected = estimator(IMAGE).depth
        for copied in (pickle.loads(pickle.dumps(estimator)), copy.deepcopy(estimator)):
            with copied:
                assert copied.runtime is not estimator.runtime
                assert copied.runtime.backend == estimator.runtime.backend
                np.testing.assert_array_equal(copied(IMAGE).depth, expected)


def test_what_changed_meanwhile_is_not_loaded_for_the_same(tiny_bundle, tmp_path, bundle_copy):
    with DepthEstimator.load(bundle_copy, "onnxruntime") as estimator:
        content = pickle.dumps(estimator)
        manifest = (bundle_copy / "manifest.json").read_text()
        (bundle_copy / "manifest.json").write_text(manifest.replace('"name": "', '"name": "another '))
        for call in (lambda: pickle.loads(content), lambda: pickle.dumps(estimator)):
            with pytest.raises(BundleError) as caught:
                call()
            assert "not what this estimator was loaded from" in caught.value.got
        shutil.rmtree(bundle_copy)
        with pytest.raises(BundleError):
            pickle.loads(content)


def test_one_put_together_by_hand_says_so():
    with DepthEstimator(NullRuntime(), GLPNImageProcessor(), 10.0) as estimator, pytest.raises(InputError):
        pickle.dumps(estimator)
