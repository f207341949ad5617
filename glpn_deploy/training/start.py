"""What training starts from: fresh weights, a GLPN checkpoint, or an ImageNet encoder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glpn_deploy.checkpoints.files import CONFIG_NAME, load_state_dict
from glpn_deploy.checkpoints.fit import fit
from glpn_deploy.checkpoints.hub import HubOptions, resolve_checkpoint
from glpn_deploy.errors import CheckpointError, ConfigError, InputError
from glpn_deploy.model.config import GLPNConfig
from glpn_deploy.model.modeling import GLPNForDepthEstimation
from glpn_deploy.model.settings.checks import PER_STAGE
from glpn_deploy.reading import read_json
from glpn_deploy.training.options import TrainOptions

_MIT_DEPTHS = {
    "mit-b0": (2, 2, 2, 2),
    "mit-b1": (2, 2, 2, 2),
    "mit-b2": (3, 4, 6, 3),
    "mit-b3": (3, 4, 18, 3),
    "mit-b4": (3, 8, 27, 3),
    "mit-b5": (3, 6, 40, 3),
}
_B0_SIZES, _SIZES = (32, 64, 160, 256), (64, 128, 320, 512)
_DEMO = GLPNConfig(
    depths=(2, 2, 2, 2), hidden_sizes=(32, 48, 120, 176), decoder_hidden_size=32, drop_path_rate=0.0
)
_ENCODER_KEYS = (*PER_STAGE, "num_channels", "num_encoder_blocks", "hidden_act", "drop_path_rate")
_ENCODER = re.compile(r"^(?:segformer\.)?encoder\.")


def preset(name: str) -> GLPNConfig:
    """The configuration called ``demo`` or ``mit-b0`` … ``mit-b5``, or that of a ``config.json``."""
    if name == "demo":
        return _DEMO
    if name in _MIT_DEPTHS:
        return GLPNConfig(depths=_MIT_DEPTHS[name], hidden_sizes=_B0_SIZES if name == "mit-b0" else _SIZES)
    if not Path(name).is_file():
        raise ConfigError(
            f"there is no configuration {name!r}",
            expected=f"demo, {', '.join(_MIT_DEPTHS)} or a config.json",
        )
    config: GLPNConfig = GLPNConfig.from_json_file(name)
    return config


def starting_model(options: TrainOptions, max_depth: float) -> GLPNForDepthEstimation:
    """The network that training starts from, in train mode, float32, on the CPU.

    Of a MiT or SegFormer checkpoint the encoder is taken, and the decoder is drawn anew.
    """
    changes: dict[str, Any] = {"max_depth": max_depth}
    if options.drop_path is not None:
        changes["drop_path_rate"] = options.drop_path
    torch.manual_seed(options.seed)
    if options.start == "scratch":
        return GLPNForDepthEstimation(preset(options.config).replace(**changes)).train()
    path = resolve_checkpoint(options.start, HubOptions(options.revision, options.offline))
    values = _config_values(path)
    if values.get("model_type") == "segformer":
        return _from_encoder(path, values, changes).train()
    model: GLPNForDepthEstimation = GLPNForDepthEstimation.from_pretrained(
        path, max_depth=max_depth, dtype="float32"
    )
    if options.drop_path is not None:
        rebuilt = GLPNForDepthEstimation(model.config.replace(**changes))
        rebuilt.load_state_dict(model.state_dict())
        model = rebuilt
    return model.requires_grad_(True).train()


def _config_values(path: Path) -> dict[str, Any]:
    file = (path if path.is_dir() else path.parent) / CONFIG_NAME
    if not file.is_file():
        return {}
    try:
        values = read_json(file)
    except (OSError, ValueError):
        return {}  # from_pretrained says what is wrong with it
    return values if isinstance(values, dict) else {}


def _from_encoder(path: Path, values: Mapping[str, Any], changes: dict[str, Any]) -> GLPNForDepthEstimation:
    """A network with the encoder of a SegFormer checkpoint; its classifier or decoder is left out."""
    config = GLPNConfig(**{name: values[name] for name in _ENCODER_KEYS if name in values})
    model = GLPNForDepthEstimation(config.replace(**changes))
    tensors: dict[str, Tensor] = {
        _ENCODER.sub("encoder.", name): tensor
        for name, tensor in load_state_dict(path).items()
        if _ENCODER.match(name)
    }
    if not tensors:
        raise CheckpointError(
            f"{path} holds no tensor under segformer.encoder",
            expected="a SegFormer or MiT checkpoint in HF's format, such as nvidia/mit-b4",
        )
    model.glpn.load_state_dict(fit(tensors, model.glpn.state_dict(), path).tensors)
    return model


def check_crop(model: GLPNForDepthEstimation, size: tuple[int, int]) -> None:
    """Refuses a crop (height, width) [px] that the network cannot run."""
    multiple = model.config.size_multiple
    if any(side % multiple for side in size):
        raise InputError(
            f"a crop of {size[0]}x{size[1]} px (height x width)", expected=f"multiples of {multiple} px"
        )
