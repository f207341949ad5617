"""The head at a quarter of the size: the convolutions behind two doublings, as torch computes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx.utils import Extractor
from torch.nn import functional

from glpn_deploy import GLPNForDepthEstimation
from glpn_deploy.exporters.options import OnnxOptions
from glpn_deploy.exporters.to_onnx import to_onnx

FUSED = "decoder.stages.3.fusion/Add"
SHARE = "head/Concat_3"
SIZES = [(2, 2), (2, 3), (3, 2), (8, 24), (24, 40), (15, 20)]
"""Of the map: a quarter of the image's sides, which are multiples of 32; and others, down to 2."""


def head_of(path: Path) -> ort.InferenceSession:
    """The part of a graph that makes the depth of the fused map, in units of ``max_depth``."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    head = Extractor(model).extract_model([FUSED], [SHARE])
    return ort.InferenceSession(head.SerializeToString(), providers=["CPUExecutionProvider"])


def by_torch(model: GLPNForDepthEstimation, fused: torch.Tensor) -> np.ndarray:
    """The same in float64, of the network's own layers."""
    x = fused.double()
    for _ in range(2):
        x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    with torch.inference_mode():
        return torch.sigmoid(model.double().head.head(x)).numpy()


@pytest.mark.parametrize("opset", [17, 18, 23])
@pytest.mark.parametrize("channels", [6, 16])
def test_equals_torch_at_every_pixel(opset, channels, make_model, tiny_config, tmp_path):
    model = make_model(tiny_config.replace(decoder_hidden_size=channels))
    run = head_of(to_onnx(model, tmp_path / "model.onnx", OnnxOptions(opset))).run
    generator = torch.Generator().manual_seed(opset)
    for batch, (height, width) in enumerate(SIZES, start=1):
        fused = torch.randn((batch, channels, height, width), generator=generator)
        (depth,) = run(None, {FUSED: fused.numpy()})
        expected = by_torch(model, fused)
        assert depth.shape == (batch, 1, 4 * height, 4 * width)
        np.testing.assert_allclose(depth, expected, rtol=0, atol=1e-6)
        assert expected.std() > 0.01, "the comparison would mean nothing"
