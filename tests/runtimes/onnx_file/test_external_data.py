"""An ONNX file may keep weights beside it, never elsewhere: refused before anything there is read."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from glpn_deploy.errors import BundleError
from glpn_deploy.exporters.options import OnnxOptions
from glpn_deploy.exporters.to_onnx import to_onnx
from glpn_deploy.runtimes.base import RuntimeOptions
from glpn_deploy.runtimes.onnx_file.header import check_file
from glpn_deploy.runtimes.rt_onnxruntime import OnnxRuntime
from tests.refusals import refused

VALUES = np.arange(4, dtype=np.float32)
PLACES = ("initializer", "constant")
REFUSED = ("subgraph", "function", "sparse")


def external(location: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("offset", "0"), ("location", location), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def write_model(path: Path, location: str, place: str = "initializer") -> Path:
    """x + w, where w is an external tensor in one of the places where ONNX allows it."""
    tensor = external(location)
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    add = helper.make_node("Add", ["x", "w"], ["y"])
    nodes, initializers, sparse, functions = [add], [], [], []
    if place == "initializer":
        initializers = [tensor]
    elif place == "constant":
        nodes = [constant, add]
    elif place == "subgraph":
        value = helper.make_tensor_value_info("w", TensorProto.FLOAT, [4])
        branch = helper.make_graph([constant], "branch", [], [value])
        yes = helper.make_node(
            "Constant", [], ["yes"], value=helper.make_tensor("yes", TensorProto.BOOL, [], [1])
        )
        branching = helper.make_node("If", ["yes"], ["w"], then_branch=branch, else_branch=branch)
        nodes = [yes, branching, add]
    elif place == "function":
        opsets = [helper.make_opsetid("", 17)]
        functions = [helper.make_function("mine", "Weights", [], ["w"], [constant], opsets)]
        nodes = [helper.make_node("Weights", [], ["w"], domain="mine"), add]
    else:
        indices = helper.make_tensor("i", TensorProto.INT64, [4], [0, 1, 2, 3])
        sparse = [helper.make_sparse_tensor(tensor, indices, [4])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], initializers, sparse_initializer=sparse)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def folder(tmp_path):
    """A model's folder with a file of someone else's above it, and links that lead there."""
    VALUES.tofile(tmp_path / "secret")
    folder = tmp_path / "model"
    (folder / "below").mkdir(parents=True)
    VALUES.tofile(folder / "w.data")
    VALUES.tofile(folder / "below" / "w.data")
    (folder / "link").symlink_to("../secret")
    (folder / "up").symlink_to("..")
    (folder / "circle").symlink_to("circle")
    return folder


INSIDE = ("w.data", "./w.data", "below/w.data", "below/../w.data")
OUTSIDE = (
    "../secret",
    "link",
    "up/secret",
    "below/../../secret",
    "/dev/zero",
    "/etc/hostname",
    "",
    "*/_ORT_MEM_ADDR_/*",
    "nul\0",
)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("location", INSIDE)
def test_inside_is_taken(place, location, folder):
    check_file(write_model(folder / "m.onnx", location, place))


@pytest.mark.parametrize("place", REFUSED)
def test_other_places_are_refused_whatever_they_name(place, folder):
    with refused(BundleError, got="no plain network"):
        check_file(write_model(folder / "m.onnx", "w.data", place))


def test_a_pipe_is_refused(folder):
    os.mkfifo(folder / "pipe")
    with refused(BundleError, got="outside its own folder"):
        check_file(write_model(folder / "m.onnx", "pipe"))


@pytest.mark.parametrize("location", INSIDE[:3])
def test_onnxruntime_reads_what_is_taken(location, folder):
    path = write_model(folder / "m.onnx", location)
    (y,) = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(
        None, {"x": np.ones_like(VALUES)}
    )
    np.testing.assert_array_equal(y, VALUES + 1)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("location", [*OUTSIDE, "circle"])
def test_outside_is_refused(place, location, folder):
    path = write_model(folder / "m.onnx", location, place)
    with refused(BundleError, got=("keeps weights in", "outside its own folder"), fix="do not use this file"):
        check_file(path)


def test_an_absolute_path_back_into_the_folder_is_refused(folder):
    """It would name another file once the folder is copied."""
    with refused(BundleError, got="outside its own folder"):
        check_file(write_model(folder / "m.onnx", str(folder / "w.data")))


def test_the_runtime_refuses_before_onnxruntime_sees_the_file(folder, monkeypatch):
    monkeypatch.setattr(ort, "InferenceSession", lambda *a, **k: pytest.fail("the file was opened"))
    path = write_model(folder / "m.onnx", "../secret")
    with refused(BundleError, got="'../secret', outside its own folder"):
        OnnxRuntime(path, RuntimeOptions(device="cpu"))


def test_a_linked_folder_is_the_folder(folder, tmp_path):
    write_model(folder / "m.onnx", "w.data")
    (tmp_path / "latest").symlink_to("model")
    check_file(tmp_path / "latest" / "m.onnx")


def test_our_own_export_with_external_data_runs(tiny_model, pixels, tmp_path):
    path = to_onnx(tiny_model, tmp_path / "model.onnx", OnnxOptions(single_file_limit=0))
    with OnnxRuntime(path, RuntimeOptions(device="cpu")) as runtime:
        assert runtime.run(pixels(1, 32, 32)).shape == (1, 32, 32)
    (tmp_path / "model.onnx.data").unlink()
    with refused(BundleError, got="cannot load"):
        OnnxRuntime(path, RuntimeOptions(device="cpu"))


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(content)
    with contextlib.suppress(BundleError):
        check_file(path)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damage_is_taken_or_refused(data, tiny_onnx, tmp_path_factory):
    content = bytearray(tiny_onnx.read_bytes()[:4000])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(content)
    with contextlib.suppress(BundleError):
        check_file(path)


def test_nested_without_end(tmp_path):
    """Graphs in attributes in nodes in graphs: refused, not a RecursionError."""

    def wrapped(field: int, content: bytes) -> bytes:
        size, length = len(content), b""
        while size >= 0x80:
            length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
        return bytes([field << 3 | 2]) + length + bytes([size]) + content

    content = b""
    for _ in range(400):
        content = wrapped(1, wrapped(5, wrapped(6, content)))
    (tmp_path / "m.onnx").write_bytes(wrapped(7, content))
    with refused(BundleError, got="no plain network"):
        check_file(tmp_path / "m.onnx")


def test_the_base_install_can_check(tmp_path):
    path = write_model(tmp_path / "m.onnx", "../secret")
    program = (
        "import sys; sys.modules['onnx'] = None\n"
        "from pathlib import Path\n"
        "from glpn_deploy.runtimes.onnx_file.header import check_file\n"
        f"check_file(Path({str(path)!r}))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "BundleError" in run.stderr
