"""Reports as TensorRT's inspector writes them, and what is made of them.

The samples are cut from what others published:

* A100_FP16, INT8: NVIDIA/TensorRT, tools/experimental/trt-engine-explorer, resnet.onnx.engine.graph.json
  (A100, fp16) and mobilenet.qat.onnx.engine.graph.json, of TensorRT 8;
* DYNAMIC: an 8.x engine of dynamic shapes inspected without a context, published with an INT8 demonstration;
* MYELIN_86: "Myelin" and "{ForeignNode[...]}" as trtexec 8.6 writes them, around TensorRT 8.6's own sentences
  (the strings of libnvinfer.so.8);
* MYELIN_10: layer types (kgen, fusion, gemm, wait, signal, shape_call), tensor types and kernels' names as
  TensorRT 10.9 reports them of transformers;
* ELEVEN: the fields of NVIDIA's guide "Migrating IEngineInspector Usage from TensorRT 10.x to 11.x".
"""

from __future__ import annotations

import json

import pytest

from glpn_deploy.errors import ExportError
from glpn_deploy.exporters.engine.engine_inspect import (
    inspect_engine,
    layer_precisions,
    read_report,
    require_precision,
    type_of,
)
from tests.refusals import refused


def tensors(*types, key="Format/Datatype"):
    return [{"Name": "t", "Location": "Device", "Dimensions": [1, 8, 4, 4], key: kind} for kind in types]


def layer(kind, inputs, outputs, tactic="", name="layer", weights="", key="Format/Datatype"):
    made = {"Name": name, "LayerType": kind}
    made |= {"Inputs": tensors(*inputs, key=key), "Outputs": tensors(*outputs, key=key)}
    made |= {"TacticName": tactic} if tactic else {}
    return made | ({"Weights": {"Type": weights, "Count": 9408}} if weights else {})


def counted(text):
    return layer_precisions(read_report(text))


def report(*layers, **fields):
    return json.dumps({"Layers": list(layers), **fields})


LINEAR_FP32, NHWC4_FP16 = "Row major linear FP32", "Channel major FP16 format where channel % 4 == 0"
NHWC8_FP16 = "Channel major FP16 format where channel % 8 == 0"
CHW4_INT8, CHW32_INT8 = (f"{n} wide channel vectorized row major Int8 format" for n in ("Four", "Thirty-two"))
CHW32_FP16 = "Thirty-two wide channel vectorized row major FP16 format"
NOT_TOLD = "N/A due to dynamic shapes"
HMMA = "trt_turing_cutlass_image_network_first_layer_hmma_fprop_f16f16f32_nhwc_nhwc_k64r7s7c4_stride2x2"
XMMA_HALF = "sm80_xmma_fprop_implicit_gemm_f16f16_f16f16_f16_nhwckrsc_nhwc_tilesize256x64x32_stage3"
XMMA_INT8 = "sm75_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs_vect_c_32"

A100_FP16 = report(
    layer("Reformat", [LINEAR_FP32], [NHWC4_FP16]),
    layer("CaskConvolution", [NHWC4_FP16], [NHWC8_FP16], HMMA, weights="Half"),
    layer("CudaPooling", [NHWC8_FP16], [NHWC8_FP16]),
    layer("CaskConvolution", [NHWC8_FP16], [NHWC8_FP16], XMMA_HALF, weights="Half"),
    layer("NoOp", [NHWC8_FP16], [NHWC8_FP16]),
    layer("Reformat", [NHWC8_FP16], [LINEAR_FP32]),
    Bindings=["input.1", "191"],
)
INT8 = report(
    layer("Reformat", [LINEAR_FP32], [CHW4_INT8], name="QuantizeLinear_2"),
    layer(
        "CaskConvolution", [CHW4_INT8], [CHW32_INT8], "volta_int8x4_icudnn_int8x4_128x32_relu", weights="Int8"
    ),
    layer("CudaDepthwiseConvolution", [CHW32_INT8], [CHW32_INT8], weights="Int8"),
    # a product of INT8 that writes FP16, and adds what it finds there
    layer(
        "CaskConvolution",
        [CHW32_INT8, CHW32_FP16],
        [CHW32_FP16],
        "turing_fp16_i8816cudnn_int8",
        weights="Int8",
    ),
    layer("Reformat", [CHW32_FP16], [CHW32_INT8], name="QuantizeLinear_98"),
    layer("CaskConvolution", [CHW32_FP16], [CHW32_FP16], XMMA_HALF, weights="Half"),
)
DYNAMIC = report(
    layer("NoOp", [NOT_TOLD], [NOT_TOLD], name="(Unnamed Layer* 0) [Shuffle]"),
    layer("Reformat", [NOT_TOLD], [NOT_TOLD]),
    layer(
        "CaskConvolution",
        [NOT_TOLD],
        [NOT_TOLD],
        "sm80_xmma_fprop_implicit_gemm_interleaved_i8f32_i8i32_f32_nchw_vect_c_32kcrs_vect_c_32_nchw",
        weights="Int8",
    ),
    layer("PointWiseV2", [NOT_TOLD], [NOT_TOLD]),
    Bindings=["foo0", "(Unnamed Layer* 1) [Convolution]_output"],
)
MYELIN_86 = report(
    layer("CaskConvolution", [NHWC8_FP16], [NHWC8_FP16], XMMA_HALF, weights="Half"),
    layer(
        "Myelin",
        ["Row major linear FP16 format"],
        ["Row major linear FP16 format"],
        name="{ForeignNode[a...b]}",
    ),
    layer("Myelin", [LINEAR_FP32], [LINEAR_FP32], name="{ForeignNode[c...d]}"),
    layer("ShapeHostToDevice", ["Row major linear Int32"], ["Row major linear Int32"]),
    layer("PointWiseV2", [LINEAR_FP32, LINEAR_FP32], [LINEAR_FP32]),
)
MYELIN_10 = report(
    layer("shape_call", ["Int64"], ["Int64"]),
    layer("kgen", ["Half", "Half"], ["Half"], "__myl_AddCasMea", name="__myl_AddCasMea_myl3_1"),
    layer("gemm", ["Half", "Half", "Float"], ["Float"], "sm80_xmma_gemm_f16f16_f16f32_f32_tn_n"),
    layer(
        "fusion", ["Int8", "Int8"], ["Half"], "sm80_xmma_gemm_i8i8_i8i32_f32_tn", name="__myl_FcCastAddErf"
    ),
    layer("kgen", ["Half", "Half", "Half"], ["Half"], name="_gemm_mha_v2_myl3_6"),
    layer("kgen", ["Half"], ["Int8"], "__myl_MulRounClip", name="__myl_MulRounClip_myl3_7"),  # quantises
    layer("kgen", ["Float"], ["Float", "Half"], "__myl_MaxSubExp", name="__myl_MaxSubExp_myl3_8"),
    layer("kgen", ["Int64", "Int64"], ["Int64"], "__myl_Mul", name="__myl_Mul_myl3_9"),
    layer("signal", [], []),
    layer("wait", [], []),
)
ELEVEN = report(
    layer("CaskConvolution", ["Half"], ["Half"], XMMA_HALF, weights="Half", key="DataType"),
    layer("gemm", ["Float", "Float"], ["Float"], "sm80_xmma_gemm_f32f32_f32f32_f32", key="DataType"),
    {
        "Name": "both",
        "LayerType": "gemm",
        "Inputs": [{"Name": "x", "Format": "Row major linear FP32 format (kLINEAR)", "Datatype": "Half"}],
        "Outputs": [{"Name": "y", "Format": "Row major linear FP32 format (kLINEAR)", "DataType": "Float"}],
    },
    **{"I/O Tensors": [{"Name": "input_0", "IOMode": "Input", "DataType": "Float"}]},
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (A100_FP16, {"fp16": 3}),
        (INT8, {"int8": 3, "fp16": 1}),
        (DYNAMIC, {"int8": 1, "unknown": 1}),
        (MYELIN_86, {"fp16": 2, "fp32": 2}),
        (MYELIN_10, {"int8": 1, "fp16": 4, "fp32": 1}),
        (ELEVEN, {"fp16": 2, "fp32": 1}),
        (report(), {}),
    ],
    ids=["A100_FP16", "INT8", "DYNAMIC", "MYELIN_86", "MYELIN_10", "ELEVEN", "empty"],
)
def test_layers_by_precision(text, expected):
    assert counted(text) == expected


def test_kernels_names_tell_where_nothing_else_does():
    kernels = {
        "sm80_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize64x64": "fp16",
        "ampere_h16816cudnn_128x128_ldg8_relu_exp_stages_64x3_large_nhwc_tn_v1": "fp16",
        "sm80_xmma_gemm_bf16bf16_bf16f32_f32_tn_n": "bf16",
        "sm89_xmma_gemm_e4m3bf16_e4m3f32_f32_tn_n": "fp8",
        "sm80_xmma_gemm_f32f32_tf32f32_f32_nn_n": "fp32",
        "ampere_scudnn_128x64_relu_small_nn_v1": "fp32",
        "ampere_int8_i16832cudnn_int8_256x128_ldg16_relu_medium_nt_v1": "int8",
    }
    for kernel, precision in kernels.items():
        assert counted(report(layer("CaskGemm", [NOT_TOLD], [NOT_TOLD], kernel))) == {precision: 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # of libnvinfer.so.8 (8.6.0), and of trt-engine-explorer's table for 10.x
        ("Row major linear FP16 format (kLINEAR)", "fp16"),
        ("Thirty-two wide channel vectorized row major INT8 format (kCHW32)", "int8"),
        ("Eight channel FP16 format (kHWC8) where C is padded to a multiple of 8", "fp16"),
        ("Channel major FP32 format where channel % 4 == 0 with 3 spatial dimensions", "fp32"),
        ("Row major linear INT32 format (kLINEAR)", "whole numbers"),
        ("Row major linear BOOL", "whole numbers"),
        ("Row major linear UInt8 format", "whole numbers"),
        ("Channel major BFloat16 format where channel % 8 == 0", "bf16"),
        ("Row major linear FP8 format", "fp8"),
        ("BFloat16", "bf16"),
        ("Half", "fp16"),
        ("Float", "fp32"),
        ("Int64", "whole numbers"),
        ("Unknown format", None),
        ("N/A due to dynamic shapes", None),
    ],
)
def test_descriptions_of_tensors(text, expected):
    assert type_of(text) == expected


@pytest.mark.parametrize("text", ["", "Layers: 3", "[1, 2]", '{"Layers": 3}', "null"])
def test_no_report(text):
    with refused(ExportError, got="no report that can be read"):
        read_report(text)


def test_a_report_of_names_only():
    with refused(ExportError, got="names its layers", expected="detailed profiling verbosity"):
        read_report('{"Layers": ["Conv_0 + Relu_1", "MaxPool_2"], "Bindings": ["x", "y"]}')


def test_promises_are_held_to():
    require_precision({"fp16": 1, "fp32": 90}, "fp16")
    require_precision({"fp32": 90}, "fp32")
    require_precision(counted(INT8), "int8")
    with refused(ExportError, got=("computes in int8 (", "61 in fp16, 4 in fp32)"), fix="glpn-export"):
        require_precision({"fp16": 61, "fp32": 4}, "int8")
    with refused(ExportError, got="tells of none a type"):
        require_precision({}, "fp16")


@pytest.mark.parametrize("version", ["8.6.0", "10.3.0", "10.13.3", "11.4.0"])
@pytest.mark.parametrize("shape", [(2, 96, 128), None])
def test_an_engine_is_asked_under_a_shape_of_its_own(tensorrt_stand_in, version, shape):
    trt = tensorrt_stand_in(version)
    names = ["depth", "pixel_values"]
    modes = {"depth": trt.TensorIOMode.OUTPUT, "pixel_values": trt.TensorIOMode.INPUT}
    trt.answers["ICudaEngine.num_io_tensors"] = lambda engine: 2
    trt.answers["ICudaEngine.get_tensor_name"] = lambda engine, number: names[number]
    trt.answers["ICudaEngine.get_tensor_mode"] = lambda engine, name: modes[name]
    trt.answers["EngineInspector.get_engine_information"] = lambda inspector, format: MYELIN_10
    engine = trt.Runtime(trt.Logger()).deserialize_cuda_engine(b"plan")
    assert layer_precisions(inspect_engine(trt, engine, shape)) == {"int8": 1, "fp16": 4, "fp32": 1}
    assert trt.called("EngineInspector.get_engine_information") == [(trt.LayerInformationFormat.JSON,)]
    expected = [] if shape is None else [("pixel_values", (2, 3, 96, 128))]
    assert trt.called("IExecutionContext.set_input_shape") == expected
    assert len(trt.called("EngineInspector.execution_context =")) == len(expected)
