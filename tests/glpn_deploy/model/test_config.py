"""GLPNConfig: HF's config.json both ways, and one clear sentence for nonsense."""

import json
from typing import Any

import pytest
import transformers

from glpn_deploy import GLPNConfig, GLPNModel
from glpn_deploy.errors import ConfigError, ConfigFileError, GlpnError
from tests.refusals import refused

NYU = {"depths": [3, 8, 27, 3], "hidden_sizes": [64, 128, 320, 512], "max_depth": 10}
OTHER = {
    "num_channels": 1,
    "sr_ratios": [4, 2, 1, 1],
    "num_attention_heads": [1, 2, 4, 8],
    "mlp_ratios": [2, 4, 3, 1],
    "hidden_act": "relu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.2,
    "initializer_range": 0.01,
    "drop_path_rate": 0.0,
    "decoder_hidden_size": 32,
    "max_depth": 80,
    "head_in_index": 2,
}
HF_FIELDS = [name for name in GLPNConfig().to_dict() if name not in {"transformers_version", "_name_or_path"}]


@pytest.mark.parametrize("values", [{}, NYU, OTHER])
def test_reads_what_hf_writes(values, tmp_path):
    theirs = transformers.GLPNConfig(**values)
    theirs.save_pretrained(tmp_path)
    ours = GLPNConfig.from_json_file(tmp_path / "config.json")
    for name in HF_FIELDS:
        got, expected = getattr(ours, name), getattr(theirs, name)
        assert (list(got) == list(expected)) if isinstance(got, list | tuple) else (got == expected), name


@pytest.mark.parametrize("values", [{}, NYU, OTHER])
def test_hf_reads_what_we_write(values, tmp_path):
    ours = GLPNConfig(**values)
    (tmp_path / "config.json").write_text(ours.to_json_string())
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    assert isinstance(theirs, transformers.GLPNConfig)
    for name in HF_FIELDS:
        got, expected = getattr(theirs, name), getattr(ours, name)
        assert (list(got) == list(expected)) if isinstance(expected, tuple) else (got == expected), name


@pytest.mark.parametrize("values", [{}, NYU, OTHER, {"norm_eps": "original", "max_depth": 12.5}])
def test_our_own_round_trip_loses_nothing(values):
    config = GLPNConfig(**values)
    assert GLPNConfig.from_dict(json.loads(config.to_json_string())) == config


def test_keys_that_are_not_the_networks_are_kept():
    values = {"model_type": "glpn", "torch_dtype": "float16", "_name_or_path": "x", "image_size": 7, **NYU}
    config, theirs = GLPNConfig.from_dict(values), transformers.GLPNConfig.from_dict(dict(values))
    assert config == GLPNConfig(**NYU), "they are not what makes a network"
    for name in ("dtype", "name_or_path", "image_size", "num_labels", "id2label"):
        assert getattr(config, name) == getattr(theirs, name), name
    assert json.loads(config.to_json_string())["image_size"] == 7


def test_values_can_be_set_and_are_checked_when_a_model_is_made():
    config: Any = GLPNConfig(**NYU)
    changed = config.replace(max_depth=80)
    assert (changed.max_depth, config.max_depth) == (80, 10)
    config.max_depth = 80
    assert config == changed
    with pytest.raises(ConfigError):
        config.max_depth = "80"
    assert config.max_depth == 80
    config.depths = [1, 1, 1]
    for use in (config.validate, lambda: GLPNModel(config), lambda: config.replace(max_depth=10)):
        with pytest.raises(ConfigError):
            use()
    with pytest.raises(TypeError):
        hash(config)


@pytest.mark.parametrize("max_depth", [9.5, 10.0, 80, 0.25])
def test_transformers_reads_a_depth_range_that_is_not_whole(max_depth, tmp_path):
    GLPNConfig(max_depth=max_depth).save_pretrained(tmp_path)
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    assert theirs.max_depth == max_depth
    theirs.save_pretrained(tmp_path)
    assert GLPNConfig.from_pretrained(tmp_path).max_depth == max_depth
    assert transformers.GLPNConfig(**GLPNConfig(max_depth=max_depth).to_dict()).max_depth == max_depth


@pytest.mark.parametrize(
    ("values", "multiple"),
    [
        ({}, 32),
        ({"sr_ratios": (1, 1, 1, 1)}, 32),
        ({"sr_ratios": (8, 4, 4, 1)}, 64),
        ({"sr_ratios": (3, 1, 1, 1)}, 96),
    ],
)
def test_size_multiple_is_what_every_stage_divides(values, multiple):
    assert GLPNConfig(**values).size_multiple == multiple


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"depths": [2, 2, 2]}, "config value depths = [2, 2, 2]; expected num_encoder_blocks = 4 entries."),
        ({"depths": 2}, "config value depths = 2; expected a list with one number per stage."),
        ({"depths": "2222"}, "config value depths = '2222'; expected a list"),
        ({"depths": [2, 2, 2, 0]}, "config value depths = 0; expected a whole number of at least 1."),
        ({"depths": [2, 2, 2, None]}, "config value depths = None; expected a whole number"),
        ({"depths": [2, 2, 2, True]}, "config value depths = True; expected a whole number"),
        ({"hidden_sizes": [32, 64, 160, 2.5]}, "config value hidden_sizes = 2.5; expected a whole number"),
        (
            {"hidden_sizes": [32, 64, 161, 256]},
            "hidden_sizes = 161; expected a multiple of its 5 attention heads.",
        ),
        ({"num_attention_heads": [0, 2, 5, 8]}, "num_attention_heads = 0; expected a whole number"),
        ({"sr_ratios": [8, 4, 2, -1]}, "config value sr_ratios = -1; expected a whole number of at least 1."),
        ({"patch_sizes": [7, 3, 4, 3]}, "patch_sizes = [7, 3, 4, 3]; expected odd kernel sizes."),
        ({"strides": [2, 2, 2, 2]}, "strides = [2, 2, 2, 2]; expected [4, 2, 2, 2], which the decoder"),
        ({"mlp_ratios": [4, 4, 4, 0.001]}, "mlp_ratios = 0.001; expected at least one hidden channel, and"),
        (
            {"mlp_ratios": [4, 4, 4, 1e300]},
            "mlp_ratios = 1e+300; expected at least one hidden channel, and not",
        ),
        ({"depths": [2, 2, 10**9, 2]}, "depths = 1000000000; expected at most 65536."),
        ({"hidden_sizes": [32, 64, 160, 2**40]}, "hidden_sizes = 1099511627776; expected at most 65536."),
        ({"mlp_ratios": [4, 4, 4, float("nan")]}, "mlp_ratios = nan; expected a finite number above 0."),
        ({"num_encoder_blocks": 0}, "num_encoder_blocks = 0; expected a whole number of at least 1."),
        ({"num_encoder_blocks": "4"}, "num_encoder_blocks = '4'; expected a whole number"),
        ({"num_channels": 0}, "num_channels = 0; expected a whole number"),
        ({"decoder_hidden_size": 63}, "decoder_hidden_size = 63; expected an even number."),
        ({"max_depth": 0}, "max_depth = 0; expected a finite number above 0."),
        ({"max_depth": -10}, "max_depth = -10; expected a finite number above 0."),
        ({"max_depth": float("inf")}, "max_depth = inf; expected a finite number above 0."),
        ({"max_depth": 10**400}, "; expected a finite number above 0."),
        ({"max_depth": "10"}, "max_depth = '10'; expected a finite number above 0."),
        ({"drop_path_rate": 1.0}, "drop_path_rate = 1.0; expected a number from 0 up to, not including, 1."),
        ({"hidden_dropout_prob": None}, "hidden_dropout_prob = None; expected a number from 0"),
        ({"hidden_act": "softmax"}, "hidden_act = 'softmax'; expected one of gelu, gelu_10, gelu_accurate"),
        ({"hidden_act": ["gelu"]}, "hidden_act = ['gelu']; expected one of gelu"),
        ({"norm_eps": 1e-6}, "norm_eps = 1e-06; expected one of hf, original."),
        ({"head_in_index": 4}, "head_in_index = 4; expected an index from -4 to 3."),
        ({"head_in_index": "last"}, "head_in_index = 'last'; expected an index from -4 to 3."),
        ({"model_type": "segformer"}, "model_type is 'segformer'; expected 'glpn'; give a GLPN checkpoint"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(values, text):
    with pytest.raises(ConfigError) as refusal:
        GLPNConfig.from_dict(values)
    assert text in str(refusal.value)
    assert isinstance(refusal.value, GlpnError)
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is not readable JSON"),
        (b'{"depths": [2', "is not readable JSON"),
        (b"\xff\xfe\x00", "is not readable JSON"),
        (b"[" * 100_000, "is not readable JSON"),
        (b'{"max_depth": ' + b"1" * 5_000 + b"}", "is not readable JSON"),
        (b"[1, 2]", "the config is a list; expected a JSON object"),
        (b'{"max_depth": null}', "config value max_depth = None"),
        (b'{"max_depth": NaN}', "config value max_depth = nan"),
    ],
)
def test_damaged_files_are_refused_by_name(content, text, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as refusal:
        GLPNConfig.from_json_file(path)
    assert str(path) in str(refusal.value)
    assert text in str(refusal.value)


def test_a_missing_file_is_named(tmp_path):
    with refused(ConfigFileError, got=("there is no file", "config.json"), expected="a GLPN config.json"):
        GLPNConfig.from_json_file(tmp_path / "config.json")
    with refused(ConfigFileError, got="is not readable JSON"):
        GLPNConfig.from_json_file(tmp_path)


def test_networks_that_would_take_minutes_to_make_are_refused():
    per_stage = {
        "sr_ratios": 1,
        "hidden_sizes": 8,
        "patch_sizes": 3,
        "num_attention_heads": 1,
        "mlp_ratios": 1,
    }
    for stages, blocks in ((20_000, 1), (40, 1000), (9, 1), (8, 65), (4, 129)):
        values = {name: (value,) * stages for name, value in per_stage.items()}
        strides = (4, *(2,) * (stages - 1))
        with pytest.raises(ConfigError, match=r"at most (8|512 blocks in all)"):
            GLPNConfig(
                num_encoder_blocks=stages, depths=(blocks,) * stages, strides=strides, **values
            ).validate()
    GLPNConfig(depths=(128,) * 4).validate()
