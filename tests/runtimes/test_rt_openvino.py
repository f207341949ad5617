"""OpenVINO against ONNX Runtime, by shape, by precision, from a cache, and on what it is not given."""

from __future__ import annotations

import dataclasses
import gc
import random
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from glpn_deploy.datasets.rooms import RenderedRooms
from glpn_deploy.depth.error_stats import error_stats
from glpn_deploy.errors import BackendError, BundleError, UnavailableError
from glpn_deploy.estimator import DepthEstimator
from glpn_deploy.exporters.calibration.image_sets import ImageSet
from glpn_deploy.exporters.options import OnnxOptions
from glpn_deploy.exporters.search.recipes import make_recipe
from glpn_deploy.exporters.to_onnx import to_onnx
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.model.modeling import GLPNForDepthEstimation
from glpn_deploy.proof.parity import SWEEP, room_batch, sweep_batches
from glpn_deploy.runtimes import rt_openvino
from glpn_deploy.runtimes.base import RuntimeOptions
from glpn_deploy.runtimes.processor import cpu_flags
from glpn_deploy.runtimes.rt_onnxruntime import OnnxRuntime
from glpn_deploy.runtimes.rt_openvino import OpenVINORuntime, load, native_precisions
from tests.refusals import refused

ov = vars(rt_openvino)["ov"]  # a plain import would report itself by network
CPU = RuntimeOptions(device="cpu", threads=1)
BUNDLED = Path(rt_openvino.__file__).parent.parent / "demo_checkpoint"


@pytest.fixture(scope="module")
def runtime(tiny_onnx):
    with OpenVINORuntime(tiny_onnx, CPU) as runtime:
        yield runtime


@pytest.fixture(scope="module")
def oracle(tiny_onnx):
    with OnnxRuntime(tiny_onnx, CPU) as runtime:
        yield runtime


@pytest.mark.parametrize("shape", SWEEP)
def test_equals_onnxruntime(shape, runtime, oracle, pixels):
    x = pixels(*shape)
    depth = runtime.run(x)
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, oracle.run(x), rtol=0, atol=1e-5 * 10)


@pytest.mark.slow
def test_the_demo_network_equals_onnxruntime(tmp_path):
    path = to_onnx(GLPNForDepthEstimation.from_pretrained(BUNDLED), tmp_path / "demo.onnx")
    with OpenVINORuntime(path, CPU) as runtime, OnnxRuntime(path, CPU) as oracle:
        for name, batch in sweep_batches(GLPNImageProcessor(), 32):
            error = np.abs(runtime.run(batch) - oracle.run(batch)).max()
            assert error <= 1e-5 * runtime.max_depth, name


def test_what_it_knows_of_the_file(runtime):
    about = {"backend": "openvino", "device": "cpu", "precision": "fp32"}
    assert runtime.describe() | about == runtime.describe()  # beside counts of what ran before
    assert (runtime.max_depth, runtime.spec.size_multiple, runtime.spec.batch) == (10, 32, None)


def test_fixed_and_dynamic_networks_agree(tiny_onnx, oracle, pixels):
    with OpenVINORuntime(tiny_onnx, CPU) as runtime:
        for size in (32, 64, 96, 64, 128):
            x = pixels(2, size, 64)
            np.testing.assert_allclose(runtime.run(x), oracle.run(x), rtol=0, atol=1e-5 * 10)
        assert runtime.shapes == [(2, 3, 32, 64), (2, 3, 64, 64)]  # the others came once


def test_the_dynamic_network_is_right_after_any_other_shape(tiny_onnx, oracle, pixels):
    """OpenVINO takes kernels made for another shape: 3x32x256 after 2x32x32 was wrong by 1 m."""
    rng = random.Random(0)
    shapes = [(2, 32, 32), (3, 32, 256)]
    sides = [32, 32, 64, 96, 256]
    shapes += [(rng.randint(1, 3), rng.choice(sides), rng.choice(sides)) for _ in range(25)]
    with OpenVINORuntime(tiny_onnx, CPU) as runtime:
        runtime.run(pixels(1, 64, 64))  # takes the network of fixed shape that the first one gets
        network = runtime._compile(None)
        for shape in shapes:
            x = pixels(*shape)
            np.testing.assert_allclose(network.run(x), oracle.run(x), rtol=0, atol=1e-4, err_msg=str(shape))


@pytest.fixture
def fresh(tiny_onnx):
    """Its first shape gets a network of its own, and keeps it: the same input gives the same bits."""
    with OpenVINORuntime(tiny_onnx, CPU) as runtime:
        yield runtime


def test_read_only_inputs_of_changing_shapes(fresh, oracle, pixels):
    for size in (32, 96, 64, 128, 160):
        x = pixels(1, size, 64)
        x.setflags(write=False)
        np.testing.assert_allclose(fresh.run(x), oracle.run(x), rtol=0, atol=1e-4)


def test_a_shape_that_was_warmed_up_compiles_nothing_more(fresh, oracle, pixels, monkeypatch):
    compiled = []
    compile = fresh._networks._compile
    monkeypatch.setattr(fresh._networks, "_compile", lambda shape: compiled.append(shape) or compile(shape))
    for side in range(1, 6):  # one more than there is room for
        x = pixels(1, 32, 32 * side)
        np.testing.assert_allclose(fresh.warm_up(x), oracle.run(x), atol=1e-4)
        assert compiled == [x.shape]
        for _ in range(3):
            fresh.run(x)
        assert compiled == [x.shape]
        compiled.clear()


@pytest.mark.parametrize("mode", ["latency", "throughput"])
def test_threads_may_share_it(mode, tiny_onnx, oracle, pixels):
    inputs = [pixels(1, 64, 96, seed=seed) for seed in range(4)]
    expected = [oracle.run(x) for x in inputs]
    wrong: list[int] = []
    with OpenVINORuntime(tiny_onnx, dataclasses.replace(CPU, mode=mode)) as runtime:

        def work(i: int) -> None:
            for _ in range(10):
                if not np.allclose(runtime.run(inputs[i]), expected[i], rtol=0, atol=1e-4):
                    wrong.append(i)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


# Precision ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_precision_is_always_explicit_and_what_it_says(precision, tiny_onnx, pixels, monkeypatch):
    seen = []
    compile_model = ov.Core.compile_model

    def spy(core, model, device, config):
        compiled = compile_model(core, model, device, config)
        seen.append((config["INFERENCE_PRECISION_HINT"], compiled.get_property("INFERENCE_PRECISION_HINT")))
        return compiled

    monkeypatch.setattr(ov.Core, "compile_model", spy)
    with OpenVINORuntime(tiny_onnx, dataclasses.replace(CPU, precision=precision)) as runtime:
        runtime.run(pixels(1, 64, 64))
        types = {"fp32": ov.Type.f32, "bf16": ov.Type.bf16, "fp16": ov.Type.f16}
        ((hint, effective),) = seen
        assert hint == types[runtime.precision].get_type_name()
        assert effective == types[runtime.precision]
        assert (runtime.why == "") == (runtime.precision == precision)
        assert (runtime.precision == precision) == (precision in native_precisions())


@pytest.mark.parametrize(("precision", "limit"), [("bf16", 0.02), ("fp16", 0.005)])
def test_half_precisions_move_the_depth_a_little(precision, limit, tiny_onnx, oracle):
    x = room_batch(GLPNImageProcessor(), 2, 96, 128)
    with OpenVINORuntime(tiny_onnx, dataclasses.replace(CPU, precision=precision)) as runtime:
        expected = oracle.run(x)
        error = np.abs(runtime.run(x) - expected) / expected
        assert error.mean() <= (limit if runtime.precision == precision else 1e-5)


@pytest.mark.parametrize(
    ("file", "asked", "rest", "native", "expected"),
    [
        ("fp32", "fp32", "fp32", ["fp32"], ("fp32", "fp32", "")),
        ("fp32", "bf16", "fp32", ["fp32", "bf16"], ("bf16", "bf16", "")),
        ("fp32", "bf16", "fp32", ["fp32"], ("fp32", "fp32", "runs in fp32, not bf16: this processor has no")),
        ("fp32", "fp16", "fp32", ["fp32", "bf16"], ("fp32", "fp32", "runs in fp32, not fp16: .*AVX512_FP16")),
        ("fp32", "int8", "fp32", ["fp32"], ("fp32", "fp32", "")),  # as ONNX Runtime: the file's own
        ("int8", "fp32", "fp32", ["fp32", "bf16"], ("int8", "fp32", "")),
        ("int8", "int8", "bf16", ["fp32", "bf16"], ("int8", "bf16", "")),
        ("int8", "int8", "bf16", ["fp32"], ("int8", "fp32", "not quantized runs in fp32: .*no bf16")),
        ("fp16", "fp32", "fp32", ["fp32"], ("fp16", "fp32", "the fp16 file is computed in fp32")),
        ("fp16", "fp16", "fp32", ["fp32", "fp16"], ("fp16", "fp16", "")),
    ],
)
def test_what_is_told_of_files_and_processors(file, asked, rest, native, expected, monkeypatch):
    monkeypatch.setattr(rt_openvino, "cpu_flags", lambda: frozenset({"avx2", "avx_vnni"}))
    options = RuntimeOptions(device="cpu", precision=asked, fallback_precision=rest)
    precision, hint, reasons = rt_openvino._precision(file, options, native)
    why = "; ".join(reason.text for reason in reasons)
    assert (precision, hint, bool(why)) == (*expected[:2], bool(expected[2]))
    assert re.search(expected[2], why)


def test_what_is_told_of_int8_depends_on_whom_it_was_made_for(monkeypatch):
    monkeypatch.setattr(rt_openvino, "cpu_flags", lambda: frozenset({"avx2", "avx512f"}))
    assert rt_openvino._precision("int8", CPU, ["fp32"], "cpu") == ("int8", "fp32", ())
    (reason,) = rt_openvino._precision("int8", CPU, ["fp32"], "tensorrt")[2]
    assert "--target cpu is fast" in reason.text


def test_int8_without_vnni_is_said(monkeypatch):
    monkeypatch.setattr(rt_openvino, "cpu_flags", lambda: frozenset({"avx2", "avx512f"}))
    (reason,) = rt_openvino._precision("int8", CPU, ["fp32"])[2]
    assert "no VNNI" in reason.text
    assert rt_openvino._precision("fp32", CPU, ["fp32"])[2] == ()


class Rooms(CalibrationDataReader):
    def __init__(self):
        self.batches = iter([{"pixel_values": room_batch(GLPNImageProcessor(), 2, 64, 96)}])

    def get_next(self):
        return next(self.batches, None)


def test_a_quantised_graph_runs_in_int8(tiny_onnx, tmp_path):
    """Q/DQ by onnxruntime's own quantizer; INT8 products show in OpenVINO's compiled graph.

    Weights of 7 bits: without VNNI the products of both would overflow their 16 bits otherwise.
    """
    path = tmp_path / "int8.onnx"
    kinds = ["MatMul", "Conv"]  # QUInt8 beside them: signed activations overflow there all the same
    quantize_static(
        tiny_onnx,
        path,
        Rooms(),
        QuantFormat.QDQ,
        op_types_to_quantize=kinds,
        activation_type=QuantType.QUInt8,
        per_channel=True,
        reduce_range=True,
    )
    model = onnx.load(str(path))
    helper.set_model_props(model, {"max_depth": "10.0", "precision": "int8"})
    onnx.save_model(model, str(path))
    x = room_batch(GLPNImageProcessor(), 2, 64, 96)
    with OpenVINORuntime(path, CPU) as runtime, OnnxRuntime(path, CPU) as oracle:
        assert runtime.precision == "int8"
        expected = oracle.run(x)
        assert np.abs(runtime.run(x) - expected).mean() < 0.02 * expected.mean()
        (network,) = runtime._networks._fixed.values()
        types = {
            node.get_rt_info()["runtimePrecision"].astype(str)
            for node in network._compiled.get_runtime_model().get_ops()
        }
        assert types & {"i8", "u8"}


def test_our_int8_graph_is_multiplied_in_int8(tiny_onnx, tmp_path):
    """No weight is dequantized in a run, as OpenVINO does where zero points are shared."""
    if "INT8" not in rt_openvino._CORE.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no INT8 arithmetic")
    rooms = tuple(room.image for room in RenderedRooms("test", 4, height=64, width=96))
    recipe = make_recipe("int8", tiny_onnx, ImageSet(rooms, (), "rooms"), GLPNImageProcessor(), target="cpu")
    with OpenVINORuntime(recipe.write(frozenset(), tmp_path / "int8.onnx"), CPU) as runtime:
        runtime.run(room_batch(GLPNImageProcessor(), 2, 64, 96))
        (network,) = runtime._networks._fixed.values()
        nodes = [
            {key: value.astype(str) for key, value in node.get_rt_info().items() if value.astype(str)}
            for node in network._compiled.get_runtime_model().get_ops()
        ]
    layers = [node for node in nodes if node["layerType"] in ("FullyConnected", "Convolution")]
    products = [node for node in layers if not node["originalLayersNames"].startswith("head")]
    integer = [node for node in products if node["primitiveType"].endswith("8")]
    assert len(products) > 20
    if {"avx512_vnni", "amx_int8"} & (cpu_flags() or frozenset()):  # others may lack some of the kernels
        assert len(integer) > 0.8 * len(products)  # not the first convolution
    awake = [node["originalLayersNames"] for node in nodes if "originalLayersNames" in node]
    assert not [names for names in awake if re.search(r"weight(_t)?/DQ", names)]


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_both_forms_of_int8_are_right(target, tmp_path):
    """OpenVINO's integer kernels moved the demo's depth by 0.053 with the form for TensorRT."""
    source = to_onnx(GLPNForDepthEstimation.from_pretrained(BUNDLED), tmp_path / "demo.onnx")
    rooms = tuple(room.image for room in RenderedRooms("train", 16, height=96, width=128))
    images = ImageSet(rooms, (), "rooms")
    recipe = make_recipe("int8", source, images, GLPNImageProcessor(), target=target)
    x = room_batch(GLPNImageProcessor(), 8, 96, 128)
    options = RuntimeOptions(device="cpu", precision="int8")
    with (
        OnnxRuntime(source, CPU) as fp32,
        OpenVINORuntime(recipe.write(frozenset(), tmp_path / "int8.onnx"), options) as ours,
    ):
        assert error_stats(ours.run(x), fp32.run(x)).abs_rel < 0.015


# The cache ------------------------------------------------------------------------------------------------


def entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_a_second_start_compiles_nothing(tiny_onnx, tmp_path, pixels, monkeypatch):
    options, x = dataclasses.replace(CPU, cache=tmp_path / "cache"), pixels(1, 64, 96)
    with OpenVINORuntime(tiny_onnx, options) as runtime:
        expected = runtime.run(x)
    monkeypatch.setattr(ov.Core, "compile_model", lambda *a: pytest.fail("it was compiled"))
    monkeypatch.setattr(ov.Core, "read_model", lambda *a: pytest.fail("the file was read"))
    with OpenVINORuntime(tiny_onnx, options) as runtime:
        np.testing.assert_array_equal(runtime.run(x), expected)


def test_an_imported_network_keeps_the_memory_it_reads_from(tiny_onnx, tmp_path, pixels):
    """OpenVINO copies no weights: with that memory gone it crashed."""
    options, x = dataclasses.replace(CPU, cache=tmp_path / "cache"), pixels(1, 64, 96)
    with OpenVINORuntime(tiny_onnx, options) as runtime:
        expected = runtime.run(x)
    with OpenVINORuntime(tiny_onnx, options) as runtime:
        runtime.run(x)
        gc.collect()
        for _ in range(20):  # would land where the entry was
            np.full(entries(tmp_path / "cache")[0].stat().st_size, 255, np.uint8)
        np.testing.assert_array_equal(runtime.run(x), expected)


def test_an_openvino_that_imports_from_streams_only(tiny_onnx, tmp_path, pixels, monkeypatch):
    options, x = dataclasses.replace(CPU, cache=tmp_path / "cache"), pixels(1, 64, 96)
    with OpenVINORuntime(tiny_onnx, options) as runtime:
        expected = runtime.run(x)
    imported = ov.Core.import_model

    def of_2025(core, source, *arguments):
        if isinstance(source, ov.Tensor):
            raise TypeError("import_model(): incompatible function arguments")
        return imported(core, source, *arguments)

    monkeypatch.setattr(ov.Core, "import_model", of_2025)
    monkeypatch.setattr(ov.Core, "compile_model", lambda *a: pytest.fail("it was compiled"))
    with OpenVINORuntime(tiny_onnx, options) as runtime:
        np.testing.assert_array_equal(runtime.run(x), expected)
        (network,) = runtime._networks._fixed.values()
        assert network._blob is None  # OpenVINO has a copy of its own


@pytest.mark.parametrize("damage", ["byte", "cut", "empty", "other"])
def test_a_damaged_cache_is_made_anew(damage, tiny_onnx, tmp_path, pixels):
    options, x = dataclasses.replace(CPU, cache=tmp_path / "cache"), pixels(1, 64, 96)
    with OpenVINORuntime(tiny_onnx, options) as runtime:
        expected = runtime.run(x)
    (entry,) = entries(tmp_path / "cache")
    content = bytearray(entry.read_bytes())
    if damage == "byte":
        content[len(content) // 2] ^= 0xFF
    entry.write_bytes({"byte": content, "cut": content[:999], "empty": b"", "other": b"x" * 999}[damage])
    with OpenVINORuntime(tiny_onnx, options) as runtime:
        np.testing.assert_array_equal(runtime.run(x), expected)
    assert len(entries(tmp_path / "cache")) == 1


def test_an_entry_that_openvino_refuses_is_made_anew(tiny_onnx, tmp_path, pixels, monkeypatch):
    """Of another build, say: whole, but not for this one."""
    options, x = dataclasses.replace(CPU, cache=tmp_path / "cache"), pixels(1, 64, 96)
    with OpenVINORuntime(tiny_onnx, options) as runtime:
        expected = runtime.run(x)

    def refuse(*arguments):
        raise RuntimeError("another build")

    monkeypatch.setattr(ov.Core, "import_model", refuse)
    with OpenVINORuntime(tiny_onnx, options) as runtime:
        np.testing.assert_array_equal(runtime.run(x), expected)


def test_another_network_of_the_same_name_has_another_entry(tiny_onnx, make_model, tmp_path, pixels):
    options, x = dataclasses.replace(CPU, cache=tmp_path / "cache"), pixels(1, 64, 96)
    path = tmp_path / "model.onnx"
    for seed in (1, 2):
        to_onnx(make_model(seed=seed), path)
        with OpenVINORuntime(path, options) as runtime, OnnxRuntime(path, CPU) as oracle:
            np.testing.assert_allclose(runtime.run(x), oracle.run(x), rtol=0, atol=1e-4)
    assert len(entries(tmp_path / "cache")) == 2


def test_what_was_replaced_meanwhile_is_not_kept_under_the_old_digest(
    tiny_onnx, make_model, tmp_path, pixels
):
    """A second shape reads the file again; what lies there by then may be another network."""
    options = dataclasses.replace(CPU, cache=tmp_path / "cache")
    path, original = tmp_path / "model.onnx", tiny_onnx.read_bytes()
    path.write_bytes(original)
    first, second = pixels(1, 64, 96), pixels(1, 32, 64)
    with OpenVINORuntime(path, options) as runtime:
        runtime.run(first)
    with OpenVINORuntime(path, options) as runtime:  # from the cache: the file is not read
        to_onnx(make_model(seed=1), path)
        with refused(BundleError, got="was replaced"):
            runtime.run(second)
        path.write_bytes(original)  # restored, which is not known to be the same any more
        with refused(BundleError, got="was replaced"):
            runtime.run(second)
    with OpenVINORuntime(path, options) as runtime, OnnxRuntime(path, CPU) as oracle:
        np.testing.assert_allclose(runtime.run(second), oracle.run(second), rtol=0, atol=1e-4)


def test_a_cache_that_cannot_be_written_is_done_without(tiny_onnx, tmp_path, pixels):
    (tmp_path / "file").write_text("x")
    with OpenVINORuntime(tiny_onnx, dataclasses.replace(CPU, cache=tmp_path / "file")) as runtime:
        assert runtime.run(pixels(1, 64, 96)).shape == (1, 64, 96)


# Files that are not what they should be -------------------------------------------------------------------


def test_no_gpu(tiny_onnx):
    with refused(UnavailableError, got="runs on the CPU only", fix="the onnxruntime backend"):
        load(tiny_onnx, RuntimeOptions(device="cuda"))


_CTRL_C = """
import signal, sys
import numpy as np
from glpn_deploy.runtimes.base import RuntimeOptions
from glpn_deploy.runtimes.rt_openvino import OpenVINORuntime
signal.signal(signal.SIGINT, signal.default_int_handler)
first, second = (OpenVINORuntime(sys.argv[1], RuntimeOptions(device="cpu")) for _ in range(2))
first.run(np.zeros((1, 3, 32, 32), np.float32))
second.run(np.zeros((1, 3, 32, 32), np.float32))
first.close()
second.close()
del first, second
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_after_two_runtimes_closed_in_the_order_of_their_opening(tiny_onnx):
    command = [sys.executable, "-c", _CTRL_C, str(tiny_onnx)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "interrupted\n"), run.stderr


def test_an_operator_it_does_not_know_is_one_sentence(tmp_path):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "h", "w"])
    node = helper.make_node("Unheard", ["x"], ["y"], domain="mine")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    onnx.save_model(
        helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=opsets),
        str(tmp_path / "m.onnx"),
    )
    with refused(BundleError, got="mine.Unheard") as caught:
        OpenVINORuntime(tmp_path / "m.onnx", CPU)
    assert "\n" not in str(caught.value)


def test_external_data_is_read_beside_the_file_and_refused_elsewhere(tiny_model, oracle, pixels, tmp_path):
    path = to_onnx(tiny_model, tmp_path / "model.onnx", OnnxOptions(single_file_limit=0))
    x = pixels(1, 32, 32)
    with OpenVINORuntime(path, CPU) as runtime:
        np.testing.assert_allclose(runtime.run(x), oracle.run(x), rtol=0, atol=1e-4)
    (tmp_path / "model.onnx.data").rename(tmp_path.parent / "elsewhere.data")
    (tmp_path / "model.onnx.data").symlink_to(tmp_path.parent / "elsewhere.data")
    with refused(BundleError, got="outside its own folder"):
        OpenVINORuntime(path, CPU)


def test_failure_while_running_is_one_sentence(tiny_onnx, pixels, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("Exception from src/core.cpp:1:\nCheck 'x' failed at src/y.cpp:2:\nno memory\n\n")

    runtime = OpenVINORuntime(tiny_onnx, CPU)
    monkeypatch.setattr(ov.Core, "compile_model", fail)
    with refused(BackendError, got="(1, 3, 32, 32) (no memory)", fix="try a smaller batch"):
        runtime.run(pixels(1, 32, 32))


def test_a_closed_one_holds_no_networks(tiny_onnx, pixels):
    runtime = OpenVINORuntime(tiny_onnx, CPU)
    runtime.run(pixels(1, 32, 32))
    runtime.close()
    assert runtime.shapes == []


def test_it_reports_to_nobody():
    """A plain import of openvino loads the package that reports it to Intel by network."""
    program = (
        "import sys\nimport glpn_deploy.runtimes.rt_openvino\n"
        "assert 'openvino_telemetry' not in sys.modules\nimport openvino_telemetry"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_half_inputs_and_outputs(tmp_path, pixels):
    """A file that takes FP16 is given the batch as it is; depths come back in FP32."""
    shape = ["n", 3, "32*h", "32*w"]
    given = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT16, shape)
    found = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT16, shape[:1] + shape[2:])
    axes = onnx.helper.make_tensor("axes", onnx.TensorProto.INT64, [1], [1])
    node = onnx.helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)
    graph = onnx.helper.make_graph([node], "g", [given], [found], [axes])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    onnx.save_model(model, str(tmp_path / "half.onnx"))
    x = pixels(2, 32, 64)
    with OpenVINORuntime(tmp_path / "half.onnx", RuntimeOptions(device="cpu")) as runtime:
        depth = runtime.run(x)
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, x.mean(axis=1), atol=1e-3)


def test_it_refuses_where_a_setting_would_make_it_crash(tiny_onnx, monkeypatch):
    monkeypatch.setattr(rt_openvino, "cpu_flags", lambda: frozenset({"avx2", "avx512f"}))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    with refused(BackendError, got="ONEDNN_MAX_CPU_ISA=AVX2 hides", fix="unset ONEDNN_MAX_CPU_ISA, or use"):
        OpenVINORuntime(tiny_onnx, CPU)
    with DepthEstimator.load(tiny_onnx, device="cpu") as estimator:
        assert estimator.runtime.backend == "onnxruntime"
