"""What training starts from; the oracle for an imported encoder is transformers' own forward pass."""

import json
from pathlib import Path

import pytest
import torch
from transformers import SegformerConfig, SegformerForImageClassification, SegformerModel

from glpn_deploy.errors import CheckpointError, ConfigError, InputError
from glpn_deploy.model.config import GLPNConfig
from glpn_deploy.model.modeling import GLPNForDepthEstimation
from glpn_deploy.training.options import TrainOptions
from glpn_deploy.training.start import check_crop, preset, starting_model
from tests.refusals import refused

TINY = {
    "depths": [1, 2, 1, 1],
    "hidden_sizes": [8, 16, 24, 32],
    "num_attention_heads": [1, 2, 3, 4],
    "mlp_ratios": [4, 4, 2, 2],
}


def start(source, max_depth=10.0, **options):
    told = TrainOptions(dataset="rooms", out=Path("unused"), start=str(source), config="demo", **options)
    return starting_model(told, max_depth)


@pytest.mark.parametrize("kind", [SegformerModel, SegformerForImageClassification])
def test_imported_encoder_computes_what_transformers_computes(kind, tmp_path):
    torch.manual_seed(1)
    theirs = kind(SegformerConfig(**TINY)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # biases and norms too must arrive
    theirs.save_pretrained(tmp_path)
    model = start(tmp_path)
    assert model.training
    assert model.config.max_depth == 10.0
    pixels = torch.rand(2, 3, 64, 96)
    encoder = theirs if kind is SegformerModel else theirs.segformer
    with torch.no_grad():
        expected = encoder(pixels, output_hidden_states=True).hidden_states
        result = model.eval().glpn(pixels, output_hidden_states=True).hidden_states
    for ours, reference in zip(result, expected, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-5)


def test_segformer_without_its_encoder_is_refused(tmp_path):
    SegformerModel(SegformerConfig(**TINY)).save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"depths": [2, 2, 1, 1]}))
    with refused(CheckpointError, got="missing"):
        start(tmp_path)
    torch.save({"decode_head.classifier.weight": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with refused(CheckpointError, got="no tensor under segformer.encoder", expected="nvidia/mit-b4"):
        start(tmp_path)


def test_glpn_checkpoint_goes_on_with_its_weights_at_the_new_range(tmp_path):
    GLPNForDepthEstimation(GLPNConfig(**TINY, decoder_hidden_size=8)).save_pretrained(tmp_path)
    model = start(tmp_path, max_depth=80.0, drop_path=0.3)
    saved = GLPNForDepthEstimation.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
    assert (model.config.max_depth, model.config.drop_path_rate) == (80.0, 0.3)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_scratch_depends_on_the_seed_alone():
    first, again = (start("scratch").state_dict() for _ in range(2))
    other = start("scratch", seed=1).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["head.head.0.weight"], other["head.head.0.weight"])


def test_demo_preset_stays_below_4_mb_in_float16():
    parameters = sum(parameter.numel() for parameter in start("scratch").parameters())
    assert parameters * 2 < 3.8e6


def test_presets_are_the_mix_transformers_of_segformer():
    assert preset("mit-b4").depths == (3, 8, 27, 3)
    assert preset("mit-b0").hidden_sizes == (32, 64, 160, 256)


def test_unknown_preset_is_refused_with_the_known_ones():
    with refused(ConfigError, got="no configuration 'mit-b9'", expected=("demo, mit-b0", "config.json")):
        preset("mit-b9")


def test_crop_that_the_network_cannot_run_is_refused():
    with refused(InputError, got="crop of 64x48 px", expected="multiples of 32"):
        check_crop(start("scratch"), (64, 48))
