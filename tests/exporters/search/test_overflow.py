"""Peaks against the tensors themselves, and which nodes an overflowing tensor touches."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from glpn_deploy import GLPNImageProcessor
from glpn_deploy.exporters.graph.graph_edit import load_graph
from glpn_deploy.exporters.search.overflow import find_peaks, overflowing_nodes

PROCESSOR = GLPNImageProcessor()


def test_peaks_are_those_of_the_tensors_over_all_images(tiny_onnx, tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (32, 64, 3), np.uint8), rng.integers(0, 64, (64, 32, 3), np.uint8)]
    peaks = find_peaks(tiny_onnx, images, PROCESSOR, tmp_path)
    model = load_graph(tiny_onnx)
    del model.graph.output[:]
    names = [name for node in model.graph.node for name in node.output]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected: dict[str, float] = {}
    for image in images:
        for name, value in zip(
            names, session.run(names, {"pixel_values": PROCESSOR.prepare(image)[None]}), strict=True
        ):
            if value.dtype == np.float32:
                expected[name] = max(expected.get(name, 0.0), float(np.abs(value).max()))
    assert peaks == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert not list(tmp_path.iterdir())


def chain() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Relu", [a], [b], name=name)
        for a, b, name in (("x", "a", "one"), ("a", "b", "two"), ("b", "c", "three"), ("c", "d", "four"))
    ]
    return helper.make_model(helper.make_graph(nodes, "g", [], []))


def test_who_makes_and_who_reads_an_overflowing_tensor_is_kept():
    peaks = {"a": 1.0, "b": 70000.0, "c": 16375.0, "d": 3.0}
    assert overflowing_nodes(chain(), peaks) == {"two", "three"}


def test_a_quarter_of_the_limit_counts_as_near():
    assert overflowing_nodes(chain(), {"d": 65504 / 4}) == {"four"}
    assert overflowing_nodes(chain(), {"d": 65504 / 4.01}) == frozenset()


def test_a_peak_that_is_no_number_counts():
    assert overflowing_nodes(chain(), {"d": float("nan")}) == {"four"}
