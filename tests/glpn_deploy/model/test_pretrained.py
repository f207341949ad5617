"""Checkpoints: every format HF writes, read strictly and written back as HF reads it."""

import hashlib
import json
import warnings

import pytest
import torch
import transformers

from glpn_deploy import GLPNConfig, GLPNForDepthEstimation, GLPNImageProcessor, GLPNModel
from glpn_deploy.checkpoints.card import read_card
from glpn_deploy.checkpoints.files import checkpoint_digest, describe_checkpoint
from glpn_deploy.errors import ConfigError, WriteError
from glpn_deploy.model.pretrained import ScaleWarning
from tests.glpn_deploy.model.refusal import refusal, rewrite
from tests.refusals import refused

SMALL = GLPNConfig(
    depths=(1, 2, 1, 1),
    hidden_sizes=(4, 8, 10, 16),
    sr_ratios=(8, 4, 2, 1),
    mlp_ratios=(2, 1, 3, 2),
    decoder_hidden_size=6,
)
PIXELS = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def theirs():
    """HF's model with every tensor away from its start."""
    torch.manual_seed(0)
    model = transformers.GLPNForDepthEstimation(transformers.GLPNConfig(**SMALL.to_dict())).eval()
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape) * 0.2 + (0.1 if tensor.ndim < 2 else -0.1))
    return model


@pytest.fixture
def state(theirs):
    return {name: tensor.clone() for name, tensor in theirs.state_dict().items()}


@pytest.fixture
def folder(theirs, tmp_path):
    """A checkpoint folder as transformers writes it."""
    path = tmp_path / "glpn-small"
    theirs.save_pretrained(path)
    return path


@torch.no_grad()
def assert_same_model(model, theirs) -> None:
    weights = model.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in theirs.state_dict().items())
    expected = theirs(PIXELS).predicted_depth
    torch.testing.assert_close(model(PIXELS).predicted_depth, expected, rtol=0, atol=1e-5 * 10)


# Formats


def test_loads_what_hf_saves(folder, theirs):
    model = GLPNForDepthEstimation.from_pretrained(folder)
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert all(p.requires_grad and p.device.type == "cpu" for p in model.parameters())
    assert_same_model(model, theirs)
    assert_same_model(GLPNForDepthEstimation.from_pretrained(str(folder)), theirs)


@pytest.mark.parametrize("size", ["4KB", "16KB"])
def test_loads_what_hf_saves_in_shards(theirs, tmp_path, size):
    theirs.save_pretrained(tmp_path, max_shard_size=size)
    assert (tmp_path / "model.safetensors.index.json").is_file()
    assert_same_model(GLPNForDepthEstimation.from_pretrained(tmp_path), theirs)
    assert_same_model(
        GLPNForDepthEstimation.from_pretrained(tmp_path / "model.safetensors.index.json"), theirs
    )


@pytest.mark.parametrize("new_format", [True, False])
def test_loads_pytorch_model_bin(folder, theirs, state, new_format):
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=new_format)
    assert_same_model(GLPNForDepthEstimation.from_pretrained(folder), theirs)


def test_loads_pytorch_model_bin_in_shards(folder, theirs, state):
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    halves = {"pytorch_model-1.bin": names[:50], "pytorch_model-2.bin": names[50:]}
    for file, part in halves.items():
        torch.save({name: state[name] for name in part}, folder / file)
    where = {name: file for file, part in halves.items() for name in part}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    assert_same_model(GLPNForDepthEstimation.from_pretrained(folder), theirs)


def test_safetensors_win_over_a_pickle(folder, theirs):
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    assert_same_model(GLPNForDepthEstimation.from_pretrained(folder), theirs)


def test_loads_a_lone_file_with_its_config_beside_it(folder, theirs):
    assert_same_model(GLPNForDepthEstimation.from_pretrained(folder / "model.safetensors"), theirs)


@pytest.mark.parametrize("wrap", [lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
def test_wrapped_and_data_parallel_state_dicts(folder, theirs, state, wrap):
    torch.save(wrap({f"module.{name}": t for name, t in state.items()}), folder / "best.pth")
    assert_same_model(GLPNForDepthEstimation.from_pretrained(folder / "best.pth"), theirs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_become_float32(folder, theirs, dtype):
    rewrite(folder, lambda t: t.update({k: v.to(dtype) for k, v in t.items() if v.is_floating_point()}))
    model = GLPNForDepthEstimation.from_pretrained(folder)
    expected = theirs.head.head[0].weight.detach().to(dtype).float()
    assert torch.equal(model.head.head[0].weight, expected)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_batch_counters_may_be_missing(folder, theirs):
    def drop(tensors):
        for name in [n for n in tensors if n.endswith("num_batches_tracked")]:
            del tensors[name]

    rewrite(folder, drop)
    assert_same_model(GLPNForDepthEstimation.from_pretrained(folder), theirs)


def test_overrides(folder, theirs):
    model = GLPNForDepthEstimation.from_pretrained(folder, max_depth=80, norm_eps="original")
    assert (model.config.max_depth, model.config.norm_eps) == (80, "original")
    with torch.no_grad():
        expected = 8 * theirs(PIXELS).predicted_depth
        torch.testing.assert_close(
            GLPNForDepthEstimation.from_pretrained(folder, max_depth=80)(PIXELS).predicted_depth, expected
        )
    assert (
        GLPNForDepthEstimation.from_pretrained(folder, config=SMALL.replace(max_depth=20)).config.max_depth
        == 20
    )
    assert "max_depth = -1" in refusal(
        GLPNForDepthEstimation.from_pretrained, folder, max_depth=-1, kind=ConfigError
    )


# The encoder alone


def test_encoder_of_a_depth_checkpoint_and_of_an_encoder_checkpoint(folder, theirs, tmp_path):
    theirs.glpn.save_pretrained(tmp_path / "encoder")
    with torch.no_grad():
        expected = theirs.glpn(PIXELS).last_hidden_state
        for source in (folder, tmp_path / "encoder"):
            got = GLPNModel.from_pretrained(source)(PIXELS).last_hidden_state
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_an_encoder_only_checkpoint_is_named_as_such(theirs, tmp_path):
    theirs.glpn.save_pretrained(tmp_path)
    assert "encoder only" in refusal(GLPNForDepthEstimation.from_pretrained, tmp_path)


# Writing


def test_hf_reads_what_we_save(folder, theirs, tmp_path):
    out = tmp_path / "new" / "folder"
    GLPNForDepthEstimation.from_pretrained(folder).save_pretrained(out)
    back, report = transformers.GLPNForDepthEstimation.from_pretrained(out, output_loading_info=True)
    assert not any(report.values()), report
    assert all(
        torch.equal(a, b)
        for a, b in zip(back.state_dict().values(), theirs.state_dict().values(), strict=True)
    )
    assert {p.name for p in out.iterdir()} == {"config.json", "model.safetensors", "preprocessor_config.json"}
    assert transformers.AutoConfig.from_pretrained(out).architectures == ["GLPNForDepthEstimation"]
    assert_same_model(GLPNForDepthEstimation.from_pretrained(out), theirs)


def test_hf_reads_the_encoder_we_save(folder, theirs, tmp_path):
    GLPNModel.from_pretrained(folder).save_pretrained(tmp_path)
    back, report = transformers.GLPNModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert transformers.AutoConfig.from_pretrained(tmp_path).architectures == ["GLPNModel"]
    for name, tensor in theirs.glpn.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name


def test_saving_twice_gives_the_same_bytes_and_over_itself_works(folder, tmp_path):
    model = GLPNForDepthEstimation.from_pretrained(folder)
    model.save_pretrained(tmp_path / "a")
    GLPNForDepthEstimation.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    first = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    assert first == {p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()}
    GLPNForDepthEstimation.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "a")
    assert first == {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    modes = {oct(p.stat().st_mode & 0o777) for p in (tmp_path / "a").iterdir()}
    assert len(modes) == 1, "every file is as readable as the others"


def test_saves_the_processor_given(folder, tmp_path):
    model = GLPNForDepthEstimation.from_pretrained(folder)
    model.save_pretrained(tmp_path, GLPNImageProcessor(size_divisor=64))
    assert GLPNImageProcessor.from_pretrained(tmp_path).size_divisor == 64


def test_saving_where_a_file_stands_is_refused(folder, tmp_path):
    (tmp_path / "taken").write_text("")
    with refused(WriteError, got="taken"):
        GLPNForDepthEstimation.from_pretrained(folder).save_pretrained(tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == ""


# The scale of KITTI checkpoints


@pytest.mark.parametrize("where", ["folder", "file", "config"])
def test_a_kitti_checkpoint_at_ten_metres_warns(theirs, tmp_path, where):
    folder = tmp_path / ("my-KITTI-run" if where == "folder" else "run")
    theirs.save_pretrained(folder)
    source = folder
    if where == "file":
        source = folder / "glpn_kitti.safetensors"
        (folder / "model.safetensors").rename(source)
    if where == "config":
        values = json.loads((folder / "config.json").read_text()) | {"_name_or_path": "vinvino02/glpn-kitti"}
        (folder / "config.json").write_text(json.dumps(values))
    with pytest.warns(ScaleWarning, match="8x too small; .* pass max_depth=80 .*--max-depth 80") as caught:
        GLPNForDepthEstimation.from_pretrained(source)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GLPNForDepthEstimation.from_pretrained(source, max_depth=80)
        GLPNForDepthEstimation.from_pretrained(source, max_depth=10)
        GLPNModel.from_pretrained(source)


def test_no_warning_without_reason(folder, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GLPNForDepthEstimation.from_pretrained(folder)
        (tmp_path / "kitti").mkdir()
        folder.rename(tmp_path / "kitti" / "glpn-nyu")
        GLPNForDepthEstimation.from_pretrained(tmp_path / "kitti" / "glpn-nyu")


# What a manifest says of a checkpoint


def test_the_digest_covers_weights_and_config_and_nothing_else(folder, theirs, tmp_path):
    first = checkpoint_digest(folder)
    assert len(first) == 64
    (folder / "README.md").write_text("hello")
    assert checkpoint_digest(folder) == first
    assert checkpoint_digest(folder / "model.safetensors") == first
    rewrite(folder, lambda t: t["head.head.0.bias"].add_(1))
    second = checkpoint_digest(folder)
    assert second != first
    (folder / "config.json").write_text("{}")
    assert checkpoint_digest(folder) not in {first, second}

    theirs.save_pretrained(tmp_path / "sharded", max_shard_size="16KB")
    whole = checkpoint_digest(tmp_path / "sharded")
    shard = sorted((tmp_path / "sharded").glob("model-*.safetensors"))[0]
    shard.write_bytes(shard.read_bytes() + b" ")
    assert checkpoint_digest(tmp_path / "sharded") != whole


def test_the_digest_can_be_made_with_sha256sum(folder):
    lines = [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("config.json", "model.safetensors")
    ]
    assert checkpoint_digest(folder) == hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.mark.parametrize(
    ("files", "licence"),
    [
        ({}, None),
        ({"README.md": "---\nlicense: apache-2.0\ntags: [x]\n---\n# GLPN"}, "apache-2.0"),
        ({"README.md": '---\ntags:\n- x\nlicense: "mit" # yes\n---\n'}, "mit"),
        ({"README.md": "---\r\nlicense: mit\r\n---\r\n"}, "mit"),
        ({"README.md": "---\nlicense:\n- cc-by-nc-4.0\n---\n"}, "cc-by-nc-4.0"),
        ({"README.md": "---\nlicense: other\nlicense_name: nvidia-nc\n---\n"}, "nvidia-nc"),
        ({"README.md": "# GLPN\nlicense: mit\n"}, None),
        ({"README.md": "no front matter", "LICENSE.txt": "..."}, "LICENSE.txt"),
        ({"LICENCE": "..."}, "LICENCE"),
        ({"licensed_to_drill.mp3": ""}, None),
    ],
)
def test_licence(tmp_path, files, licence):
    for name, text in files.items():
        (tmp_path / name).write_bytes(text.encode())
    assert read_card(tmp_path).licence == licence


def test_description_of_a_local_checkpoint_has_no_paths(folder, tmp_path):
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    info = describe_checkpoint(folder)
    assert (info.source, info.revision, info.licence) == ("glpn-small", None, "mit")
    assert info.digest == checkpoint_digest(folder)
    assert info.files == ("config.json", "model.safetensors")
    assert str(tmp_path) not in repr(info)
