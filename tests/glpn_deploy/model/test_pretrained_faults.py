"""Checkpoints that do not fit, are damaged or mean harm: one sentence each, and nothing executed."""

import contextlib
import json
import os
import pickle
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from glpn_deploy import GLPNConfig, GLPNForDepthEstimation
from glpn_deploy.checkpoints.files import checkpoint_digest, describe_checkpoint, load_state_dict
from glpn_deploy.errors import CheckpointError, ConfigError
from tests.glpn_deploy.model.refusal import refusal, rewrite
from tests.refusals import refused

SMALL = GLPNConfig(depths=(1, 2, 1, 1), hidden_sizes=(4, 8, 10, 16), decoder_hidden_size=6)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return GLPNForDepthEstimation(SMALL)


@pytest.fixture
def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "glpn-small")
    return tmp_path / "glpn-small"


@pytest.fixture
def sharded(folder, state):
    """The same in three shards with an index, as HF lays them out."""
    (folder / "model.safetensors").unlink()
    where = {name: f"model-{1 + i % 3:05}-of-00003.safetensors" for i, name in enumerate(state)}
    for shard in set(where.values()):
        save_file({name: state[name] for name in state if where[name] == shard}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    GLPNForDepthEstimation.from_pretrained(folder)
    return folder


# Strictness


def test_missing_unknown_and_misshapen_tensors_are_reported_together(folder, state):
    def spoil(tensors):
        for name in [n for n in tensors if ".fusion." in n and n.endswith("bias")]:
            del tensors[name]
        tensors["something.else"] = torch.zeros(1)
        tensors["head.head.2.weight"] = torch.zeros(1, 5, 3, 3)

    rewrite(folder, spoil)
    text = refusal(GLPNForDepthEstimation.from_pretrained, folder)
    assert "15 missing (decoder.stages.1.fusion.convolutional_layer1.0.bias, " in text
    assert ", ...), 1 unknown (something.else), 1 of another shape " in text
    assert "(head.head.2.weight is 1x5x3x3, not 1x6x3x3)" in text
    assert f"exactly the {len(state)} tensors" in text
    assert "config.json is the one it was trained with" in text


def test_another_models_weights_are_named_as_such(folder):
    save_file({"bert.embeddings.weight": torch.zeros(2, 2)}, folder / "model.safetensors")
    assert "not a GLPN checkpoint" in refusal(GLPNForDepthEstimation.from_pretrained, folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(folder, value):
    rewrite(folder, lambda t: t["head.head.0.weight"].fill_(value))
    assert "NaN or infinity in 1 tensors (head.head.0.weight)" in refusal(
        GLPNForDepthEstimation.from_pretrained, folder
    )


def test_integer_weights_are_refused(folder):
    rewrite(folder, lambda t: t.update({"head.head.0.bias": torch.zeros(6, dtype=torch.int8)}))
    assert "head.head.0.bias holds torch.int8" in refusal(GLPNForDepthEstimation.from_pretrained, folder)


# Damage


def test_truncated_safetensors_are_refused_wherever_they_end(folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    header = int.from_bytes(whole[:8], "little")
    for end in [
        0,
        1,
        7,
        8,
        9,
        100,
        header,
        header + 7,
        header + 8,
        header + 9,
        len(whole) // 2,
        len(whole) - 1,
    ]:
        path.write_bytes(whole[:end])
        text = refusal(GLPNForDepthEstimation.from_pretrained, folder)
        assert "model.safetensors is damaged or no safetensors" in text, end


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 7), st.integers(0, 255), st.integers(0, 2**20))
def test_flipped_bytes_in_the_header_never_end_in_a_traceback(tmp_path_factory, model, at, value, far):
    path = tmp_path_factory.mktemp("flip") / "model.safetensors"
    save_file(model.state_dict(), path)
    whole = bytearray(path.read_bytes())
    header = int.from_bytes(whole[:8], "little")
    whole[at] = value
    whole[8 + far % header] = value
    path.write_bytes(whole)
    with contextlib.suppress(CheckpointError):
        GLPNForDepthEstimation.from_pretrained(path, config=SMALL)


def test_a_file_of_holes_is_refused_by_its_size(tmp_path):
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(3 << 30)
    for read in (load_state_dict, checkpoint_digest):
        with refused(CheckpointError, got="model.safetensors has 3221225472 bytes"):
            read(tmp_path / "model.safetensors")


@pytest.mark.parametrize("new_format", [True, False])
def test_truncated_pickles_are_refused(folder, state, new_format):
    (folder / "model.safetensors").unlink()
    path = folder / "pytorch_model.bin"
    torch.save(state, path, _use_new_zipfile_serialization=new_format)
    whole = path.read_bytes()
    for share in (0, 0.001, 0.1, 0.5, 0.9, 0.999):
        path.write_bytes(whole[: int(len(whole) * share)])
        assert "pytorch_model.bin is damaged or no PyTorch checkpoint" in refusal(
            GLPNForDepthEstimation.from_pretrained, folder
        ), share


class Mischief:
    """Creates a file when unpickled, as a careless loader would find out."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("how", ["torch", "torch-old", "plain", "protocol-5", "nested"])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.ckpt"])
def test_a_pickle_with_code_is_refused_and_nothing_runs(folder, tmp_path, state, how, name):
    (folder / "model.safetensors").unlink()
    trap = tmp_path / "trap"
    path = folder / name
    content = {"state_dict": state, "hook": Mischief(trap)} if how == "nested" else Mischief(trap)
    if how in {"plain", "protocol-5"}:
        path.write_bytes(pickle.dumps(content, protocol=2 if how == "plain" else 5))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how != "torch-old")
    text = refusal(
        GLPNForDepthEstimation.from_pretrained, folder if name.endswith("bin") else path, max_depth=10
    )
    assert not trap.exists()
    assert "weights_only" not in text, "torch's message advises to run it"
    if how == "protocol-5":  # torch reads no further than its first opcode
        assert "is damaged or no PyTorch checkpoint (UnpicklingError: Unsupported operand" in text
    else:
        assert ".mkdir); nothing in it was run; expected a file of plain tensors" in text
    pickle.loads(pickle.dumps(Mischief(trap)))
    assert trap.exists(), "the trap itself works"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([1, 2], "holds a list; expected a dictionary of tensors"),
        ({}, "holds no tensor; expected"),
        ({"epoch": 3}, "holds the entry 'epoch', which is no plain tensor"),
        ({3: torch.zeros(1)}, "holds the entry 3, which is no plain tensor"),
        ({"x": torch.eye(3).to_sparse()}, "holds the entry 'x', which is no plain tensor"),
        ({"x": torch.eye(3, device="meta")}, "holds the entry 'x', which is no plain tensor"),
        (torch.zeros(3), "holds a Tensor; expected"),
    ],
)
def test_pickles_of_other_things_are_refused(folder, content, text):
    torch.save(content, folder / "x.ckpt")
    assert text in refusal(GLPNForDepthEstimation.from_pretrained, folder / "x.ckpt", max_depth=10)


@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt", "photo.jpg"])
@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8\xff\xe0 JFIF", b"hello " * 100, b"PK\x03\x04" + b"\0" * 60]
)
def test_files_that_are_no_checkpoint_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert f"{name} is damaged or no" in refusal(
        GLPNForDepthEstimation.from_pretrained, tmp_path / name, max_depth=10
    )


def test_a_git_lfs_pointer_is_named_as_such(folder):
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    assert "is a Git LFS pointer, not the weights; run `git lfs pull`" in refusal(
        GLPNForDepthEstimation.from_pretrained, folder
    )


def test_an_onnx_file_is_named_as_such(tiny_onnx):
    text = refusal(GLPNForDepthEstimation.from_pretrained, tiny_onnx)
    assert f"{tiny_onnx} is an ONNX file already; expected the checkpoint that it was made from" in text
    assert f"glpn-predict {tiny_onnx} photo.jpg" in text


def test_folders_without_weights_or_config(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "holds no weights" in refusal(load_state_dict, tmp_path / "empty")
    assert "has no config.json" in refusal(GLPNForDepthEstimation.from_pretrained, tmp_path / "empty")
    (folder / "model.safetensors").rename(folder / "other.ckpt")
    assert f"give the file itself: {folder / 'other.ckpt'}" in refusal(
        GLPNForDepthEstimation.from_pretrained, folder
    )
    assert "there is no checkpoint" in refusal(load_state_dict, tmp_path / "missing")


def test_a_nonsense_config_is_refused_by_name(folder):
    (folder / "config.json").write_text('{"model_type": "glpn", "depths": 7}')
    text = refusal(GLPNForDepthEstimation.from_pretrained, folder, kind=ConfigError)
    assert "config.json: config value depths = 7" in text


def test_tensors_that_share_memory_are_parted(folder, state, tmp_path):
    state["head.head.0.bias"] = state["decoder.stages.0.convolution.bias"]
    torch.save(state, folder / "x.pt")
    GLPNForDepthEstimation.from_pretrained(folder / "x.pt").save_pretrained(tmp_path / "again")
    GLPNForDepthEstimation.from_pretrained(tmp_path / "again")


def test_a_config_that_was_given_leaves_the_one_beside_unread(folder):
    (folder / "config.json").write_text("nonsense")
    assert GLPNForDepthEstimation.from_pretrained(folder, config=SMALL).config == SMALL


# Shards


def test_a_missing_shard_is_named(sharded):
    shard = sorted(sharded.glob("model-*.safetensors"))[1]
    shard.unlink()
    text = refusal(GLPNForDepthEstimation.from_pretrained, sharded)
    assert f"the shard {shard.name} named in" in text
    assert "is missing" in text


def test_a_damaged_shard_is_named(sharded):
    shard = sorted(sharded.glob("model-*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-10])
    assert f"{shard.name} is damaged" in refusal(GLPNForDepthEstimation.from_pretrained, sharded)


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/etc/passwd", "sub/x.safetensors", "..", "", "c:x", "a\\b"]
)
def test_an_index_that_points_outside_its_folder_is_refused(sharded, state, name):
    save_file(state, sharded.parent / "outside.safetensors")
    index = sharded / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    assert "points outside its folder" in refusal(GLPNForDepthEstimation.from_pretrained, sharded)


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"weight_map": []}', '{"weight_map": {"a": 1}}', '{"weight_map": {}}']
)
def test_an_index_that_is_none_is_refused(sharded, content):
    (sharded / "model.safetensors.index.json").write_text(content)
    assert "is no index of shards" in refusal(GLPNForDepthEstimation.from_pretrained, sharded)


def test_an_expanded_tensor_takes_no_memory(folder, state):
    """1.6 kB that say they are 14 GB: the copy of each tensor would take them."""
    (folder / "model.safetensors").unlink()
    wide = torch.zeros(1).expand(60_000, 60_000)
    torch.save({**state, "decoder.stages.0.convolution.weight": wide}, folder / "pytorch_model.bin")
    with refused(CheckpointError, got="is expanded)", expected="tensors with values of their own"):
        load_state_dict(folder)


def test_tensors_that_share_one_storage_many_times_over(folder):
    (folder / "model.safetensors").unlink()
    block = torch.zeros(1 << 20)
    torch.save({f"tensor{i}": block for i in range(1000)}, folder / "pytorch_model.bin")
    with refused(CheckpointError, got="share their memory"):
        load_state_dict(folder)


def test_tensors_of_one_flat_block_are_plain(folder, state):
    (folder / "model.safetensors").unlink()
    flat = torch.cat([tensor.flatten() for tensor in state.values() if tensor.is_floating_point()])
    parts, at = {}, 0
    for name, tensor in state.items():
        if tensor.is_floating_point():
            parts[name] = flat[at : at + tensor.numel()].view(tensor.shape)
            at += tensor.numel()
    torch.save({**state, **parts}, folder / "pytorch_model.bin")
    assert load_state_dict(folder).keys() == state.keys()


def test_an_archive_that_was_packed(folder, state, tmp_path):
    torch.save({"zeros": torch.zeros(1 << 22)}, tmp_path / "plain.bin")
    (folder / "model.safetensors").unlink()
    with (
        zipfile.ZipFile(tmp_path / "plain.bin") as plain,
        zipfile.ZipFile(folder / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    with pytest.raises(CheckpointError, match=r"unpacks to 167\d{5} bytes"):
        load_state_dict(folder)


def test_a_shard_with_a_name_that_no_file_has(sharded):
    index = sharded / "model.safetensors.index.json"
    values = json.loads(index.read_text())
    values["weight_map"]["x"] = "a" * 300
    index.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=r"the shard a{300} named in"):
        load_state_dict(sharded)


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "README.md", "model.safetensors.index.json"]
)
def test_a_pipe_is_no_file_to_wait_for(name, folder):
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with contextlib.suppress(CheckpointError, ConfigError):
        describe_checkpoint(folder)
    with contextlib.suppress(CheckpointError, ConfigError):
        GLPNForDepthEstimation.from_pretrained(folder)


def test_a_file_of_ten_thousand_stages(tmp_path):
    names = {f"glpn.encoder.patch_embeddings.{i}.proj.weight": torch.zeros(1) for i in range(10_000)}
    torch.save(names, tmp_path / "many.ckpt")
    with refused(CheckpointError, got="10000 stages"):
        GLPNForDepthEstimation.from_pretrained(tmp_path / "many.ckpt", max_depth=10)
