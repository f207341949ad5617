"""The layer-wise search against the slow way: a graph made, emulated and judged for each group."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from glpn_deploy import GLPNImageProcessor, progress
from glpn_deploy.errors import InputError
from glpn_deploy.exporters.graph.graph_edit import load_graph
from glpn_deploy.exporters.graph.topology.groups import groups
from glpn_deploy.exporters.search.sensitivity import rank_groups
from glpn_deploy.exporters.to_half import HalfOptions, to_half
from glpn_deploy.proof.checks.images import FP32Depth
from tests.listening import Listener
from tests.refusals import refused

PROCESSOR = GLPNImageProcessor()
IMAGES = [np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)]


def spoiled(source, factors):
    """make() of a precision that multiplies a group's weights by a factor of its own."""

    def make(keep, path):
        model = load_graph(source)
        by_name = {tensor.name: tensor for tensor in model.graph.initializer}
        for group, nodes in groups(model).items():
            for node in model.graph.node:
                weights = [
                    name for name in node.input if name in by_name and name.endswith(("weight", "weight_t"))
                ]
                if node.name in nodes and node.name not in keep and group in factors:
                    for name in weights:
                        value = numpy_helper.to_array(by_name[name]) * np.float32(factors[group])
                        by_name[name].CopyFrom(numpy_helper.from_array(value, name))
        onnx.save_model(model, str(path))
        return path

    return make


def all_groups(source):
    return groups(load_graph(source))


def test_groups_come_by_falling_error_and_nan_first(tiny_onnx, tmp_path):
    factors = {"encoder.block.1.0.mlp": 1.05, "head": 1.3, "decoder.stages.1.fusion": np.nan}
    make, parts = spoiled(tiny_onnx, factors), all_groups(tiny_onnx)
    found = rank_groups(tiny_onnx, make, parts, IMAGES, PROCESSOR, tmp_path)
    assert [item.group for item in found[:3]] == ["decoder.stages.1.fusion", "head", "encoder.block.1.0.mlp"]
    assert found[0].errors.non_finite == 64 * 96
    assert found[1].errors.abs_rel > found[2].errors.abs_rel > 0
    assert max(item.errors.max_abs_m for item in found[3:]) < 1e-5  # FP32's own rounding [m]
    assert len(found) == len(parts)
    assert not list(tmp_path.iterdir())


def test_each_error_is_that_of_the_graph_made_for_it(tiny_onnx, tmp_path):
    factors = {
        "encoder.patch_embeddings.0.proj": 1.1,
        "encoder.block.2.0.attention": 0.9,
        "decoder.stages.3.fusion": 1.02,
    }
    make, parts = spoiled(tiny_onnx, factors), all_groups(tiny_onnx)
    found = rank_groups(tiny_onnx, make, parts, IMAGES, PROCESSOR, tmp_path)
    reference = FP32Depth(tiny_onnx, IMAGES, PROCESSOR)
    everything = frozenset(node for nodes in parts.values() for node in nodes)
    for item in found[:3]:
        alone = reference.errors(make(everything - set(item.nodes), tmp_path / "alone.onnx"))
        assert item.errors.abs_rel == pytest.approx(alone.abs_rel, rel=1e-3)


@pytest.mark.slow
def test_fp16_is_ranked_as_by_converting_each_group(tiny_onnx, tmp_path):
    """Rounding differs at a group's edge (a tensor's rounding belongs to its producer), the order hardly."""

    def make(keep, path):
        return to_half(tiny_onnx, path, HalfOptions(fp32_nodes=keep))

    parts = all_groups(tiny_onnx)
    found = rank_groups(tiny_onnx, make, parts, IMAGES, PROCESSOR, tmp_path)
    reference = FP32Depth(tiny_onnx, IMAGES, PROCESSOR)
    everything = frozenset(node for nodes in parts.values() for node in nodes)
    slow = {}
    for group, nodes in parts.items():
        candidate = make(everything - set(nodes), tmp_path / "alone.onnx")
        slow[group] = reference.errors(candidate).abs_rel
    ranks = {group: rank for rank, group in enumerate(sorted(slow, key=lambda group: -slow[group]))}
    theirs = np.array([ranks[item.group] for item in found])
    assert np.corrcoef(theirs, np.arange(len(found)))[0, 1] > 0.7  # Spearman's
    assert next(iter(ranks)) in {item.group for item in found[: 1 + len(found) // 8]}


def test_what_is_kept_anyway_is_not_searched(tiny_onnx, tmp_path):
    parts = all_groups(tiny_onnx)
    asked = []

    def make(keep, path):
        asked.append(keep)
        return spoiled(tiny_onnx, {})(keep, path)

    norm = parts["encoder.block.0.0.mlp"][0]
    kept = {*parts["head"], norm}
    found = rank_groups(tiny_onnx, make, parts, IMAGES, PROCESSOR, tmp_path, excluded=kept)
    assert asked == [frozenset(kept)]
    assert "head" not in {item.group for item in found}
    assert norm not in next(item.nodes for item in found if item.group == "encoder.block.0.0.mlp")


def test_images_are_spread_and_shrunk(tiny_onnx, tmp_path, monkeypatch):
    seen = []

    class Spy(FP32Depth):
        def __init__(self, source, images, *args, **kwargs):
            seen.extend(images)
            super().__init__(source, images, *args, **kwargs)

    monkeypatch.setattr("glpn_deploy.exporters.search.sensitivity.FP32Depth", Spy)
    images = [np.full((384, 512, 3), i, np.uint8) for i in range(6)]
    rank_groups(tiny_onnx, spoiled(tiny_onnx, {}), {}, images, PROCESSOR, tmp_path)
    assert [image.shape for image in seen] == [(192, 256, 3)] * 2
    assert [int(image[0, 0, 0]) for image in seen] == [0, 3]


def test_progress_has_one_unit_a_group(tiny_onnx, tmp_path):
    parts = all_groups(tiny_onnx)
    make = spoiled(tiny_onnx, {"head": 1.2})
    listener = Listener()
    with progress.shown(listener):
        rank_groups(tiny_onnx, make, parts, IMAGES, PROCESSOR, tmp_path)
    step = listener["layer-wise search"]
    assert step.total == len(step.advances) == len(parts)
    assert step.advances[-1].startswith("head: AbsRel ")
    assert "head" in step.summary


def test_what_make_raises_passes_and_nothing_is_left(tiny_onnx, tmp_path):
    def make(keep, path):
        path.write_bytes(b"half a graph")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        rank_groups(tiny_onnx, make, all_groups(tiny_onnx), IMAGES, PROCESSOR, tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_images_are_refused(tiny_onnx, tmp_path):
    with refused(InputError, got="no images"):
        rank_groups(tiny_onnx, spoiled(tiny_onnx, {}), all_groups(tiny_onnx), [], PROCESSOR, tmp_path)
