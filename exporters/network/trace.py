"""Any network with GLPN's input and output -> ONNX, followed by `torch.onnx.export`."""

from __future__ import annotations

import ast
import contextlib
import functools
import logging
import re
import warnings
from collections.abc import Iterator
from typing import Any

import onnx
import onnx.version_converter
import torch
from onnx import helper
from torch import Tensor, nn

from glpn_deploy.errors import ExportError, GlpnError
from glpn_deploy.model.base import config_of
from glpn_deploy.model.outputs import depth_of

OPSET = 18
"""The first opset that torch translates to; others are converted from it."""
_SCOPES = "pkg.torch.onnx.name_scopes"
_ROOT = "network"  # the scope of what belongs to no module within it
_NOISE = ("torch.onnx._internal.exporter._registration",)


class Trace:
    """A network followed once, and its graph at any opset.

    Args:
        network: Takes ``pixel_values (B, 3, H, W)`` and gives depth ``(B, H', W')`` in metres: a tensor, the
            first of a tuple, or ``predicted_depth``. FP32; its ``config`` says its channels, the multiple
            that sides are of, and ``max_depth``. Followed in eval mode, and left as it was.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def model(self, opset: int) -> onnx.ModelProto:
        """The graph, dynamic in batch, height and width; nodes are named after their modules.

        Raises:
            ConfigError: The network has no configuration.
            ExportError: The network cannot be followed or has other outputs, or the opset lacks an operator.
        """
        model, traced = onnx.ModelProto(), self._traced
        if opset == OPSET:
            model.CopyFrom(traced)
        else:
            try:
                model = onnx.version_converter.convert_version(traced, opset)
            except Exception as error:  # bound from C++, without a class of its own
                raise ExportError(
                    f"the traced graph cannot be written with opset {opset} ({_cause(error)})",
                    expected=f"operators that it has; torch traces with opset {OPSET}",
                    fix=f"trace with --opset {OPSET}",
                ) from error
            del model.graph.value_info[:]
            _name_nodes(model)
        model.ir_version = helper.find_min_ir_version_for(model.opset_import)
        return model

    @functools.cached_property
    def _traced(self) -> onnx.ModelProto:
        config = config_of(self.network)
        unit = config.size_multiple
        device = _device(self.network)
        generator = torch.Generator().manual_seed(0)
        sample = torch.rand((2, config.num_channels, 2 * unit, 3 * unit), generator=generator).to(device)
        network = _Depth(self.network)
        with _in_eval_mode(self.network), torch.no_grad(), _quiet():
            _check_output(network, sample)
            dims = {0: torch.export.Dim("batch")}
            dims |= {2: unit * torch.export.Dim("h"), 3: unit * torch.export.Dim("w")}
            try:
                followed = torch.export.export(network, (sample,), dynamic_shapes=(dims,))
            except Exception as error:  # of torch, of sympy and of the network itself
                raise ExportError(
                    f"torch.export cannot follow the network ({_cause(error)})",
                    expected="a forward without branches on tensors' values or sizes",
                    fix="try torch.export.export(network, (pixels,)) and mend what it names",
                ) from error
            try:
                program: Any = torch.onnx.export(
                    followed,
                    dynamo=True,
                    opset_version=OPSET,
                    input_names=["pixel_values"],
                    output_names=["predicted_depth"],
                    verbose=False,
                )
                model: onnx.ModelProto = program.model_proto
            except Exception as error:  # likewise
                raise ExportError(
                    f"torch.onnx.export has no ONNX for the network ({_cause(error)})",
                    fix="replace what it names by other operators of torch",
                ) from error
        _name_nodes(model)
        _clean(model, f"h{unit}", f"w{unit}")
        return model


class _Depth(nn.Module):
    """The network with its depth alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: Tensor) -> Any:
        return depth_of(self.network(pixel_values))


def _device(network: nn.Module) -> torch.device:
    """Where the network is; it has to be FP32 there."""
    tensors = [t for t in (*network.parameters(), *network.buffers()) if t.is_floating_point()]
    other = next((t.dtype for t in tensors if t.dtype != torch.float32), None)
    if other is not None:
        raise ExportError(
            f"the network is in {str(other).removeprefix('torch.')}",
            expected="float32, of which the lower precisions are made",
            fix="trace network.float()",
        )
    return tensors[0].device if tensors else torch.device("cpu")


def _check_output(network: nn.Module, sample: Tensor) -> None:
    batch, _, height, width = sample.shape
    try:
        depth = network(sample)
    except GlpnError:
        raise
    except Exception as error:  # whatever a stranger's network raises
        raise ExportError(
            f"the network fails on pixel_values of shape {tuple(sample.shape)} ({_cause(error)})",
            expected=f"one that runs on any batch whose sides are multiples of {height // 2} px",
        ) from error
    expected = "depth (batch, height, width) in float32, in metres"
    if not isinstance(depth, Tensor):
        raise ExportError(f"the network gives a {type(depth).__name__} as its depth", expected=expected)
    if depth.ndim != 3 or depth.shape[0] != batch or depth.dtype != torch.float32:
        kind = str(depth.dtype).removeprefix("torch.")
        images = f"{batch} images of {width}x{height} px"
        raise ExportError(
            f"the network gives {kind} of shape {tuple(depth.shape)} for {images}",
            expected=expected,
            fix="give depth.squeeze(1)" if depth.ndim == 4 and depth.shape[1] == 1 else "",
        )


@contextlib.contextmanager
def _in_eval_mode(network: nn.Module) -> Iterator[None]:
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch says of itself: packages that it does not need, classes that it will give up."""
    loggers = [logging.getLogger(name) for name in _NOISE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _name_nodes(model: onnx.ModelProto) -> None:
    """Names nodes ``module/operator`` as the writer does; those named so already keep their names."""
    taken = {node.name for node in model.graph.node if "/" in node.name}
    for node in model.graph.node:
        if "/" in node.name:
            continue
        name = base = f"{_module_of(node)}/{node.op_type}"
        count = 1
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        taken.add(name)
        node.name = name


def _module_of(node: onnx.NodeProto) -> str:
    """The module that torch says a node comes from: ``['', 'network', 'network.head', 'conv2d']``."""
    said = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
    try:
        scopes = ast.literal_eval(said)
    except (SyntaxError, ValueError):
        scopes = []
    inner = [scope for scope in scopes[:-1] if scope.startswith(f"{_ROOT}.")]
    return str(inner[-1]).removeprefix(f"{_ROOT}.") if inner else _ROOT


def _clean(model: onnx.ModelProto, height: str, width: str) -> None:
    """Takes out what tells of this machine, and names the free dimensions as the writer does."""
    graph = model.graph
    graph.name, graph.doc_string = "glpn", ""
    del graph.value_info[:], model.metadata_props[:], graph.metadata_props[:]
    for item in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]
    dims = graph.input[0].type.tensor_type.shape.dim
    free = dict(
        zip(
            [re.sub(r"^\d+\*", "", dims[axis].dim_param) for axis in (0, 2, 3)],
            ["batch", height, width],
            strict=True,
        )
    )
    for value in (*graph.input, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(r"[A-Za-z_]\w*", lambda m: free.get(m[0], m[0]), dim.dim_param)


def _cause(error: BaseException) -> str:
    """What went wrong, in a line: the innermost cause, which torch wraps in advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
