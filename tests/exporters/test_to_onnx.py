"""The written ONNX graph against PyTorch and against transformers, and what is promised of the file."""

from __future__ import annotations

import errno
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import transformers

from glpn_deploy import GLPNConfig
from glpn_deploy.errors import ExportError, InputError, WriteError
from glpn_deploy.exporters import to_onnx as module
from glpn_deploy.exporters.graph.onnx_graph import build_model
from glpn_deploy.exporters.options import MAX_OPSET, MIN_OPSET, OnnxOptions
from glpn_deploy.exporters.to_onnx import check_promises, to_onnx
from glpn_deploy.model.settings.checks import ACTIVATIONS
from glpn_deploy.runtimes.onnx_file.header import read_header
from tests.refusals import refused

NAMES = sorted(ACTIVATIONS)
OPSETS = range(MIN_OPSET, MAX_OPSET + 1)
GLPN_NYU_DEPTHS = (3, 8, 27, 3)


def random_config(seed: int) -> GLPNConfig:
    """A small network; every setting that changes the graph takes each of its values somewhere."""
    rng = random.Random(seed)
    stages = 3 if seed % 5 == 4 else 4
    heads = [rng.choice([1, 2, 3, 5]) for _ in range(stages)]
    hidden = [n * rng.choice([4, 6, 8]) for n in heads]
    even = [size for size in hidden if size % 2 == 0]
    reductions = [(8, 4, 2, 1), (4, 4, 1, 1), (2, 1, 2, 1), (1, 1, 1, 1)]
    return GLPNConfig(
        num_channels=4 if seed % 7 == 3 else 3,
        num_encoder_blocks=stages,
        depths=tuple(rng.randint(1, 3) for _ in range(stages)),
        sr_ratios=rng.choice(reductions)[:stages],
        hidden_sizes=tuple(hidden),
        patch_sizes=rng.choice([(7, 3, 3, 3), (5, 3, 5, 3)])[:stages],
        strides=(4, 2, 2, 2)[:stages],
        num_attention_heads=tuple(heads),
        mlp_ratios=tuple(rng.choice([1, 2, 3, 4]) for _ in range(stages)),
        hidden_act=NAMES[seed % len(NAMES)],
        decoder_hidden_size=rng.choice(even) if seed % 4 == 0 and even else rng.choice([6, 8, 14]),
        max_depth=rng.choice([1, 10, 80]),
        head_in_index=rng.randrange(stages) if seed % 3 == 0 else -1,
        norm_eps="original" if seed % 6 == 5 else "hf",
    )


def session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def hf_depth(model: torch.nn.Module, config: GLPNConfig, pixels: np.ndarray) -> np.ndarray:
    """What transformers computes from the same weights."""
    theirs = transformers.GLPNForDepthEstimation(transformers.GLPNConfig(**config.to_dict())).eval()
    theirs.load_state_dict(model.state_dict(), strict=True)
    if config.norm_eps == "original":  # HF has no such choice: set the authors' value where they have it
        for name, layer in theirs.named_modules():
            if re.search(r"layer_norm_[12]$|encoder\.layer_norm\.\d$", name):
                layer.eps = 1e-6
    with torch.inference_mode():
        return theirs(torch.from_numpy(pixels)).predicted_depth.numpy()


@pytest.mark.parametrize("seed", range(24))
def test_equals_torch_and_transformers(seed, make_model, pixels, tmp_path):
    config = random_config(seed)
    model = make_model(config, seed)
    opset = OPSETS[seed % len(OPSETS)]
    run = session(to_onnx(model, tmp_path / "model.onnx", OnnxOptions(opset))).run
    unit = config.size_multiple
    for batch, height, width in ((1, unit, 2 * unit), (3, 96, 32), (2, 64, 224)):
        height, width = (-(-side // unit) * unit for side in (height, width))
        x = pixels(batch, height, width, config.num_channels, seed)
        (depth,) = run(None, {"pixel_values": x})
        with torch.inference_mode():
            expected = model(torch.from_numpy(x)).predicted_depth.numpy()
        assert expected.std() > 1e-3 * config.max_depth, "the comparison would mean nothing"
        np.testing.assert_allclose(depth, expected, rtol=0, atol=1e-5 * config.max_depth)
        theirs = hf_depth(model, config, x)
        np.testing.assert_allclose(depth, theirs, rtol=0, atol=1e-5 * config.max_depth)


def test_fractional_mlp_ratio_equals_torch(make_model, tiny_config, pixels, tmp_path):
    """Without transformers, which from version 5 on reads whole ratios only."""
    model, x = make_model(tiny_config.replace(mlp_ratios=(1.5, 2.25, 0.5, 3))), pixels(2, 64, 32)
    (depth,) = session(to_onnx(model, tmp_path / "model.onnx")).run(None, {"pixel_values": x})
    with torch.inference_mode():
        expected = model(torch.from_numpy(x)).predicted_depth.numpy()
    np.testing.assert_allclose(depth, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset_and_activation(opset, make_model, pixels, tmp_path):
    x = pixels(2, 64, 96)
    start = opset - MIN_OPSET
    for act in {"gelu", "gelu_new", *NAMES[start :: len(OPSETS)]}:
        config = random_config(1).replace(hidden_act=act, num_channels=3, max_depth=10)
        model = make_model(config)
        path = to_onnx(model, tmp_path / f"{act}.onnx", OnnxOptions(opset))
        onnx.checker.check_model(str(path), full_check=True)
        assert onnx.load(str(path)).opset_import[0].version == opset
        np.testing.assert_allclose(
            session(path).run(None, {"pixel_values": x})[0], hf_depth(model, config, x), rtol=0, atol=1e-4
        )


def test_near_equal_constants_stay_apart(make_model, pixels, tmp_path):
    """A max_depth that agrees with GELU's sqrt(2) in six digits is still its own number."""
    scale = 1.4142199  # sqrt(2) is 1.4142136
    model = make_model(random_config(0).replace(hidden_act="gelu", max_depth=scale, num_channels=3))
    path = to_onnx(model, tmp_path / "model.onnx")
    values = [onnx.numpy_helper.to_array(t) for t in onnx.load(str(path)).graph.initializer]
    assert any(value.size == 1 and value == np.float32(scale) for value in values)
    assert float(session(path).get_modelmeta().custom_metadata_map["max_depth"]) == scale


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["batch", "32*h32", "32*w32"]),
        ({"head_in_index": 2}, ["batch", "8*h32", "8*w32"]),
        ({"head_in_index": 0}, ["batch", "2*h32", "2*w32"]),
        ({"sr_ratios": (16, 4, 2, 1)}, ["batch", "64*h64", "64*w64"]),
    ],
)
def test_free_dimensions_are_honest(changes, expected, make_model, tiny_config, pixels, tmp_path):
    config = tiny_config.replace(**changes)
    path = to_onnx(make_model(config), tmp_path / "model.onnx")
    graph = session(path)
    unit = config.size_multiple
    assert graph.get_inputs()[0].shape == ["batch", 3, f"{unit}*h{unit}", f"{unit}*w{unit}"]
    assert graph.get_outputs()[0].shape == expected
    (depth,) = graph.run(None, {"pixel_values": pixels(2, unit * 3, unit * 2)})
    share = int(expected[1].split("*")[0])
    assert depth.shape == (2, share * 3, share * 2)


def test_nothing_random_and_no_trace_of_the_machine(tiny_onnx):
    model = onnx.load(str(tiny_onnx))
    kinds = {node.op_type for node in model.graph.node}
    assert not {kind for kind in kinds if kind.startswith("Random") or kind == "Dropout"}
    assert not model.doc_string
    assert not model.graph.doc_string
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    content = tiny_onnx.read_bytes()
    for trace in (str(Path.cwd()), str(tiny_onnx.parent), str(Path.home()) + "/", ".py", "site-packages"):
        assert trace.encode() not in content
    assert {entry.key for entry in model.metadata_props} == {
        "glpn_config",
        "input",
        "max_depth",
        "precision",
        "unit",
    }


def test_training_mode_does_not_matter(make_model, tiny_config, tmp_path):
    model = make_model(tiny_config.replace(hidden_dropout_prob=0.5, drop_path_rate=0.5))
    ours = to_onnx(model, tmp_path / "a.onnx").read_bytes()
    assert to_onnx(model.train(), tmp_path / "b.onnx").read_bytes() == ours


def test_same_weights_same_bytes(tiny_model, tiny_onnx, make_model, tmp_path):
    again = to_onnx(tiny_model, tmp_path / "another name.onnx")
    assert again.read_bytes() == tiny_onnx.read_bytes()
    assert to_onnx(make_model(seed=1), again).read_bytes() != tiny_onnx.read_bytes()


def test_same_bytes_in_another_process(tiny_checkpoint, tiny_onnx, tmp_path):
    program = f"""
        from pathlib import Path
        from glpn_deploy.model.modeling import GLPNForDepthEstimation
        from glpn_deploy.exporters.to_onnx import to_onnx
        to_onnx(GLPNForDepthEstimation.from_pretrained({str(tiny_checkpoint)!r}), Path("model.onnx"))
    """
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, env=environment, check=True
    )
    assert (tmp_path / "model.onnx").read_bytes() == tiny_onnx.read_bytes()


def test_external_data_above_the_limit(tiny_model, tiny_onnx, pixels, tmp_path):
    path = to_onnx(tiny_model, tmp_path / "big.onnx", OnnxOptions(single_file_limit=10_000))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["big.onnx", "big.onnx.data"]
    locations = {
        entry.value
        for tensor in onnx.load(str(path), load_external_data=False).graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    assert locations == {"big.onnx.data"}
    x = {"pixel_values": pixels(1, 64, 64)}
    np.testing.assert_array_equal(session(path).run(None, x)[0], session(tiny_onnx).run(None, x)[0])
    first = [p.read_bytes() for p in sorted(tmp_path.iterdir())]
    to_onnx(tiny_model, path, OnnxOptions(single_file_limit=10_000))
    assert [p.read_bytes() for p in sorted(tmp_path.iterdir())] == first


@pytest.mark.parametrize(("opset", "most"), [(17, 1770), (20, 1610), (23, 1610), (MAX_OPSET, 1610)])
def test_glpn_nyu_has_few_nodes(opset, most, make_model, tiny_config, tmp_path):
    """HF's export has 1,773. The number depends on the depths alone, so narrow stages tell glpn-nyu's."""
    config = tiny_config.replace(
        depths=GLPN_NYU_DEPTHS, hidden_sizes=(4, 8, 10, 16), num_attention_heads=(1, 2, 5, 8)
    )
    assert read_header(to_onnx(make_model(config), tmp_path / "model.onnx", OnnxOptions(opset))).nodes <= most


@pytest.mark.parametrize("opset", [17, 23])
def test_the_encoder_computes_on_tokens(opset, tiny_model, tmp_path):
    """OpenVINO takes four-dimensional ones for images and lays every normalisation's input out anew."""
    model = onnx.load(str(to_onnx(tiny_model, tmp_path / "model.onnx", OnnxOptions(opset))))
    shapes = onnx.shape_inference.infer_shapes(model).graph.value_info
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in shapes}
    norms = [node for node in model.graph.node if node.op_type == "LayerNormalization"]
    sums = [node for node in model.graph.node if node.op_type == "Add" and "encoder.block" in node.name]
    assert {ranks[node.output[0]] for node in norms} == {3}
    assert {ranks[n.output[0]] for n in sums if n.name.endswith(("attention/Add", "dense/Add"))} == {3}


@pytest.mark.parametrize("size", [(31, 31), (62, 96), (64, 93), (33, 64)])
def test_the_graph_itself_refuses_other_sides(size, tiny_onnx):
    """31x31 gave a depth of 32x32, as the first convolution rounds up."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(tiny_onnx), options, providers=["CPUExecutionProvider"])
    with pytest.raises(Exception, match=r"Reshape|Concat|Add|Mul"):
        session.run(None, {"pixel_values": np.zeros((1, 3, *size), np.float32)})
    assert session.run(None, {"pixel_values": np.zeros((1, 3, 64, 96), np.float32)})[0].shape == (1, 64, 96)


def test_onnxruntime_computes_the_head_in_its_fast_layout(make_model, tiny_config, tmp_path):
    path = to_onnx(make_model(tiny_config.replace(decoder_hidden_size=16)), tmp_path / "model.onnx")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(tmp_path / "optimised.onnx").graph.node
    if "com.microsoft.nchwc" not in {node.domain for node in nodes}:
        pytest.skip("this processor has no blocked layout in ONNX Runtime")
    head = [node for node in nodes if node.op_type == "Conv" and node.name.startswith("head.head.0")]
    assert len(head) >= 17  # nine, and eight differences
    assert {node.domain for node in head} == {"com.microsoft.nchwc"}


@pytest.mark.parametrize("opset", [MIN_OPSET - 1, MAX_OPSET + 1, 0, -3])
def test_opset_out_of_range(opset):
    with refused(
        InputError, got=f"opset is {opset}", expected=f"at least {MIN_OPSET} and at most {MAX_OPSET}"
    ):
        OnnxOptions(opset=opset)


def test_opset_that_the_installed_onnx_does_not_know(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx.defs, "onnx_opset_version", lambda: 21)
    with refused(ExportError, got="opset 22", expected="at most 21", fix="pip install -U onnx"):
        to_onnx(tiny_model, tmp_path / "model.onnx", OnnxOptions(22))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_stopped_while_saving_leaves_the_old_file(error, tiny_model, tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")

    def stop(proto, target, **options):
        Path(target).write_bytes(b"half")
        raise error

    monkeypatch.setattr(onnx, "save_model", stop)
    with pytest.raises(WriteError if isinstance(error, OSError) else KeyboardInterrupt):
        to_onnx(tiny_model, path)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    assert path.read_bytes() == b"old"


def test_no_folder_to_write_in(tiny_model, tmp_path):
    with refused(WriteError, fix="mkdir -p"):
        to_onnx(tiny_model, tmp_path / "nowhere" / "model.onnx")


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_while_saving_leaves_nothing_the_next_run_keeps(tiny_model, tiny_checkpoint, tmp_path):
    program = f"""
        import os, signal
        from pathlib import Path
        import onnx
        from glpn_deploy.model.modeling import GLPNForDepthEstimation
        from glpn_deploy.exporters.to_onnx import to_onnx
        def killed(proto, target, **options):
            Path(target).write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        onnx.save_model = killed
        to_onnx(GLPNForDepthEstimation.from_pretrained({str(tiny_checkpoint)!r}), Path("model.onnx"))
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, check=False)
    assert run.returncode == -signal.SIGKILL
    assert not (tmp_path / "model.onnx").exists()
    to_onnx(tiny_model, tmp_path / "model.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def add_dropout(model: onnx.ModelProto) -> None:
    last = model.graph.node[-1]
    last.output[0] = "inner"
    model.graph.node.append(onnx.helper.make_node("Dropout", ["inner"], ["predicted_depth"]))


def fix_height(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 480


def break_link(model: onnx.ModelProto) -> None:
    model.graph.node[3].input[0] = "nowhere"


def leave_a_trace(model: onnx.ModelProto) -> None:
    model.graph.node[0].doc_string = 'File "modeling.py", line 7'


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (add_dropout, "Dropout"),
        (fix_height, "expected a free batch"),
        (leave_a_trace, "stack traces"),
    ],
)
def test_what_is_promised_is_checked(change, words, tiny_onnx):
    model = onnx.load(str(tiny_onnx))
    check_promises(model)
    change(model)
    with pytest.raises(ExportError, match=words):
        check_promises(model)


def test_a_graph_that_fails_its_check_is_not_left_behind(tiny_model, tmp_path, monkeypatch):
    def broken(*args):
        model = build_model(*args)
        break_link(model)
        return model

    monkeypatch.setattr(module, "build_model", broken)
    with refused(ExportError, got="not valid ONNX"):
        to_onnx(tiny_model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
