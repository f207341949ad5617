"""GLPN written out as an ONNX graph, node by node, from the weights of a checkpoint.

Unlike ``torch.onnx.export`` it gives nodes the names of their modules, the same bytes every time, and any
opset from 17 on, in seconds. What keeps the two descriptions of the network the same is the parity check
that ends every export, and the tests, which compare random configurations with
`glpn_deploy.model.modeling`. What was tried for speed: docs/decisions/onnx-graph.md.

What is folded, exactly up to rounding (products are formed in float64):

* 1/sqrt(d) into the query's weight and bias, so that engines see MatMul-Softmax-MatMul;
* the key's bias is left out: it adds the same number to all scores of a query, which softmax ignores;
* the value's bias goes into the output projection's: attention weights sum to one;
* BatchNorm into the convolution before it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from glpn_deploy.exporters.graph.activations import write_activation
from glpn_deploy.model.config import GLPNConfig

Array = NDArray[Any]

TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


class GraphBuilder:
    """Collects nodes and initializers; node and value names follow the network's modules."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self._names: set[str] = set()

    def constant(self, name: str, value: Array) -> str:
        """Adds an initializer once and returns its name."""
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def ints(self, *values: int) -> str:
        """An int64 vector, shared by value."""
        return self.constant("ints_" + "_".join(map(str, values)), np.array(values, np.int64))

    def node(self, scope: str, kind: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> Any:
        """Adds a node named ``scope/kind``; returns its output's name, or a list of several."""
        name = base = f"{scope}/{kind}"
        count = 1
        while name in self._names:
            count += 1
            name = f"{base}_{count}"
        self._names.add(name)
        results = [name] if outputs == 1 else [f"{name}:{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, results, name=name, **attributes))
        return results[0] if outputs == 1 else results


class GlpnGraph:
    """Writes one GLPN network into a `GraphBuilder`.

    Args:
        config: The network's hyper-parameters.
        weights: HF's tensor names to float32 arrays.
        opset: ONNX opset, 17 or later; Gelu is one node from 20 on.
    """

    dense1_dilation = 1  # of a 1x1 kernel: the same for any

    def __init__(self, config: GLPNConfig, weights: Mapping[str, Array], opset: int) -> None:
        self.config, self.weights = config, weights
        self.b = GraphBuilder(opset)

    def build(self) -> tuple[GraphBuilder, str, int]:
        """Returns the builder, the name of the depth output, and the output's share of a size unit.

        A unit is ``config.size_multiple``; the share is that multiple at the usual head.
        """
        config = self.config
        states, x = [], "pixel_values"
        for stage in range(config.num_encoder_blocks):
            x = self._stage(stage, x)
            states.append(x)
        used = config.head_in_index % len(states) + 1  # the deepest first
        whole = used == len(states)
        halvings = 0 if whole else len(states) - used + 1
        depth = self._depth(self._head(self._decoder(states[::-1][:used]), used, whole=whole), whole=whole)
        return self.b, depth, config.size_multiple >> halvings

    # Encoder -------------------------------------------------------------------------------------

    def _stage(self, stage: int, x: str) -> str:
        config, encoder = self.config, "glpn.encoder"
        embed = f"{encoder}.patch_embeddings.{stage}"
        x = self._conv(f"{embed}.proj", x, stride=config.strides[stage], pad=config.patch_sizes[stage] // 2)
        x = self._transpose(embed, x, TO_NHWC)
        shape = self.b.node(embed, "Shape", [x])
        tokens = self.b.node(embed, "Reshape", [x, self.b.ints(0, -1, config.hidden_sizes[stage])])
        x = self._layer_norm(f"{embed}.layer_norm", tokens, inner=True)
        for block in range(config.depths[stage]):
            x = self._block(f"{encoder}.block.{stage}.{block}", stage, x, shape)
        norm = f"{encoder}.layer_norm.{stage}"
        return self._map(norm, self._layer_norm(norm, x), shape)

    def _block(self, scope: str, stage: int, x: str, shape: str) -> str:
        y = self._layer_norm(f"{scope}.layer_norm_1", x)
        x = self.b.node(f"{scope}.attention", "Add", [x, self._attention(scope, stage, y, shape)])
        y = self._mix_ffn(f"{scope}.mlp", self._layer_norm(f"{scope}.layer_norm_2", x), stage, shape)
        return str(self.b.node(f"{scope}.mlp", "Add", [x, y]))

    def _attention(self, block: str, stage: int, x: str, shape: str) -> str:
        config, scope = self.config, f"{block}.attention.self"
        size, heads = config.hidden_sizes[stage], config.num_attention_heads[stage]
        scale = 1 / math.sqrt(size // heads)
        source = x
        if config.sr_ratios[stage] > 1:
            source = self._conv(f"{scope}.sr", self._map(scope, x, shape), config.sr_ratios[stage])
            source = self._tokens(f"{scope}.sr", source, size)
            source = self._layer_norm(f"{scope}.layer_norm", source, inner=True)
        bias = self._get(f"{scope}.query.bias") * scale
        q = self._linear(f"{scope}.query", x, scale=scale, bias=bias if bias.any() else None)
        k, v = (self._key_value(f"{scope}.{name}", source, heads) for name in ("key", "value"))
        context = self._attend(scope, q, k, v, heads, size // heads)
        out = f"{block}.attention.output.dense"
        weight, bias = self._get(f"{out}.weight"), self._get(f"{out}.bias")
        bias = bias + weight @ self._get(f"{scope}.value.bias")
        return self._linear(out, context, bias=bias)

    def _attend(self, scope: str, q: str, k: str, v: str, heads: int, width: int) -> str:
        """Softmax(q k^T) v for tokens ``(B, N, heads * width)``, in that form again."""
        node = self.b.node
        if heads == 1:  # a reshape puts the head axis in place without moving data
            split, straight, transposed = self.b.ints(0, 1, -1, width), None, (0, 1, 3, 2)
        else:
            split, straight, transposed = self.b.ints(0, -1, heads, width), (0, 2, 1, 3), (0, 2, 3, 1)

        def arrange(name: str, x: str, order: tuple[int, ...] | None) -> str:
            x = node(f"{scope}.{name}", "Reshape", [x, split])
            return x if order is None else self._transpose(f"{scope}.{name}", x, order)

        scores = node(f"{scope}.scores", "MatMul", [arrange("q", q, straight), arrange("k", k, transposed)])
        weights = node(scope, "Softmax", [scores], axis=-1)
        context = str(node(f"{scope}.context", "MatMul", [weights, arrange("v", v, straight)]))
        if straight is not None:
            context = self._transpose(f"{scope}.context", context, straight)
        return str(node(scope, "Reshape", [context, self.b.ints(0, -1, heads * width)]))

    def _key_value(self, scope: str, source: str, heads: int) -> str:
        return self._linear(scope, source)

    def _mix_ffn(self, scope: str, x: str, stage: int, shape: str) -> str:
        x = self._map(f"{scope}.dense1", x, shape)
        x = self._conv(f"{scope}.dense1", x, dilation=self.dense1_dilation)
        x = self._conv(f"{scope}.dwconv.dwconv", x, pad=1, depthwise=True)
        x = self._conv(f"{scope}.dense2", self._activation(scope, x))
        return self._tokens(f"{scope}.dense2", x, self.config.hidden_sizes[stage])

    def _map(self, scope: str, x: str, shape: str) -> str:
        """Tokens ``(B, H * W, C)`` as a map ``(B, C, H, W)``; ``shape`` is ``(B, H, W, C)``."""
        return self._transpose(scope, self.b.node(scope, "Reshape", [x, shape]), TO_NCHW)

    def _tokens(self, scope: str, x: str, size: int) -> str:
        """A map ``(B, C, H, W)`` as tokens ``(B, H * W, C)``."""
        x = self._transpose(scope, x, TO_NHWC)
        return str(self.b.node(scope, "Reshape", [x, self.b.ints(0, -1, size)]))

    def _activation(self, scope: str, x: str) -> str:
        def node(kind: str, inputs: list[str], **attributes: Any) -> str:
            return str(self.b.node(scope, kind, inputs, **attributes))

        def slope() -> str:
            name = f"{scope}.intermediate_act_fn.weight"
            return self._parameter(name, self.weights[name])

        return write_activation(self.config.hidden_act, x, node, self._scalar, self.b.opset, slope)

    # Decoder and head ----------------------------------------------------------------------------

    def _decoder(self, states: Sequence[str]) -> str:
        """The last stage's map, before it is doubled."""
        x = ""
        for stage, state in enumerate(states):
            scope = f"decoder.stages.{stage}"
            if x:
                x = self._double(f"decoder.stages.{stage - 1}", x)
            if f"{scope}.convolution.weight" in self.weights:
                state = self._conv(f"{scope}.convolution", state)
            x = self._fuse(f"{scope}.fusion", state, x) if x else state
        return x

    def _fuse(self, scope: str, local: str, coarser: str) -> str:
        node = self.b.node
        x = str(node(scope, "Concat", [local, coarser], axis=1))
        for name in (f"{scope}.convolutional_layer1", f"{scope}.convolutional_layer2"):
            x = str(node(name, "Relu", [self._conv(f"{name}.0", x, pad=1, batch_norm=f"{name}.1")]))
        x = str(node(scope, "Sigmoid", [self._conv(f"{scope}.convolutional_layer3", x, pad=1)]))
        mine, theirs = node(scope, "Split", [x, self.b.ints(1, 1)], outputs=2, axis=1)
        mine, theirs = node(scope, "Mul", [local, mine]), node(scope, "Mul", [coarser, theirs])
        return str(node(scope, "Add", [mine, theirs]))

    def _double(self, scope: str, x: str) -> str:
        scales = self.b.constant("scales_2", np.array([1, 1, 2, 2], np.float32))
        return str(
            self.b.node(
                scope, "Resize", [x, "", scales], mode="linear", coordinate_transformation_mode="half_pixel"
            )
        )

    def _head(self, x: str, used: int, *, whole: bool) -> str:
        """The depth, in units of ``max_depth``, of a map that is doubled once, or twice (``whole``)."""
        scope = f"decoder.stages.{used - 1}"
        if used > 1:  # ONNX Runtime's fast layout for the large doublings
            x = str(self.b.node(f"{scope}.fusion", "MaxPool", [x], kernel_shape=[1, 1]))
        x = self._double(scope, x)
        return self._convolved(self._double("decoder.final_upsample", x) if whole else x)

    def _convolved(self, x: str) -> str:
        x = str(self.b.node("head", "Relu", [self._conv("head.head.0", x, pad=1)]))
        return str(self.b.node("head", "Sigmoid", [self._conv("head.head.2", x, pad=1)]))

    def _depth(self, x: str, *, whole: bool) -> str:
        """The depth (N, H, W) in metres; at the input's own size (``whole``) it has to be that.

        Sides up to 3 px short of a multiple of 32 come out at the multiple, as the first convolution rounds
        up. A Reshape to the input's sides refuses that; NVIDIA's compiler makes the same engine of both.
        """
        node = self.b.node
        if whole:
            sides = node("head", "Gather", [node("head", "Shape", ["pixel_values"]), self.b.ints(0, 2, 3)])
            x = str(node("head", "Reshape", [x, sides]))
        else:
            x = str(node("head", "Squeeze", [x, self.b.ints(1)]))
        return str(node("head", "Mul", [x, self._scalar(self.config.max_depth)]))

    # Layers --------------------------------------------------------------------------------------

    def _get(self, name: str) -> Array:
        return self.weights[name].astype(np.float64)

    def _scalar(self, value: float) -> str:
        return self.b.constant(f"scalar_{np.float32(value)}", np.array(value, np.float32))

    def _parameter(self, name: str, value: Array) -> str:
        return self.b.constant(name, value.astype(np.float32))

    def _transpose(self, scope: str, x: str, order: tuple[int, ...]) -> str:
        return str(self.b.node(scope, "Transpose", [x], perm=list(order)))

    def _layer_norm(self, scope: str, x: str, *, inner: bool = False) -> str:
        epsilon = 1e-6 if self.config.norm_eps == "original" and not inner else 1e-5
        inputs = [
            x,
            *(self._parameter(f"{scope}.{n}", self.weights[f"{scope}.{n}"]) for n in ("weight", "bias")),
        ]
        return str(self.b.node(scope, "LayerNormalization", inputs, axis=-1, epsilon=epsilon))

    def _linear(self, scope: str, x: str, *, scale: float = 1.0, bias: Array | None = None) -> str:
        """MatMul over the last axis, and Add where ``bias`` is given."""
        weight = self._get(f"{scope}.weight").T * scale
        x = str(self.b.node(scope, "MatMul", [x, self._parameter(f"{scope}.weight_t", weight)]))
        return (
            x if bias is None else str(self.b.node(scope, "Add", [x, self._parameter(f"{scope}.bias", bias)]))
        )

    def _conv(
        self,
        scope: str,
        x: str,
        stride: int = 1,
        *,
        pad: int = 0,
        dilation: int = 1,
        depthwise: bool = False,
        batch_norm: str | None = None,
    ) -> str:
        """Convolution of ``(B, C, H, W)``; a linear layer's weight becomes a 1x1 kernel."""
        weight, bias = self._get(f"{scope}.weight"), self._get(f"{scope}.bias")
        if weight.ndim == 2:
            weight = weight[:, :, None, None]
        if batch_norm is not None:  # eps 1e-5 is torch's default, which HF and the authors keep
            gain = self._get(f"{batch_norm}.weight") / np.sqrt(self._get(f"{batch_norm}.running_var") + 1e-5)
            weight = weight * gain[:, None, None, None]
            bias = (bias - self._get(f"{batch_norm}.running_mean")) * gain + self._get(f"{batch_norm}.bias")
        inputs = [x, self._parameter(f"{scope}.weight", weight), self._parameter(f"{scope}.bias", bias)]
        dilated: dict[str, Any] = {"dilations": [dilation, dilation]} if dilation > 1 else {}
        return str(
            self.b.node(
                scope,
                "Conv",
                inputs,
                kernel_shape=list(weight.shape[2:]),
                strides=[stride, stride],
                pads=[pad] * 4,
                **dilated,
                group=weight.shape[0] if depthwise else 1,
            )
        )


def build_model(graph: GlpnGraph) -> onnx.ModelProto:
    """Writes GLPN as an ONNX model, dynamic in batch, height and width.

    Args:
        graph: Writes the network.

    Returns:
        A model with input ``pixel_values (batch, 3, 32*h32, 32*w32)`` and output
        ``predicted_depth (batch, 32*h32, 32*w32)`` in metres, both float32 (32 being
        ``config.size_multiple``).
    """
    config, (builder, depth, share) = graph.config, graph.build()
    for node in builder.nodes:
        node.output[:] = ["predicted_depth" if name == depth else name for name in node.output]
    unit = config.size_multiple

    def dims(share: int, *head: str | int) -> list[str | int]:
        prefix = "" if share == 1 else f"{share}*"
        return [*head, f"{prefix}h{unit}", f"{prefix}w{unit}"]

    graph = helper.make_graph(
        builder.nodes,
        "glpn",
        [
            helper.make_tensor_value_info(
                "pixel_values", TensorProto.FLOAT, dims(unit, "batch", config.num_channels)
            )
        ],
        [helper.make_tensor_value_info("predicted_depth", TensorProto.FLOAT, dims(share, "batch"))],
        list(builder.initializers.values()),
    )
    opset_id = helper.make_opsetid("", builder.opset)
    return helper.make_model(
        graph, opset_imports=[opset_id], ir_version=helper.find_min_ir_version_for([opset_id])
    )
