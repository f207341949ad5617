"""What is made of TensorRT's own words about a build."""

from __future__ import annotations

from pathlib import Path

import pytest

from glpn_deploy.exporters.engine.build_messages import build_failure, told_warnings
from glpn_deploy.exporters.engine.engine_options import EngineOptions
from glpn_deploy.exporters.engine.engine_source import EngineSource
from glpn_deploy.gpu.cuda_device import CudaDevice

GPU = CudaDevice(0, "NVIDIA Test", (8, 7), 8 << 30, False, (12, 6))
GRAPH = EngineSource(
    Path("model.int8.onnx"),
    20,
    (
        "QuantizeLinear stage/1/tokens/Q",
        "DequantizeLinear stage/1/tokens/DQ",
        "MatMul stage/1/dense1",
        "Add stage/1/bias",
        "Conv head/conv.2",
    ),
)


@pytest.mark.parametrize(
    ("words", "node"),
    [
        ("10: Could not find any implementation for node stage/1/dense1 + stage/1/bias.", "stage/1/dense1"),
        ("Error 10: Internal Error (Could not find any implementation for node head/conv.2.)", "head/conv.2"),
        (
            "Could not find any implementation for node {ForeignNode[stage/1/tokens/Q...stage/1/bias]}.",
            "stage/1/dense1",
        ),
    ],
)
def test_a_quantized_node_without_a_kernel_is_named_with_the_way_out(words, node):
    error = build_failure("TensorRT", [words], EngineOptions(precision="int8"), GPU, GRAPH)
    assert f"no int8 kernel for {'Conv' if 'conv' in node else 'MatMul'} {node}" in error.got
    assert f'nodes_to_exclude={{"{node}"}} in to_int8' in error.fix
    assert "--precision fp16" in error.fix
    assert "--level" not in error.fix


def test_the_way_out_where_no_node_is_known():
    words = ["Could not find any implementation for node {Node[a...b]}."]
    assert "a quantized node" in build_failure("T", words, EngineOptions(precision="fp8"), GPU, GRAPH).got
    assert "--level 2" in build_failure("T", words, EngineOptions(precision="fp16"), GPU, GRAPH).fix


def test_kernels_skipped_for_memory_are_counted_first():
    words = "Skipping tactic {0} due to insufficient memory on requested size of {0} detected for tactic 0x1."
    other = "Tactic Device request: 9MB Available: 1MB. Device memory is insufficient to use tactic."
    first, second = told_warnings([*map(words.format, range(300)), other, "x", "x"])
    assert first.startswith("301 kernels were not tried for lack of memory")
    assert "--tactic-memory" in first
    assert second == "x"
    assert told_warnings([]) == ()
