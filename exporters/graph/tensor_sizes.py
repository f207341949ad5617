"""How large a graph's inner tensors are for an input of a given size."""

from __future__ import annotations

import math

import onnx

from glpn_deploy.exporters.graph.graph_edit import without_weights


def tensor_elements(model: onnx.ModelProto, input_shape: tuple[int, ...]) -> dict[str, int]:
    """Number of elements of every inner tensor and output for an input of the given shape."""
    light = without_weights(model)
    del light.graph.output[:]  # whose sides are free
    light.graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in model.graph.output)
    shape = light.graph.input[0].type.tensor_type.shape
    shape.Clear()
    for side in input_shape:
        shape.dim.add().dim_value = side
    inferred = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    return {
        value.name: math.prod(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*inferred.value_info, *inferred.output)
    }
