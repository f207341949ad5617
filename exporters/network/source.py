"""What an export starts from: a checkpoint, or a network in memory."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from torch import nn

from glpn_deploy.checkpoints.files import CheckpointInfo, describe_checkpoint
from glpn_deploy.checkpoints.hub import HubOptions, is_demo, resolve_checkpoint
from glpn_deploy.errors import CheckpointError, InputError
from glpn_deploy.exporters.options import BuildOptions
from glpn_deploy.images.processing import GLPNImageProcessor, load_processor
from glpn_deploy.model.base import config_of
from glpn_deploy.model.config import GLPNConfig
from glpn_deploy.model.modeling import GLPNForDepthEstimation

Source = str | Path | nn.Module


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A network, ready to be exported.

    Attributes:
        model: In eval mode, FP32, on the CPU.
        config: Its configuration.
        processor: What prepares images for it.
        info: Where its weights came from.
    """

    model: nn.Module
    config: GLPNConfig
    processor: GLPNImageProcessor
    info: CheckpointInfo


def from_demo(source: Source) -> bool:
    """Whether a network is, or was made from, the package's own checkpoint."""
    return is_demo(str(_origin(source)) if isinstance(source, nn.Module) else source)


def load_source(source: Source, options: BuildOptions) -> Loaded:
    """Loads a checkpoint, or takes a network as it is.

    A network that was loaded from a checkpoint and changed keeps that one's image processor and licence; its
    digest is that of the tensors it has now.

    Raises:
        CheckpointError: The checkpoint cannot be used.
        ConfigError: The network has no usable configuration.
        InputError: Options that change a checkpoint were given beside a network in memory.
    """
    if isinstance(source, nn.Module):
        return _in_memory(source, options)
    model = GLPNForDepthEstimation.from_pretrained(
        source,
        max_depth=options.max_depth,
        norm_eps=options.norm_eps,
        dtype="float32",
        revision=options.revision,
        offline=options.offline,
    )
    here = HubOptions(options.revision, offline=True)
    path = resolve_checkpoint(source, here)
    info = describe_checkpoint(source, here)
    return Loaded(model, model.config, load_processor(path), info)


def _in_memory(model: nn.Module, options: BuildOptions) -> Loaded:
    given = [name for name in ("max_depth", "norm_eps", "revision") if getattr(options, name) is not None]
    if given:
        raise InputError(
            f"{' and '.join(given)} beside a network in memory, which is exported as it is",
            fix="load it with them, or set them in its config",
        )
    config = config_of(model)
    config.validate()
    model = model.eval().cpu().float()
    info = CheckpointInfo(type(model).__name__, None, _digest(model), None, ())
    origin = _origin(model)
    try:
        here = HubOptions(offline=True)
        path, base = resolve_checkpoint(origin, here), describe_checkpoint(origin, here)
    except CheckpointError:  # made by hand, or its checkpoint is gone
        return Loaded(model, config, GLPNImageProcessor(), info)
    info = dataclasses.replace(
        base, source=f"{base.source}, as {info.source}", digest=info.digest, files=(), revision=base.revision
    )
    return Loaded(model, config, load_processor(path), info)


def _origin(model: nn.Module) -> str:
    """What its configuration says it was loaded from."""
    return str(getattr(getattr(model, "config", None), "name_or_path", "") or "")


def _digest(model: nn.Module) -> str:
    """SHA-256 over the names, shapes and bytes of its tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
