"""The authors' .ckpt files, made here by renaming HF's tensors the way their code names them."""

import warnings

import pytest
import torch
import transformers

from glpn_deploy import GLPNConfig, GLPNModel
from glpn_deploy.errors import CheckpointError
from glpn_deploy.model.modeling import GLPNForDepthEstimation

PIXELS = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def assert_same_depth(model, theirs) -> None:
    expected = theirs(PIXELS).predicted_depth
    torch.testing.assert_close(model(PIXELS).predicted_depth, expected, rtol=0, atol=1e-5 * 10)


def refusal(path, **options) -> str:
    with pytest.raises(CheckpointError) as caught:
        GLPNForDepthEstimation.from_pretrained(path, **options)
    return str(caught.value)


def authors_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """HF's state dict under the names of vinvino02/GLPDepth, written down independently of the loader."""
    parts = [
        ("layer_norm_1", "norm1"),
        ("layer_norm_2", "norm2"),
        ("attention.self.query", "attn.q"),
        ("attention.self.layer_norm", "attn.norm"),
        ("attention.self.sr", "attn.sr"),
        ("attention.output.dense", "attn.proj"),
        ("mlp.dense1", "mlp.fc1"),
        ("mlp.dense2", "mlp.fc2"),
        ("convolutional_layer", "conv"),
        ("head.head", "last_layer_depth"),
    ]
    out = {}
    for name, tensor in state.items():
        if ".self.value." in name:
            continue
        if ".self.key." in name:
            tensor = torch.cat([tensor, state[name.replace(".key.", ".value.")]])
            name = name.replace("attention.self.key", "attn.kv")
        for ours, original in parts:
            name = name.replace(ours, original)
        for i in range(4):
            name = name.replace(f"glpn.encoder.patch_embeddings.{i}.", f"encoder.patch_embed{i + 1}.")
            name = name.replace(f"glpn.encoder.block.{i}.", f"encoder.block{i + 1}.")
            name = name.replace(f"glpn.encoder.layer_norm.{i}.", f"encoder.norm{i + 1}.")
            name = name.replace(f"decoder.stages.{i}.fusion.", f"decoder.fusion{i}.")
            skip = "bot_conv" if i == 0 else f"skip_conv{i}"
            name = name.replace(f"decoder.stages.{i}.convolution.", f"decoder.{skip}.")
        if name.startswith("encoder.patch_embed"):
            name = name.replace("layer_norm", "norm")
        out[f"module.{name}"] = tensor
    return out


@pytest.fixture
def original():
    """An HF model the authors' decoder fits (no convolution in its last stage), and its .ckpt content."""
    torch.manual_seed(1)
    config = GLPNConfig(
        depths=(1, 2, 1, 1), hidden_sizes=(8, 16, 20, 32), mlp_ratios=(2, 1, 3, 2), decoder_hidden_size=8
    )
    model = transformers.GLPNForDepthEstimation(transformers.GLPNConfig(**config.to_dict())).eval()
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape) * 0.2 + (0.1 if tensor.ndim < 2 else -0.1))
    return config, model, authors_names(model.state_dict())


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s}])
def test_loads_the_authors_checkpoint(original, tmp_path, wrap):
    config, theirs, content = original
    assert "module.encoder.block2.1.attn.kv.weight" in content
    assert "module.decoder.fusion1.conv1.0.weight" in content
    torch.save(wrap(content), tmp_path / "best_model_nyu.ckpt")
    model = GLPNForDepthEstimation.from_pretrained(tmp_path / "best_model_nyu.ckpt", max_depth=10)
    assert model.config == config
    assert_same_depth(model, theirs)
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_the_authors_checkpoint_saved_in_hf_format(original, tmp_path):
    _, theirs, content = original
    torch.save(content, tmp_path / "x.ckpt")
    GLPNForDepthEstimation.from_pretrained(tmp_path / "x.ckpt", max_depth=10).save_pretrained(tmp_path / "hf")
    assert_same_depth(transformers.GLPNForDepthEstimation.from_pretrained(tmp_path / "hf"), theirs)


def test_the_authors_checkpoint_needs_its_depth_range(original, tmp_path):
    torch.save(original[2], tmp_path / "kitti.ckpt")
    text = refusal(tmp_path / "kitti.ckpt")
    assert "10 for NYU or 80 for KITTI (--max-depth 10)" in text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (
            GLPNForDepthEstimation.from_pretrained(tmp_path / "kitti.ckpt", max_depth=80).config.max_depth
            == 80
        )


def test_a_bare_mix_transformer_loads_as_an_encoder(original, tmp_path):
    """As the ImageNet checkpoints of SegFormer (mit_b4.pth), with its classifier left out."""
    _, theirs, content = original
    prefix = "module.encoder."
    bare = {name[len(prefix) :]: t for name, t in content.items() if name.startswith(prefix)}
    torch.save(bare | {"head.weight": torch.zeros(1000, 32)}, tmp_path / "mit.pth")
    encoder = GLPNModel.from_pretrained(tmp_path / "mit.pth")
    for name, tensor in theirs.glpn.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], tensor), name
    assert "encoder only" in refusal(tmp_path / "mit.pth", max_depth=10)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda c: c.pop("module.encoder.block1.0.mlp.fc1.weight"), "block.0.0.mlp.dense1.weight is missing"),
        (
            lambda c: c.pop("module.encoder.block2.1.attn.kv.bias"),
            "2 missing (glpn.encoder.block.1.1.attention",
        ),
        (lambda c: c.update({"module.encoder.block1.0.attn.kv.bias": torch.tensor(1.0)}), "unknown"),
        (lambda c: c.update({"module.encoder.block1.0.attn.kv.bias": torch.ones(3)}), "of another shape"),
        (lambda c: c.update({"module.extra": torch.ones(3)}), "1 unknown (extra)"),
        (lambda c: c.update({"module.encoder.patch_embed1.proj.weight": torch.ones(3)}), "is of shape (3,)"),
        (
            lambda c: c.update({"module.encoder.patch_embed3.proj.weight": torch.ones(21, 16, 3, 3)}),
            "5 attention heads",
        ),
    ],
)
def test_a_damaged_authors_checkpoint_is_refused(original, tmp_path, damage, text):
    damage(original[2])
    torch.save(original[2], tmp_path / "x.ckpt")
    assert text in refusal(tmp_path / "x.ckpt", max_depth=10)
