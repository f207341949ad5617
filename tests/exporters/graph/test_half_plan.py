"""Which nodes stay FP32, on graphs small enough to say it by hand."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from glpn_deploy.exporters.graph.half_plan import nodes_in_fp32


def graph(*nodes: tuple[str, str, str]) -> onnx.GraphProto:
    """Nodes as (name and kind, inputs, outputs); the first letter of a name is all that tells two apart."""
    made = [
        helper.make_node(name.split(":")[1], inputs.split(), outputs.split(), name=name.split(":")[0])
        for name, inputs, outputs in nodes
    ]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    return helper.make_graph(made, "g", value[:1], value[1:])


HEAD = (
    ("c:Conv", "x w", "a"),
    ("s:Sigmoid", "a", "b"),
    ("q:Squeeze", "b axes", "d"),
    ("m:Mul", "d ten", "y"),
)


@pytest.mark.parametrize(
    ("nodes", "keep", "fp32_output", "expected"),
    [
        (HEAD, "", True, "sqm"),
        (HEAD, "", False, ""),
        (HEAD, "c", False, "c"),
        ((*HEAD, ("e:Relu", "b", "f")), "", True, "qm"),  # the sigmoid has a second reader
        ((("c:Conv", "x w", "a"), ("m:Mul", "a b", "y")), "", True, "m"),
        ((("c:Conv", "x w", "a"), ("s:Sigmoid", "a", "b"), ("m:Mul", "a b", "y")), "", True, ""),  # SiLU
        ((("c:Conv", "x w", "a"), ("s:Softplus", "a", "b"), ("m:Add", "b ten", "y")), "", True, "sm"),
        # A cast's type is its own, whatever the rest is.
        ((("h:Shape", "x", "n"), ("t:Cast", "n", "a"), ("m:Mul", "x a", "y")), "", False, "t"),
        # What only moves numbers takes the type of its neighbours, where they agree on FP32.
        ((("c:Conv", "x w", "a"), ("t:Transpose", "a", "b"), ("n:Conv", "b w", "y")), "cn", False, "cnt"),
        ((("c:Conv", "x w", "a"), ("t:Transpose", "a", "b"), ("n:Conv", "b w", "y")), "c", False, "c"),
        ((("c:Conv", "x w", "a"), ("t:Transpose", "a", "b"), ("n:Conv", "b w", "y")), "n", False, "n"),
        (
            (
                ("c:Conv", "x w", "a"),
                ("r:Reshape", "a shape", "b"),
                ("t:Transpose", "b", "d"),
                ("n:Conv", "d w", "y"),
            ),
            "cn",
            False,
            "cnrt",
        ),
        ((("q:QuantizeLinear", "x s", "a"), ("d:DequantizeLinear", "a s", "y")), "", False, "qd"),
    ],
)
def test_nodes_in_fp32(nodes, keep, fp32_output, expected):
    floats = {"x", "y", "a", "b", "d", "f", "w", "ten", "s"}
    assert nodes_in_fp32(graph(*nodes), floats, set(keep), fp32_output=fp32_output) == set(expected)
