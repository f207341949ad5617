"""The builder's settings, on stand-ins that have what the real modules of four versions have."""

from __future__ import annotations

import dataclasses
import types

import pytest

from glpn_deploy.bundle.engine_profile import Profile
from glpn_deploy.errors import ExportError, InputError
from glpn_deploy.exporters.engine.engine_config import (
    add_profiles,
    check_request,
    configure,
    memory_limits,
    weak_typing_flags,
)
from glpn_deploy.exporters.engine.engine_options import EngineOptions
from glpn_deploy.gpu.cuda_device import CudaDevice
from glpn_deploy.gpu.tensorrt_versions import tensorrt_of
from tests.refusals import refused

VERSIONS = ("8.6.0", "10.3.0", "10.13.3", "11.4.0")
GIB = 2**30
DISCRETE = CudaDevice(0, "NVIDIA H100", (9, 0), 80 * GIB, integrated=False, driver=(12, 6))


class Orin(CudaDevice):
    def free_bytes(self):
        return 6 * GIB


ORIN = Orin(0, "Orin", (8, 7), 8 * GIB, integrated=True, driver=(12, 6))
TURING = dataclasses.replace(DISCRETE, name="Tesla T4", sm=(7, 5))


@pytest.fixture(params=VERSIONS)
def trt(request, tensorrt_stand_in):
    return tensorrt_stand_in(request.param)


def new_config(trt):
    return trt.Builder(trt.Logger()).create_builder_config()


def applied(trt, options, device=DISCRETE, **kwargs):
    """Sets everything; flag names as the module saw them, and what `configure` says."""
    before = len(trt.calls)
    names = configure(tensorrt_of(trt), new_config(trt), options, device, **kwargs)
    calls = trt.calls[before:]
    flags = [arguments[0].name for name, arguments in calls if name == "IBuilderConfig.set_flag"]
    return names, flags, dict(calls)


def test_the_plain_build(trt):
    names, flags, calls = applied(trt, EngineOptions())
    assert flags == list(names) == []
    assert calls["IBuilderConfig.clear_flag"] == (trt.BuilderFlag.TF32,)
    assert calls["IBuilderConfig.builder_optimization_level ="] == (3,)
    assert calls["IBuilderConfig.profiling_verbosity ="] == (trt.ProfilingVerbosity.DETAILED,)
    assert not {name for name in calls if "tactic" in name or "memory" in name or "hardware" in name}


def test_every_option_that_all_versions_have(trt):
    options = EngineOptions(
        workspace_mb=512,
        tactic_dram_mb=1024,
        level=5,
        hardware_compatibility="ampere_plus",
        version_compatible=True,
        refit=True,
        tactic_sources=("edge_mask_convolutions", "jit_convolutions"),
        tf32=True,
    )
    check_request(tensorrt_of(trt), options, 17, DISCRETE)
    names, flags, calls = applied(trt, options)
    assert list(names) == flags == ["VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME", "REFIT", "TF32"]
    assert "IBuilderConfig.clear_flag" not in calls
    assert trt.called("IBuilderConfig.set_memory_pool_limit") == [
        (trt.MemoryPoolType.WORKSPACE, 512 * 2**20),
        (trt.MemoryPoolType.TACTIC_DRAM, 1024 * 2**20),
    ]
    level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    assert calls["IBuilderConfig.hardware_compatibility_level ="] == (level,)
    # TacticSource: 8.6 and 10 {EDGE_MASK_CONVOLUTIONS: 3, JIT_CONVOLUTIONS: 4}; 11.4 {0, 1}
    assert calls["IBuilderConfig.set_tactic_sources"] == (0b11 if trt.__version__ == "11.4.0" else 0b11000,)


@pytest.mark.parametrize(
    ("options", "since", "needs"),
    [
        ({"strip": True}, (10, 0), "10.0"),
        ({"strip": True, "refit": True}, (10, 0), "10.0"),
        ({"hardware_compatibility": "same_compute_capability"}, (10, 9), "10.9"),
    ],
)
def test_options_that_came_later_are_refused_before(trt, options, since, needs):
    about = tensorrt_of(trt)
    if about.version[:2] < since:
        with refused(
            ExportError, got=f"TensorRT {about.text} has no ", expected=f"TensorRT {needs} or later"
        ):
            check_request(about, EngineOptions(**options), 17, DISCRETE)
    else:
        check_request(about, EngineOptions(**options), 17, DISCRETE)
        applied(trt, EngineOptions(**options))


@pytest.mark.parametrize(
    ("refit", "expected"),
    [(False, {"STRIP_PLAN", "REFIT_IDENTICAL"}), (True, {"STRIP_PLAN", "REFIT"})],
)
def test_stripped_plans_take_their_own_weights_back(tensorrt_stand_in, refit, expected):
    trt = tensorrt_stand_in("10.13.3")
    _, flags, _ = applied(trt, EngineOptions(strip=True, refit=refit))
    assert {trt.BuilderFlag[name] for name in expected} == {trt.BuilderFlag[name] for name in flags}


@pytest.mark.parametrize(
    ("version", "opset", "read"),
    [
        ("8.6.0", 17, True),
        ("8.6.0", 18, False),
        ("10.3.0", 20, True),
        ("11.4.0", 25, True),
        ("11.4.0", 26, False),
    ],
)
def test_opset_ceilings(tensorrt_stand_in, version, opset, read):
    trt = tensorrt_of(tensorrt_stand_in(version))
    if read:
        check_request(trt, EngineOptions(), opset, DISCRETE)
        return
    with refused(
        ExportError, got=(f"opset {opset}", f"reads up to {opset - 1}"), fix=f"--opset {min(opset - 1, 20)}"
    ):
        check_request(trt, EngineOptions(), opset, DISCRETE)


@pytest.mark.parametrize(("version", "most"), [("10.3.0", 20), ("10.13.3", 20)])
def test_later_opsets_are_tried_on_10(tensorrt_stand_in, version, most):
    trt = tensorrt_of(tensorrt_stand_in(version))
    with pytest.warns(UserWarning, match=f"opset 23, and TensorRT {version} reads up to {most}.*tried"):
        check_request(trt, EngineOptions(), 23, DISCRETE)
    with pytest.raises(ExportError):
        check_request(trt, EngineOptions(), 26, DISCRETE)


def test_what_the_gpu_cannot_do(trt):
    with refused(ExportError, got="has no FP8", fix="--precision fp16"):
        check_request(tensorrt_of(trt), EngineOptions(precision="fp8"), 17, ORIN)
    with refused(ExportError, got=("Tesla T4", "older than Ampere")):
        check_request(tensorrt_of(trt), EngineOptions(hardware_compatibility="ampere_plus"), 17, TURING)


@pytest.mark.parametrize("version", ["10.13.3", "11.4.0"])
def test_tactic_sources_are_those_of_the_version(tensorrt_stand_in, version):
    trt = tensorrt_of(tensorrt_stand_in(version))
    options = EngineOptions(tactic_sources=("cublas",))
    if version == "10.13.3":
        check_request(trt, options, 17, DISCRETE)
        return
    expected = r"'cublas'; expected of TensorRT 11.4.0: edge_mask_convolutions, jit_convolutions"
    with pytest.raises(InputError, match=expected):
        check_request(trt, options, 17, DISCRETE)


def test_tactic_sources_that_tensorrt_refuses(trt):
    trt.answers["IBuilderConfig.set_tactic_sources"] = lambda config, bits: False
    with refused(ExportError, got="refuses the tactic sources jit_convolutions"):
        applied(trt, EngineOptions(tactic_sources=("jit_convolutions",)))


def test_no_tactic_source_at_all_is_refused():
    with refused(
        InputError, got="no tactic source", expected="at least one", fix="leave --tactic-sources out"
    ):
        EngineOptions(tactic_sources=())


def test_memory_is_capped_where_the_gpu_shares_it():
    plain = EngineOptions()
    assert memory_limits(plain, DISCRETE) == {}
    limits = memory_limits(plain, ORIN)
    assert limits == {"WORKSPACE": 6 * GIB // 4, "TACTIC_DRAM": int(6 * GIB * 0.85)}
    assert memory_limits(EngineOptions(workspace_mb=64), ORIN)["WORKSPACE"] == 64 * 2**20
    assert memory_limits(EngineOptions(tactic_dram_mb=64), DISCRETE) == {"TACTIC_DRAM": 64 * 2**20}


def test_profiles_in_order(trt):
    builder, config = trt.Builder(trt.Logger()), new_config(trt)
    numbers = iter((0, 1))
    trt.answers["IBuilderConfig.add_optimization_profile"] = lambda config, profile: next(numbers)
    wide = Profile((1, 256, 320), (1, 480, 640), (4, 480, 640))
    add_profiles(builder, config, "pixel_values", (wide, Profile.fixed((2, 96, 128))))
    assert trt.called("IOptimizationProfile.set_shape") == [
        ("pixel_values", (1, 3, 256, 320), (1, 3, 480, 640), (4, 3, 480, 640)),
        ("pixel_values", (2, 3, 96, 128), (2, 3, 96, 128), (2, 3, 96, 128)),
    ]


def test_a_profile_that_tensorrt_refuses(trt):
    trt.answers["IBuilderConfig.add_optimization_profile"] = lambda config, profile: -1
    with refused(ExportError, got="refuses the profile 96x128.b2"):
        add_profiles(trt.Builder(trt.Logger()), new_config(trt), "x", (Profile.fixed((2, 96, 128)),))


class Network:
    """A parsed network of (layer type, type of its output) on a stand-in."""

    def __init__(self, trt, *layers):
        self.trt = trt
        self.layers = []
        for kind, dtype in layers:
            layer = object.__new__(trt.ILayer)
            vars(layer).update(type=trt.LayerType[kind], num_outputs=1, out=self.tensor(dtype))
            self.layers.append(layer)
        trt.answers["ILayer.get_output"] = lambda layer, i: vars(layer)["out"]
        trt.answers["INetworkDefinition.num_layers"] = lambda network: len(self.layers)
        trt.answers["INetworkDefinition.get_layer"] = lambda network, i: self.layers[i]
        self.network = trt.Builder(trt.Logger()).create_network(1)
        trt.calls.clear()

    def tensor(self, dtype):
        return types.SimpleNamespace(dtype=self.trt.DataType[dtype], is_shape_tensor=False)

    def bound(self):
        """Which layers were told a precision, and an output type."""
        return [number for number, layer in enumerate(self.layers) if "precision" in vars(layer)]


def test_weak_typing_of_an_fp32_graph(tensorrt_stand_in):
    trt = tensorrt_stand_in("8.6.0")
    net = Network(trt, ("CONVOLUTION", "FLOAT"), ("SHAPE", "INT32"), ("SOFTMAX", "FLOAT"))
    assert weak_typing_flags(tensorrt_of(trt), net.network) == ()
    assert net.bound() == []


def test_weak_typing_of_a_mixed_graph_binds_what_stays_fp32(tensorrt_stand_in):
    trt = tensorrt_stand_in("8.6.0")
    net = Network(
        trt,
        ("CAST", "HALF"),
        ("CONVOLUTION", "HALF"),
        ("CONSTANT", "FLOAT"),
        ("SHAPE", "INT32"),
        ("CAST", "FLOAT"),
        ("ELEMENTWISE", "FLOAT"),
    )
    flags = weak_typing_flags(tensorrt_of(trt), net.network)
    assert flags == ("FP16", "PREFER_PRECISION_CONSTRAINTS")
    assert net.bound() == [4, 5]
    assert all(vars(net.layers[i])["precision"] == trt.DataType.FLOAT for i in (4, 5))
    assert trt.called("ILayer.set_output_type") == [(0, trt.DataType.FLOAT)] * 2
    names, seen, _ = applied(trt, EngineOptions(precision="fp16"), network_flags=flags)
    assert tuple(seen) == names == flags


@pytest.mark.parametrize(("rest", "expected"), [("FLOAT", ("INT8",)), ("HALF", ("FP16", "INT8"))])
def test_weak_typing_of_a_quantised_graph(tensorrt_stand_in, rest, expected):
    trt = tensorrt_stand_in("8.6.0")
    net = Network(
        trt, ("QUANTIZE", "INT8"), ("DEQUANTIZE", "FLOAT"), ("CONVOLUTION", "FLOAT"), ("SOFTMAX", rest)
    )
    assert weak_typing_flags(tensorrt_of(trt), net.network) == expected
    assert net.bound() == []


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_strong_typing_needs_no_flags_and_asks_nothing(tensorrt_stand_in, version):
    trt = tensorrt_stand_in(version)
    assert weak_typing_flags(tensorrt_of(trt), trt.Builder(trt.Logger()).create_network(2)) == ()


@pytest.mark.parametrize(
    "options",
    [
        {"profiles": ()},
        {"precision": "fp64"},
        {"workspace_mb": 0},
        {"tactic_dram_mb": -1},
        {"level": 6},
        {"hardware_compatibility": "all"},
    ],
)
def test_options_out_of_range(options):
    with pytest.raises(InputError):
        EngineOptions(**options)
