"""What every backend that computes on a CPU promises alike; a file a backend has what is its own."""

from __future__ import annotations

import random
import subprocess
import sys
import warnings

import numpy as np
import pytest

from glpn_deploy.errors import BackendError, BundleError
from glpn_deploy.runtimes.options import RuntimeOptions
from glpn_deploy.runtimes.registry import load_runtime
from tests.refusals import refused

CPU = RuntimeOptions(device="cpu", threads=1)
FILES = ("onnxruntime", "openvino")
OPERATORS = {
    "torch": {"convolution"},
    "onnxruntime": {"Conv", "MatMul", "Softmax"},
    "openvino": {"Convolution", "FullyConnected"},
}


@pytest.fixture(params=OPERATORS)
def runtime(request, tiny_checkpoint, tiny_onnx):
    source = tiny_checkpoint if request.param == "torch" else tiny_onnx
    with load_runtime(request.param, source, CPU) as runtime:
        yield runtime


def test_inputs_of_any_layout_are_neither_written_to_nor_kept(runtime, pixels):
    x = pixels(2, 64, 96)
    first = runtime.run(x)
    kept, frozen = first.copy(), x.copy()
    frozen.flags.writeable = False
    view = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for same in (view, frozen, x):
            # Not bit by bit: torch takes other paths for memory that is aligned otherwise.
            np.testing.assert_allclose(runtime.run(same), kept, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(x, frozen)
    x[:] = 0
    runtime.run(1 - frozen)
    np.testing.assert_array_equal(first, kept)


def test_where_the_time_goes(runtime, pixels):
    x = pixels(1, 64, 96)
    before = runtime.run(x)
    told = runtime.operator_times(x)
    assert OPERATORS[runtime.backend] <= told.keys()
    assert min(told.values()) >= 0
    assert 0 < sum(told.values()) < 60_000
    np.testing.assert_allclose(runtime.run(x), before, rtol=1e-5)


def test_closed(runtime, pixels):
    runtime.run(pixels(1, 32, 32))
    runtime.close()
    runtime.close()
    with refused(BackendError, got=f"the {runtime.backend} runtime is closed"):
        runtime.run(pixels(1, 32, 32))


@pytest.mark.parametrize("backend", FILES)
def test_no_file(backend, tmp_path):
    for path in (tmp_path / "model.onnx", tmp_path):
        with refused(BundleError, got="there is no file"):
            load_runtime(backend, path, CPU)


@pytest.mark.parametrize("backend", FILES)
def test_truncated_anywhere(backend, tiny_onnx, tmp_path):
    """A cut between two fields can leave a smaller valid file, never one with this network's tensors."""
    content, path = tiny_onnx.read_bytes(), tmp_path / "model.onnx"
    rng = random.Random(0)
    for cut in [0, 1, 2, 10, 100, 1000, len(content) - 1, *(rng.randrange(len(content)) for _ in range(30))]:
        path.write_bytes(content[:cut])
        with pytest.raises(BundleError) as caught:
            load_runtime(backend, path, CPU)
        assert "\n" not in str(caught.value)


_DAMAGE = """
import contextlib, pathlib, random, sys
import numpy as np
from glpn_deploy.errors import BackendError, BundleError
from glpn_deploy.runtimes.options import RuntimeOptions
from glpn_deploy.runtimes.registry import load_runtime
content, path, rng = pathlib.Path(sys.argv[2]).read_bytes(), pathlib.Path(sys.argv[3]), random.Random(1)
for _ in range(8):
    damaged = bytearray(content)
    damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(damaged)
    with contextlib.suppress(BundleError, BackendError):
        runtime = load_runtime(sys.argv[1], path, RuntimeOptions(device="cpu"))
        runtime.run(np.zeros((1, 3, 32, 32), np.float32))
"""


@pytest.mark.parametrize("backend", FILES)
def test_a_flipped_byte_never_brings_down_the_process(backend, tiny_onnx, tmp_path):
    """In a process of its own, so that one that is brought down is a failure and not the end of all tests."""
    command = [sys.executable, "-c", _DAMAGE, backend, str(tiny_onnx), str(tmp_path / "model.onnx")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
