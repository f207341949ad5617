"""ONNX Runtime against torch, and what it is not given: damaged files, other models, missing providers."""

from __future__ import annotations

import contextlib
import random

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from glpn_deploy import GLPNImageProcessor
from glpn_deploy.datasets.rooms import render_room
from glpn_deploy.errors import BackendError, BundleError
from glpn_deploy.exporters.calibration import calibrate
from glpn_deploy.exporters.to_int8 import quantised_tensors, to_int8
from glpn_deploy.exporters.to_onnx import OnnxOptions, to_onnx
from glpn_deploy.parity import SWEEP
from glpn_deploy.runtimes.base import RuntimeOptions
from glpn_deploy.runtimes.rt_onnxruntime import OnnxRuntime, input_spec, load, missing_provider_reason
from glpn_deploy.runtimes.rt_torch import TorchRuntime

CPU = RuntimeOptions(device="cpu", threads=1)


@pytest.fixture(scope="module")
def runtime(tiny_onnx):
    with OnnxRuntime(tiny_onnx, CPU) as runtime:
        yield runtime


@pytest.mark.parametrize("shape", [shape for shape in SWEEP if shape[1] * shape[2] < 10**5])
def test_equals_torch(shape, runtime, tiny_model, pixels):
    x = pixels(*shape)
    expected = TorchRuntime(tiny_model, CPU).run(x)
    depth = runtime.run(x)
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, expected, rtol=0, atol=1e-5 * 10)


def test_what_it_knows_of_the_file(runtime):
    assert runtime.describe() == {"backend": "onnxruntime", "device": "cpu", "precision": "fp32"}
    assert runtime.max_depth == 10
    assert (runtime.spec.channels, runtime.spec.size_multiple, runtime.spec.batch) == (3, 32, None)


def test_layout_does_not_matter_and_results_stay_valid(runtime, pixels):
    x = pixels(2, 64, 96)
    first = runtime.run(x)
    kept = first.copy()
    view = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(runtime.run(view), kept)
    runtime.run(1 - x)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (["batch", 3, "32*h32", "32*w32"], (3, 32, None, None, None)),
        (["batch", 4, "64*h64", "64*w64"], (4, 64, None, None, None)),
        ([1, 3, 480, 640], (3, 32, 1, 480, 640)),
        ([2, 3, 100, 640], (3, 1, 2, 100, 640)),
        (["n", "c", "height", None], (3, 32, None, None, None)),
    ],
)
def test_shapes_are_read_from_the_file(shape, expected):
    spec = input_spec(shape)
    assert (spec.channels, spec.size_multiple, spec.batch, spec.height, spec.width) == expected


@pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="this build of onnxruntime has CUDA"
)
def test_missing_cuda_provider_gives_the_reason(tiny_onnx):
    with pytest.raises(BackendError, match=r"built without CUDAExecutionProvider .*glpn-deploy\[gpu\]"):
        OnnxRuntime(tiny_onnx, RuntimeOptions("cuda"))
    assert OnnxRuntime(tiny_onnx, RuntimeOptions("auto")).device == "cpu"
    assert missing_provider_reason("CPUExecutionProvider") is None


def test_a_provider_that_falls_back_is_told(tiny_onnx, monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(ort, "preload_dlls", lambda: None, raising=False)
    session = ort.InferenceSession
    monkeypatch.setattr(
        ort,
        "InferenceSession",
        lambda path, options, **_: session(path, options, providers=["CPUExecutionProvider"]),
    )
    with pytest.raises(BackendError, match="fell back to the CPU"):
        OnnxRuntime(tiny_onnx, RuntimeOptions("cuda"))


@pytest.mark.parametrize("opset", [17, 20])
def test_int8_for_tensorrt_is_computed_as_it_stands(tiny_model, tmp_path, pixels, opset):
    """ONNX Runtime would make integer kernels of the pairs, which saturate without VNNI, and spoil biases."""
    source = to_onnx(tiny_model, tmp_path / "model.onnx", OnnxOptions(opset))
    images = [render_room(seed, 64, 96).image for seed in range(2)]
    with pytest.warns(UserWarning, match="2 calibration images"):
        ranges = calibrate(source, images, GLPNImageProcessor(), quantised_tensors(source))
    path = to_int8(source, tmp_path / "model.int8.onnx", ranges)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    x = pixels(1, 64, 96)
    with OnnxRuntime(path, RuntimeOptions("cpu", "int8")) as runtime:
        depth = runtime.run(x)
    assert runtime.precision == "int8"
    np.testing.assert_allclose(depth, plain.run(None, {"pixel_values": x})[0], rtol=2e-3)


# Files that are not what they should be -----------------------------------------------------------------


def test_no_file(tmp_path):
    with pytest.raises(BundleError, match="there is no file"):
        load(tmp_path / "model.onnx", CPU)
    with pytest.raises(BundleError, match="there is no file"):
        load(tmp_path, CPU)


def test_truncated_anywhere(tiny_onnx, tmp_path):
    """A cut between two fields can leave a smaller valid file, never one with this network's tensors."""
    content, path = tiny_onnx.read_bytes(), tmp_path / "model.onnx"
    rng = random.Random(0)
    cuts = [0, 1, 2, 10, 100, 1000, len(content) - 1, *(rng.randrange(len(content)) for _ in range(60))]
    for cut in cuts:
        path.write_bytes(content[:cut])
        with pytest.raises(BundleError) as caught:
            OnnxRuntime(path, CPU)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"not a model", b"\x00" * 1000, b"\xff" * 1000, b"PK\x03\x04" * 50])
def test_something_else(content, tmp_path):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(BundleError, match=r"is not an ONNX file, or is damaged|cannot load"):
        OnnxRuntime(tmp_path / "model.onnx", CPU)


def test_a_flipped_byte_never_brings_down_the_process(tiny_onnx, tmp_path, pixels):
    content, path = tiny_onnx.read_bytes(), tmp_path / "model.onnx"
    rng, x = random.Random(1), pixels(1, 32, 32)
    for _ in range(40):
        damaged = bytearray(content)
        damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with contextlib.suppress(BundleError, BackendError):
            OnnxRuntime(path, CPU).run(x)


def other_model(path, inputs, outputs, nodes):
    def values(shapes):
        return [helper.make_tensor_value_info(n, kind, shape) for n, (kind, shape) in shapes.items()]

    graph = helper.make_graph(nodes, "g", values(inputs), values(outputs))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save_model(model, str(path))
    return path


@pytest.mark.parametrize(
    ("given", "kind", "node"),
    [
        (["n", 3, "h", "w"], TensorProto.FLOAT, ("Relu", {})),  # four dimensions out
        (["n", "h", "w"], TensorProto.FLOAT, ("Relu", {})),
        (["n", 3, "h", "w"], TensorProto.INT64, ("Abs", {})),
        (["n", 3, "h", "w"], TensorProto.FLOAT, ("Shape", {})),
    ],
)
def test_another_model_is_refused(given, kind, node, tmp_path):
    out = (TensorProto.INT64, [4]) if node[0] == "Shape" else (kind, given)
    nodes = [helper.make_node(node[0], ["x"], ["y"], **node[1])]
    path = other_model(tmp_path / "m.onnx", {"x": (kind, given)}, {"y": out}, nodes)
    with pytest.raises(BundleError, match="expected one float32 image batch in and one depth batch out"):
        OnnxRuntime(path, CPU)


@pytest.mark.parametrize("value", ["deep", "nan", "-1", "0", "inf", ""])
def test_nonsense_scale(value, tiny_onnx, tmp_path):
    model = onnx.load(str(tiny_onnx))
    onnx.helper.set_model_props(model, {"max_depth": value})
    onnx.save_model(model, str(tmp_path / "m.onnx"))
    with pytest.raises(BundleError, match="expected a number of metres above 0"):
        OnnxRuntime(tmp_path / "m.onnx", CPU)


def test_precision_is_the_files_own(tiny_onnx, tmp_path):
    assert OnnxRuntime(tiny_onnx, RuntimeOptions("cpu", "int8")).precision == "fp32"
    model = onnx.load(str(tiny_onnx))
    del model.metadata_props[:]
    onnx.save_model(model, str(tmp_path / "m.onnx"))
    anonymous = OnnxRuntime(tmp_path / "m.onnx", RuntimeOptions("cpu", "fp16"))
    assert (anonymous.precision, anonymous.max_depth) == ("fp16", None)


def test_failure_while_running_is_one_sentence(tiny_onnx, pixels, monkeypatch):
    class Broken:
        def run(self, *args):
            raise RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory\nmore lines")

    runtime = OnnxRuntime(tiny_onnx, CPU)
    monkeypatch.setattr(runtime, "_session", Broken())
    with pytest.raises(BackendError, match=r"\(1, 3, 32, 32\) .*Failed to allocate memory\)"):
        runtime.run(pixels(1, 32, 32))


def test_closed(tiny_onnx, pixels):
    runtime = OnnxRuntime(tiny_onnx, CPU)
    runtime.close()
    runtime.close()
    with pytest.raises(BackendError, match="the onnxruntime runtime is closed"):
        runtime.run(pixels(1, 32, 32))
