"""Checkpoints as training tools leave them load as the network that they hold, and what changed is said."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from glpn_deploy import GLPNConfig, GLPNForDepthEstimation
from glpn_deploy.checkpoints.wrapping import unwrapped
from glpn_deploy.errors import CheckpointError

SMALL = GLPNConfig(depths=(1, 2, 1, 1), hidden_sizes=(4, 8, 10, 16), decoder_hidden_size=6)


@pytest.fixture(scope="module")
def network() -> GLPNForDepthEstimation:
    torch.manual_seed(0)
    return GLPNForDepthEstimation(SMALL).eval()


class Wrapped(nn.Module):
    """As Lightning modules and training loops hold a network beside what else they train."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.model = network
        self.loss = nn.Linear(2, 1)


def load(state: dict[str, Tensor], folder: Path) -> GLPNForDepthEstimation:
    SMALL.save_pretrained(folder)
    save_file({name: tensor.clone() for name, tensor in state.items()}, folder / "model.safetensors")
    model: GLPNForDepthEstimation = GLPNForDepthEstimation.from_pretrained(folder)
    return model


@pytest.mark.parametrize(
    "how", ["module", "compile", "compiled part", "lightning", "average", "two", "other"]
)
def test_what_tools_wrap_is_unwrapped_and_said(
    how: str, network: GLPNForDepthEstimation, tmp_path: Path
) -> None:
    state = network.state_dict()
    wrapped = {
        "module": lambda: nn.DataParallel(network).state_dict(),
        "compile": lambda: cast(nn.Module, torch.compile(network)).state_dict(),
        "compiled part": lambda: {n.replace("glpn.", "glpn._orig_mod."): t for n, t in state.items()},
        "lightning": lambda: Wrapped(network).state_dict(),
        "average": lambda: torch.optim.swa_utils.AveragedModel(network).state_dict(),
        "two": lambda: nn.DataParallel(Wrapped(network)).state_dict(),
        "other": lambda: {f"depth_net.student.{name}": tensor for name, tensor in state.items()},
    }[how]()
    assert wrapped.keys() != state.keys()
    with pytest.warns(UserWarning, match="without") as told:
        loaded = load(wrapped, tmp_path)
    assert len(told) == 1
    assert ("left out" in str(told[0].message)) == (how in {"lightning", "average", "two"})
    for name, tensor in loaded.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=0, atol=0)


def test_counters_change_nothing(network: GLPNForDepthEstimation, tmp_path: Path) -> None:
    state = network.state_dict()
    halved = {name: tensor.half() for name, tensor in state.items()}
    profiled = halved | {"total_ops": torch.zeros(1), "head.total_params": torch.zeros(1)}
    assert any(name.endswith("num_batches_tracked") for name in halved)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load(profiled, tmp_path)
    for name, tensor in loaded.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(tensor.float(), halved[name].float(), rtol=0, atol=0)


def test_another_network_with_such_an_encoder_stays_another(
    network: GLPNForDepthEstimation, tmp_path: Path
) -> None:
    encoder = {n.replace("glpn.", "segformer."): t for n, t in network.state_dict().items() if "glpn." in n}
    state = encoder | {"decode_head.classifier.weight": torch.zeros(1)}
    assert unwrapped(state).keys() == state.keys()
    with pytest.raises(CheckpointError):
        load(state, tmp_path)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model."])
def test_a_state_dict_as_an_argument_is_unwrapped_too(prefix, tiny_model):
    wrapped = {f"{prefix}{name}": tensor for name, tensor in tiny_model.state_dict().items()}
    with pytest.warns(UserWarning, match="are read without"):
        model = GLPNForDepthEstimation.from_pretrained(None, config=tiny_model.config, state_dict=wrapped)
    for name, tensor in tiny_model.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_whole_numbers_in_place_of_weights_are_refused(
    network: GLPNForDepthEstimation, tmp_path: Path
) -> None:
    name = "head.head.0.weight"
    state = network.state_dict()
    with pytest.raises(CheckpointError) as caught:
        load(state | {name: state[name].long()}, tmp_path)
    assert f"{name} holds torch.int64" in caught.value.got
    assert "torch.float32" in caught.value.expected
