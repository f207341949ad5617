"""The order of a build, its refusals and its failures, on stand-ins of four versions; no GPU.

What TensorRT makes of the graph is for tests/gpu; here everything up to its calls is held against the real
modules' names and signatures.
"""

from __future__ import annotations

import dataclasses
import json
import os
import types
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from glpn_deploy import progress
from glpn_deploy.bundle.engine_profile import Profile
from glpn_deploy.errors import BackendError, BundleError, ExportError, InputError
from glpn_deploy.exporters import to_engine as module
from glpn_deploy.exporters.engine.engine_source import read_source
from glpn_deploy.exporters.to_engine import EngineOptions, to_engine
from glpn_deploy.gpu.cuda_device import CudaDevice
from tests.listening import Listener
from tests.refusals import refused

VERSIONS = ("8.6.0", "10.3.0", "10.13.3", "11.4.0")
H100 = CudaDevice(0, "NVIDIA H100", (9, 0), 80 * 2**30, integrated=False, driver=(12, 6))
PLAN = b"ftrt plan" * 100
PROFILE = Profile((1, 96, 128), (1, 96, 128), (4, 96, 128))


def report(*types_of_products):
    layers = [
        {"LayerType": "gemm", "Inputs": [{"Format/Datatype": t}], "Outputs": [{"Format/Datatype": t}]}
        for t in types_of_products
    ]
    return json.dumps({"Layers": layers})


class Machine:
    """A machine with a GPU and one version of TensorRT, whose answers a test can change."""

    def __init__(self, trt):
        self.trt, self.log, self.inspected, self.says = trt, None, report("Half", "Float"), []
        self.plan, self.accepts_timings = PLAN, lambda content: True
        answers = trt.answers
        answers["Builder.__init__"] = self.start
        self.source = types.SimpleNamespace(name="pixel_values", dtype=trt.DataType.FLOAT)
        answers["INetworkDefinition.get_input"] = lambda net, i: self.source
        for name in ("num_inputs", "num_outputs"):
            answers[f"INetworkDefinition.{name}"] = lambda net: 1
        answers["INetworkDefinition.num_layers"] = lambda net: 0
        answers["Builder.build_serialized_network"] = self.build
        answers["ICudaEngine.num_io_tensors"] = lambda engine: 1
        answers["ICudaEngine.get_tensor_name"] = lambda engine, i: "pixel_values"
        answers["ICudaEngine.get_tensor_mode"] = lambda engine, name: trt.TensorIOMode.INPUT
        answers["EngineInspector.get_engine_information"] = lambda inspector, format: self.inspected
        for name in ("device_memory_size", "device_memory_size_v2"):
            answers[f"ICudaEngine.{name}"] = lambda engine: 12345
        answers["IBuilderConfig.create_timing_cache"] = self.cache
        answers["IBuilderConfig.set_timing_cache"] = lambda config, cache, any_: self.accepts_timings(
            vars(cache)["content"]
        )
        answers["IBuilderConfig.get_timing_cache"] = lambda config: object.__new__(trt.ITimingCache)
        answers["ITimingCache.serialize"] = lambda cache: b"new timings"
        answers["IBuilderConfig.add_optimization_profile"] = self.add_profile

    def start(self, builder, log):
        self.log = log

    def add_profile(self, config, profile):
        added = vars(config).setdefault("added", [])
        added.append(profile)
        return len(added) - 1

    def cache(self, config, content):
        made = object.__new__(self.trt.ITimingCache)
        vars(made)["content"] = bytes(content)
        return made

    def build(self, builder, network, config):
        for message in self.says:
            self.log.log(self.trt.ILogger.ERROR, message)
        return self.plan


@pytest.fixture
def machine(monkeypatch, tensorrt_stand_in, tmp_path_factory):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))

    def make(version):
        trt = tensorrt_stand_in(version)
        monkeypatch.setattr(module, "find_device", lambda: H100)
        monkeypatch.setattr(module, "import_tensorrt", lambda: trt)
        return Machine(trt)

    return make


@pytest.fixture
def source(tiny_onnx):
    assert read_source(tiny_onnx).opset == 17  # which all versions read
    return tiny_onnx


FP16 = EngineOptions(profiles=(PROFILE,), precision="fp16")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_build(machine, source, tmp_path, version):
    host = machine(version)
    host.inspected = report("Half", "Half", "Float")
    target = tmp_path / "x.engine"
    made = to_engine(source, target, FP16)
    assert target.read_bytes() == PLAN  # pure
    assert [path.name for path in tmp_path.iterdir()] == ["x.engine"]
    assert (made.layers, made.bytes, made.tensorrt, made.cuda) == (
        {"fp16": 2, "fp32": 1},
        900,
        version,
        "12.6",
    )
    assert (made.flags, made.tf32, made.device_memory_bytes) == ((), False, 12345)
    assert made.build_s > 0
    trt = host.trt
    assert trt.called("Builder.create_network") == [({"8.6.0": 1, "11.4.0": 1}.get(version, 2),)]
    assert trt.called("OnnxParser.parse_from_file") == [(str(source),)]
    assert trt.called("IOptimizationProfile.set_shape")[0][1:] == (
        (1, 3, 96, 128),
        (1, 3, 96, 128),
        (4, 3, 96, 128),
    )
    assert trt.called("Runtime.deserialize_cuda_engine") == [(PLAN,)]
    assert trt.called("IExecutionContext.set_input_shape") == [("pixel_values", (1, 3, 96, 128))]
    assert len(trt.called("IBuilderConfig.progress_monitor =")) == (version != "8.6.0")
    assert not trt.called("Runtime.engine_host_code_allowed =")


def test_progress_and_warnings(machine, source, tmp_path):
    host = machine("10.13.3")

    def build(builder, network, config):
        monitor = host.trt.called("IBuilderConfig.progress_monitor =")[0][0]
        monitor.phase_start("Building Engine", None, 50)
        monitor.step_complete("Building Engine", 0)
        for message in ["a tactic was\n  skipped\n"] * 2 + ["\x1b[31mred"]:
            host.log.log(host.trt.ILogger.WARNING, message)
        return PLAN

    host.trt.answers["Builder.build_serialized_network"] = build
    listener = Listener()
    with progress.shown(listener):
        made = to_engine(source, tmp_path / "x.engine", FP16)
    (step,) = listener.steps
    assert (step.title, step.total, step.advances) == ("TensorRT fp16", 100, ["Building Engine"] * 2)
    assert step.summary == "0.0 MiB, 1 layers in fp16, 1 layers in fp32"
    assert made.warnings == ("a tactic was skipped", "?[31mred")


def test_an_engine_that_lost_its_precision_is_not_kept(machine, source, tmp_path):
    host = machine("8.6.0")
    host.inspected = report("Float", "Float")
    target = tmp_path / "x.engine"
    target.write_bytes(b"the engine before")
    with refused(ExportError, got=("no layer of the engine computes in fp16", "2 in fp32")):
        to_engine(source, target, FP16)
    assert target.read_bytes() == b"the engine before"
    assert list(tmp_path.iterdir()) == [target]


def test_a_stripped_engine_is_inspected_without_a_context(machine, source, tmp_path):
    host = machine("10.13.3")
    host.inspected = report("N/A due to dynamic shapes")
    options = EngineOptions(profiles=(PROFILE,), precision="fp16", strip=True)
    made = to_engine(source, tmp_path / "x.engine", options)
    assert not host.trt.called("ICudaEngine.create_execution_context")
    assert made.layers == {"unknown": 1}
    assert made.flags == ("STRIP_PLAN", "REFIT_IDENTICAL")
    host.inspected = report("Float")
    with refused(ExportError, got="no layer of the engine computes in fp16"):
        to_engine(source, tmp_path / "x.engine", options)


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (
            ["1: [defaultAllocator.cpp::allocate::20] Error Code 1: Cuda Runtime (out of memory)",
             "Requested amount of GPU memory (999 bytes) could not be allocated.",
             "Error 10: Internal Error (Could not find any implementation for node {Node[a...b]}.)"],
            r"H100 ran out of memory during the build .*999 bytes.*\); close .*--workspace 256.*--batch",
        ),
        (
            ["10: Could not find any implementation for node MatMul due to insufficient workspace."],
            r"the workspace is too small \(10: Could not.*\); give more with --workspace",
        ),
        (["first", "4: [network.cpp] \n Error Code 4: Internal Error (x)", "last"],
         r"could not build the engine \(4: \[network.cpp\] Error Code 4: Internal Error \(x\); last\); try"),
        ([], r"could not build the engine; try --level 2"),
    ],
)  # fmt: skip
def test_failed_builds_quote_tensorrt(machine, source, tmp_path, messages, expected):
    host = machine("10.3.0")
    host.plan, host.says = None, messages
    with pytest.raises(ExportError, match=expected):
        to_engine(source, tmp_path / "x.engine", FP16)
    assert not list(tmp_path.iterdir())


def test_exceptions_of_the_bindings_are_sentences(machine, source, tmp_path):
    host = machine("11.4.0")

    def fail(*_):
        raise MemoryError("std::bad_alloc")

    host.trt.answers["Builder.build_serialized_network"] = fail
    with refused(ExportError, got=("ran out of memory", "bad_alloc")):
        to_engine(source, tmp_path / "x.engine", FP16)

    def nothing(builder, log):
        log.log(host.trt.ILogger.INTERNAL_ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    host.trt.answers["Builder.__init__"] = nothing
    with refused(BackendError, got="does not start on NVIDIA H100 (CUDA initialization failure"):
        to_engine(source, tmp_path / "x.engine", FP16)


def test_an_engine_that_cannot_be_loaded(machine, source, tmp_path):
    host = machine("10.13.3")
    host.trt.answers["Runtime.deserialize_cuda_engine"] = lambda runtime, plan: None
    with refused(ExportError, got="cannot load the engine that it built"):
        to_engine(source, tmp_path / "x.engine", FP16)


@pytest.mark.parametrize("version", VERSIONS)
def test_parser_errors_name_the_node(machine, source, tmp_path, version):
    host = machine(version)
    graph = onnx.load(source).graph
    wanted = graph.node[5]
    answers = host.trt.answers
    answers["OnnxParser.parse_from_file"] = lambda parser, path: False
    answers["OnnxParser.num_errors"] = lambda parser: 1
    answers["ParserError.desc"] = lambda error: "Assertion failed:\n no importer"
    answers["ParserError.node"] = lambda error: 5
    if version != "8.6.0":
        answers["ParserError.node_name"] = lambda error: wanted.name
        answers["ParserError.node_operator"] = lambda error: wanted.op_type
    with pytest.raises(ExportError) as caught:
        to_engine(source, tmp_path / "x.engine", FP16)
    assert f"({wanted.op_type} {wanted.name}: Assertion failed: no importer)" in str(caught.value)


@pytest.mark.parametrize(
    ("profiles", "shape"),
    [
        ((Profile.fixed((2, 480, 640)),), (2, 3, 480, 640)),
        ((Profile((1, 480, 640), (1, 480, 640), (2, 480, 640)),), None),
        ((Profile.fixed((1, 480, 640)), Profile.fixed((2, 480, 640))), None),
    ],
)
def test_one_fixed_shape_is_the_networks_own(machine, source, tmp_path, profiles, shape):
    host = machine("10.3.0")
    to_engine(source, tmp_path / "x.engine", EngineOptions(profiles=profiles))
    assert getattr(host.source, "shape", None) == shape


def test_timing_caches(machine, source, tmp_path):
    host = machine("10.13.3")
    place = tmp_path / "timings"
    options = EngineOptions(profiles=(PROFILE,), timing_cache=place)
    created = host.trt.called
    to_engine(source, tmp_path / "x.engine", options)
    assert created("IBuilderConfig.create_timing_cache") == [(b"",)]
    assert place.read_bytes() == b"new timings"
    to_engine(source, tmp_path / "x.engine", options)
    assert created("IBuilderConfig.create_timing_cache")[1:] == [(b"new timings",)]
    # of another GPU: TensorRT refuses it, a new one is begun; mismatches are never overlooked
    place.write_bytes(b"foreign")
    host.accepts_timings = lambda content: content != b"foreign"
    to_engine(source, tmp_path / "x.engine", options)
    assert created("IBuilderConfig.create_timing_cache")[2:] == [(b"foreign",), (b"",)]
    assert all(arguments[1] is False for arguments in created("IBuilderConfig.set_timing_cache"))
    assert place.read_bytes() == b"new timings"


def test_timings_are_kept_for_the_user_by_default(machine, source, tmp_path, monkeypatch):
    host = machine("10.13.3")
    options = EngineOptions(profiles=(PROFILE,))
    to_engine(source, tmp_path / "x.engine", options)
    (place,) = (Path(os.environ["XDG_CACHE_HOME"]) / "glpn-deploy/timings").iterdir()
    assert place.name == "trt10.13.3-sm9.0-0-NVIDIA-H100.timings"
    assert place.parent.stat().st_mode & 0o077 == 0
    to_engine(source, tmp_path / "x.engine", options)
    assert host.trt.called("IBuilderConfig.create_timing_cache") == [(b"",), (b"new timings",)]
    to_engine(source, tmp_path / "x.engine", dataclasses.replace(options, timing_cache="none"))
    assert len(host.trt.called("IBuilderConfig.create_timing_cache")) == 2
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # where nothing can be kept
    to_engine(source, tmp_path / "x.engine", options)
    assert len(host.trt.called("IBuilderConfig.create_timing_cache")) == 2


def test_timing_caches_that_are_none(machine, source, tmp_path):
    host = machine("8.6.0")
    make = host.trt.answers["IBuilderConfig.create_timing_cache"]

    def refuse(config, content):
        if content:
            raise RuntimeError("not a cache")
        return make(config, content)

    host.trt.answers["IBuilderConfig.create_timing_cache"] = refuse
    place = tmp_path / "timings"
    place.write_bytes(b"\0" * 8)
    to_engine(source, tmp_path / "x.engine", EngineOptions(profiles=(PROFILE,), timing_cache=place))
    assert place.read_bytes() == b"new timings"
    with refused(InputError, got="there is no folder"):
        to_engine(source, tmp_path / "y.engine", EngineOptions(timing_cache=tmp_path / "none" / "timings"))
    with refused(InputError, got="cannot be read"):
        to_engine(source, tmp_path / "y.engine", EngineOptions(timing_cache=tmp_path))


def write_model(path, opset, domain=""):
    node = helper.make_node("Relu", ["x"], ["y"], name="act")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    imports = [helper.make_opsetid("com.microsoft", 1), helper.make_opsetid(domain, opset)]
    onnx.save(helper.make_model(graph, opset_imports=imports), path)
    return path


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_what_is_read_of_the_source(tiny_onnx, tmp_path, domain):
    found = read_source(write_model(tmp_path / "m.onnx", 23, domain))
    assert (found.opset, found.nodes) == (23, ("Relu act",))
    model = onnx.load(tiny_onnx)
    assert read_source(tiny_onnx).nodes == tuple(f"{n.op_type} {n.name}".strip() for n in model.graph.node)


def test_an_opset_too_new_is_refused_before_the_build(machine, tmp_path):
    host = machine("8.6.0")
    with refused(ExportError, got="opset 18, and TensorRT 8.6.0 reads up to 17"):
        to_engine(write_model(tmp_path / "m.onnx", 18), tmp_path / "x.engine", FP16)
    assert not host.trt.calls


@pytest.mark.parametrize("content", [b"", b"no onnx at all", b"\x08\x07"])
def test_damaged_sources(machine, tmp_path, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with refused(BundleError, got="is not an ONNX file, or is damaged"):
        to_engine(path, tmp_path / "x.engine", FP16)
    with refused(BundleError, got="there is no file"):
        to_engine(tmp_path / "none.onnx", tmp_path / "x.engine", FP16)


def test_weights_outside_the_folder_are_refused(machine, tmp_path):
    """TensorRT's parser would open them."""
    host = machine("10.13.3")
    model = onnx.load(write_model(tmp_path / "m.onnx", 17))
    tensor = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with refused(BundleError, got="outside its own folder"):
        to_engine(tmp_path / "m.onnx", tmp_path / "x.engine", FP16)
    assert not host.trt.calls


def test_without_a_gpu_tensorrt_is_not_touched(monkeypatch, source, tmp_path):
    def none():
        raise BackendError("the NVIDIA driver finds no GPU")

    def imported():
        raise AssertionError("imported")

    monkeypatch.setattr(module, "find_device", none)
    monkeypatch.setattr(module, "import_tensorrt", imported)
    with refused(BackendError, got="finds no GPU"):
        to_engine(source, tmp_path / "x.engine", FP16)
    assert not list(tmp_path.iterdir())
