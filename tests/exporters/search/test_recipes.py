"""What is said of the precisions before one is made."""

from __future__ import annotations

import pytest

from glpn_deploy.exporters.options import fallback_precision
from glpn_deploy.exporters.search.recipes import tensorrt_for
from glpn_deploy.gpu.tensorrt_versions import tensorrt_of
from glpn_deploy.precisions import LOWER_PRECISIONS, PRECISION_INFO


@pytest.mark.parametrize("version", ["8.6.0", "10.3.0", "10.13.3", "11.4.0"])
@pytest.mark.parametrize("opset", range(17, 26))
def test_the_tensorrt_that_is_named_for_an_opset_reads_it(tensorrt_stand_in, version, opset):
    reads = tensorrt_of(tensorrt_stand_in(version)).max_opset >= opset
    least = tensorrt_for(opset).removeprefix("TensorRT ").removesuffix(" or later")
    assert reads is (float(version.rpartition(".")[0]) >= float(least))


def test_bf16_and_fp8_have_a_tensorrt_of_their_own():
    assert tensorrt_for(PRECISION_INFO["bf16"].least_opset) == "TensorRT 11 or later"
    assert tensorrt_for(PRECISION_INFO["fp8"].least_opset) == "TensorRT 10 or later"


def test_what_is_not_quantized_computes_in():
    assert {name: fallback_precision(name) for name in LOWER_PRECISIONS} == {
        "fp16": "fp16",
        "bf16": "bf16",
        "int8": "fp16",
        "fp8": "fp16",
    }
    assert fallback_precision("int8", "cpu") == "fp32"
    assert fallback_precision("fp16", "cpu") == "fp16"
