"""What is told of an engine, from the compiler's own lines and from TensorRT's inspector."""

from __future__ import annotations

import pytest

from glpn_deploy.errors import ExportError
from glpn_deploy.exporters.engine.explain import Explanation, compare, kernels_of
from glpn_deploy.exporters.engine.kernel_log import read_kernel_log


def tensor(name, sides, kind):
    return (
        f"{{ Name: {name}, Dimensions: [{sides}], Strides: [1], StrideOrder: [0], Datatype: {kind}, "
        f"Format: (Linear) Row major linear format }}"
    )


def line(name, kind, read, written, constants=""):
    """A line of TensorRT for RTX 1.7.1's log."""
    inputs, outputs = (", ".join(tensor(f"t{i}", *t) for i, t in enumerate(ts)) for ts in (read, written))
    return (
        f"Name: {name}, LayerType: {kind}, Inputs: [ {inputs}], Constants: [{constants}], "
        f"Outputs: [ {outputs}], TacticName: {name}_0x66, StreamId: 0, Metadata: [ONNX Layer: a/MatMul]"
    )


WEIGHT = " " + tensor("w", "1000,1000", "Half")
TOTALS = ["Total Activation Memory: 2048 bytes", "Total Weights Memory: 512 bytes"]
LOG = [
    "Engine Layer Information:\nLayers:\n"
    + "\n".join(
        [
            line("__mye1_myl0_0", "signal", [], []),
            line("__myl_CastConc_myl0_1", "kgen", [("1,3,4,4", "Float")], [("1,4,4,4", "Half")]),
            line("a/Conv_U1_myl0_2", "correlation", [("1,4,4,4", "Half")], [("1,8,2,2", "Half")], WEIGHT),
            line("__myl_CorrErf_myl0_3", "runtime_fusion", [("1,8,2,2", "Half")], [("1,8,2,2", "Half")]),
            line("__myl_FcAdd_myl0_4", "runtime_fusion", [("1,4,8", "Half")], [("1,4,8", "Half")]),
            line("__myl_CastMeanSubMulMean_myl0_5", "kgen", [("4,8", "Half")], [("4,8", "Half")]),
            line("_gemm_mha_v2_myl0_6", "kgen", [("2,4,4", "Half"), ("2,4,4", "Half")], [("2,4,4", "Half")]),
            line("__myl_MaxrSubExpSumDiv_myl0_7", "kgen", [("2,4,4", "Half")], [("2,4,4", "Half")]),
            line("__myl_MulMinMaxRounCast_myl0_8", "kgen", [("16", "Half")], [("16", "Int8")]),
            line("a/MatMul_myl0_9", "gemm", [("2,8", "Int8")], [("2,8", "Float")]),
            line("__myl_Resi_myl0_10", "runtime_function", [("1,1,2,2", "Half")], [("1,1,4,4", "Half")]),
            line("__myl_ReshMul_myl0_11", "kgen", [("-1,4,4", "Half")], [("1,4,4", "Float")]),
        ]
    ),
    *TOTALS,
]
EXPECTED = {  # kernels and bytes, by hand
    "fused attention": (1, 3 * 32 * 2),
    "softmax": (1, 2 * 32 * 2),
    "convolution": (2, (64 + 32) * 2 + (32 + 32) * 2),
    "matrix product": (2, 2 * 32 * 2 + 16 + 16 * 4),
    "normalization": (1, 2 * 32 * 2),
    "resize": (1, (4 + 16) * 2),
    "quantization": (1, 16 * 2 + 16),
    "copy or cast": (1, 48 * 4 + 64 * 2),
    "elementwise": (1, 16 * 4),  # of what has a changing side nothing is told
}


def explained(log, traffic=1):
    return Explanation(
        "x.onnx", "target", (1, 4, 4), kernels_of(log.layers) * traffic, log.weights_bytes, None, 3, {}
    )


def test_the_compilers_lines():
    log = read_kernel_log(LOG)
    assert (len(log.layers), log.weights_bytes, log.activation_bytes) == (12, 512, 2048)
    found = explained(log)
    assert found.by_kind() == EXPECTED
    assert len(found.kernels) == 11  # a signal is none
    assert found.traffic_bytes == sum(size for _, size in EXPECTED.values())
    assert found.heaviest()[0].name == "__myl_CastConc_myl0_1"
    about = found.to_dict()
    assert (about["fused_attention"], about["unfused_softmax"], about["shape"]) == (1, 1, "1x4x4")
    assert len(about["heaviest"]) == 10


@pytest.mark.parametrize("log", [[], LOG[:1], TOTALS])
def test_a_log_that_does_not_tell(log):
    with pytest.raises(ExportError):
        read_kernel_log(log)


def test_two_graphs_are_compared():
    log = read_kernel_log(LOG)
    assert compare(explained(log), explained(log, 2)) == "0.50 times the traffic, 11 kernels beside 22"
    assert compare(explained(log, 2), explained(log)) == (
        "2.00 times the traffic, 22 kernels beside 11, 2 attentions not fused beside 1"
    )


def test_the_inspectors_layers():
    """TensorRT's own forms: 10.x has Format/Datatype, 11.x DataType."""
    half = {"Name": "t", "Dimensions": [1, 8, 4, 4], "Format/Datatype": "Channel major FP16 format"}
    eleven = {"Name": "t", "Dimensions": [1, 8, 4, 4], "Format": "Linear", "DataType": "Float"}
    layers = [
        {"Name": "a", "LayerType": "CaskConvolution", "Inputs": [half], "Outputs": [half]},
        {"Name": "b", "LayerType": "Reformat", "Inputs": [half], "Outputs": [eleven]},
        {"Name": "c", "LayerType": "NoOp", "Inputs": [half], "Outputs": [half]},
        {"Name": "d", "LayerType": "SoftMax", "Inputs": [eleven], "Outputs": [eleven]},
    ]
    assert [(k.kind, k.traffic_bytes) for k in kernels_of(layers)] == [
        ("convolution", 512),
        ("copy or cast", 256 + 512),
        ("softmax", 1024),
    ]
