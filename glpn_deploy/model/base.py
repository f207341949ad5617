"""What both models share apart from files: configuration, initialisation, checks, HF's attributes."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from glpn_deploy.errors import ConfigError, InputError
from glpn_deploy.model.config import GLPNConfig

_Network = TypeVar("_Network", bound="Network")


class Network(nn.Module):
    """A network with its configuration, under transformers' names.

    Attributes:
        architecture: HF's name of the class, as ``config.json`` has it.
        encoder_only: Whether it takes the encoder's tensors alone.
        config: What the network was made from; its output flags, ``max_depth`` and ``head_in_index`` are
            read at every call, as in HF.
    """

    architecture: ClassVar[str]
    encoder_only: ClassVar[bool] = False
    config_class: ClassVar[type[GLPNConfig]] = GLPNConfig
    base_model_prefix: ClassVar[str] = "glpn"
    main_input_name: ClassVar[str] = "pixel_values"
    framework: ClassVar[str] = "pt"
    supports_gradient_checkpointing: ClassVar[bool] = False

    def __init__(self, config: GLPNConfig) -> None:
        super().__init__()
        config = as_config(config)
        config.validate()
        self.config = config

    def _initialise(self) -> None:
        """HF's initialisation: normal weights, zero biases, unit norms."""
        for module in self.modules():
            # On "meta", where a checkpoint is loaded, drawing numbers does nothing but takes a second.
            if isinstance(module, (nn.Linear, nn.Conv2d)) and not module.weight.is_meta:
                nn.init.normal_(module.weight, std=self.config.initializer_range)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def _check_shape(self, pixel_values: Tensor) -> None:
        """Refuses what is no batch of images, or too small to leave every stage a grid of keys."""
        config = self.config
        if pixel_values.ndim != 4 or pixel_values.shape[1] != config.num_channels:
            raise InputError(
                f"pixel_values of shape {tuple(pixel_values.shape)}",
                expected=f"(batch, {config.num_channels}, height, width)",
            )
        if _traced():
            return  # the graph is for other sizes, too
        for name, size in zip(("height", "width"), pixel_values.shape[2:], strict=True):
            grid = size
            for stride, reduction in zip(config.strides, config.sr_ratios, strict=True):
                grid = (grid + stride - 1) // stride
                if grid < reduction:
                    raise InputError(
                        f"an input {name} of {int(size)} px",
                        expected="a larger one",
                        fix=f"resize it to {config.size_multiple} px, as GLPNImageProcessor does",
                    )

    def _check_size(self, pixel_values: Tensor) -> None:
        """Refuses sides that the decoder's doublings do not meet again."""
        multiple = self.config.size_multiple
        self._check_shape(pixel_values)
        if _traced():
            return
        for name, size in zip(("height", "width"), pixel_values.shape[2:], strict=True):
            if (size + 3) // 4 % (multiple // 4):
                lower = max(multiple, int(size) // multiple * multiple)
                raise InputError(
                    f"an input {name} of {int(size)} px",
                    expected=f"a multiple of {multiple} px",
                    fix=f"resize it to {lower} px, as GLPNImageProcessor does",
                )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return next(p.dtype for p in self.parameters() if p.is_floating_point())

    @property
    def name_or_path(self) -> str:
        """What the model was loaded from."""
        return self.config.name_or_path

    @property
    def base_model(self) -> nn.Module:
        """The encoder, a `GLPNModel`."""
        base: nn.Module = getattr(self, self.base_model_prefix, self)
        return base

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """The number of parameters; GLPN has no embeddings to exclude."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad or not only_trainable)

    def get_memory_footprint(self, return_buffers: bool = True) -> int:
        """Bytes of the parameters and, if asked, the buffers."""
        held = [*self.parameters(), *(self.buffers() if return_buffers else ())]
        return sum(tensor.nelement() * tensor.element_size() for tensor in held)

    @classmethod
    def _from_config(cls: type[_Network], config: GLPNConfig) -> _Network:
        """A network of a configuration with random weights, as transformers' own code makes one."""
        return cls(config)

    @classmethod
    def can_generate(cls) -> bool:
        """No: there is no text."""
        return False


def config_of(network: nn.Module) -> GLPNConfig:
    """A network's configuration: what its input and output are is read there."""
    config = getattr(network, "config", None)
    if config is None:
        raise ConfigError(
            f"the network, a {type(network).__name__}, has no config",
            expected="a GLPNConfig, whose max_depth, num_channels and size_multiple say what goes in and out",
            fix="set network.config = GLPNConfig(max_depth=10)",
        )
    return as_config(config)


def as_config(config: Any) -> GLPNConfig:
    """A configuration of this package, from that of transformers or as it is."""
    if isinstance(config, GLPNConfig):
        return config
    if not hasattr(config, "to_dict"):
        raise ConfigError(f"the configuration is a {type(config).__name__}", expected="a GLPNConfig")
    return GLPNConfig.from_dict(config.to_dict())  # type: ignore[no-any-return]


def _traced() -> bool:
    return torch.compiler.is_exporting() or bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]
