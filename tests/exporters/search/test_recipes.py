"""What is said of the precisions before one is made."""

from __future__ import annotations

import pytest

from glpn_deploy.exporters.search.recipes import LEAST_OPSET, computes_in_fp16, tensorrt_for
from glpn_deploy.gpu.tensorrt_versions import dialect


@pytest.mark.parametrize("version", ["8.6.0", "10.3.0", "10.13.3", "11.4.0"])
@pytest.mark.parametrize("opset", range(17, 26))
def test_the_tensorrt_that_is_named_for_an_opset_reads_it(tensorrt_stand_in, version, opset):
    reads = dialect(tensorrt_stand_in(version)).max_opset >= opset
    least = tensorrt_for(opset).removeprefix("TensorRT ").removesuffix(" or later")
    assert reads is (float(version.rpartition(".")[0]) >= float(least))


def test_bf16_and_fp8_have_a_tensorrt_of_their_own():
    assert tensorrt_for(LEAST_OPSET["bf16"]) == "TensorRT 11 or later"
    assert tensorrt_for(LEAST_OPSET["fp8"]) == "TensorRT 10 or later"


def test_only_what_computes_in_fp16_can_overflow_it():
    assert [p for p in LEAST_OPSET if computes_in_fp16(p)] == ["fp16", "int8", "fp8"]
    assert not computes_in_fp16("int8", "cpu")
