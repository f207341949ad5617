"""Loading a checkpoint strictly into a network, and saving one in HF's format: what both models share."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from glpn_deploy.atomic import atomic_path
from glpn_deploy.checkpoints.files import CONFIG_NAME, WEIGHTS_NAME, load_state_dict
from glpn_deploy.checkpoints.fit import fit
from glpn_deploy.checkpoints.hub import cached_as, local_path, resolve_checkpoint
from glpn_deploy.checkpoints.original import infer_config
from glpn_deploy.errors import CheckpointError, ConfigError, InputError
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.model.config import GLPNConfig, NormEps
from glpn_deploy.optional import needs

_Model = TypeVar("_Model", bound="PreTrained")


class ScaleWarning(UserWarning):
    """A checkpoint whose depth is probably not in metres."""


class PreTrained(nn.Module):
    """Loading, saving and initialisation shared by both models.

    Attributes:
        architecture: HF's name of the class, as ``config.json`` has it.
        encoder_only: Whether it takes the encoder's tensors alone.
    """

    architecture: ClassVar[str]
    encoder_only: ClassVar[bool] = False

    def __init__(self, config: GLPNConfig) -> None:
        super().__init__()
        self.config = config

    def _initialise(self) -> None:
        """HF's initialisation: normal weights, zero biases, unit norms."""
        for module in self.modules():
            # On "meta", where a checkpoint is loaded, drawing numbers does nothing but takes a second.
            if isinstance(module, (nn.Linear, nn.Conv2d)) and not module.weight.is_meta:
                nn.init.normal_(module.weight, std=self.config.initializer_range)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def _check_size(self, pixel_values: Tensor) -> None:
        config, multiple = self.config, self.config.size_multiple
        if pixel_values.ndim != 4 or pixel_values.shape[1] != config.num_channels:
            raise InputError(
                f"pixel_values of shape {tuple(pixel_values.shape)}",
                expected=f"(batch, {config.num_channels}, height, width)",
            )
        for name, size in zip(("height", "width"), pixel_values.shape[2:], strict=True):
            side = -(-int(size) // 4)
            if side == 0 or side % (multiple // 4):
                lower = max(multiple, int(size) // multiple * multiple)
                raise InputError(
                    f"an input {name} of {int(size)} px",
                    expected=f"a multiple of {multiple} px",
                    fix=f"resize it to {lower} px, as GLPNImageProcessor does",
                )

    @classmethod
    def from_pretrained(
        cls: type[_Model],
        source: str | Path,
        *,
        max_depth: float | None = None,
        norm_eps: NormEps | None = None,
        revision: str | None = None,
        offline: bool = False,
        cache_dir: str | Path | None = None,
        config: GLPNConfig | None = None,
    ) -> _Model:
        """Loads a checkpoint strictly: every tensor there, none left over, every shape right, all finite.

        Args:
            source: Checkpoint folder or file, or a hub id (``owner/name``).
            max_depth: Depth in metres at the sigmoid's 1, instead of the config's; the authors'
                ``.ckpt`` files do not say it and need it.
            norm_eps: ``hf`` or ``original``, instead of the config's.
            revision: Branch, tag or commit of a hub id.
            offline: Take a hub id from the cache only.
            cache_dir: Where hub files are cached, instead of the hub's own place.
            config: Used instead of the checkpoint's own configuration.

        Returns:
            The model in eval mode, float32, on the CPU. `GLPNModel` takes the encoder of any GLPN checkpoint.

        Raises:
            CheckpointError: The checkpoint is missing, damaged or not this network's.
            ConfigError: Its configuration, or an override, is unusable.
            MissingDependencyError: safetensors or huggingface-hub is needed and not installed.

        Warns:
            ScaleWarning: A KITTI checkpoint that says 10 m.
        """
        path = resolve_checkpoint(source, revision=revision, offline=offline, cache_dir=cache_dir)
        found = _config_beside(path) if config is None else None
        tensors = load_state_dict(path)
        if found is not None:
            config = found
            if max_depth is None and not cls.encoder_only:
                _warn_of_scale(source, path, config)
        elif config is None:
            if max_depth is None and not cls.encoder_only:
                raise CheckpointError(
                    f"{path} does not say its depth range",
                    expected="max_depth in metres",
                    fix="pass 10 for NYU or 80 for KITTI (--max-depth 10)",
                )
            config = _config_of_shapes(tensors, 10.0 if max_depth is None else max_depth)
        if max_depth is not None:
            config = config.replace(max_depth=max_depth)
        if norm_eps is not None:
            config = config.replace(norm_eps=norm_eps)

        # Built without memory and filled with the tensors as read: no time goes into random weights.
        with torch.device("meta"):
            model = cls(config)
        if cls.encoder_only:
            tensors = _encoder_part(tensors)
        fitted = fit(tensors, model.state_dict(), path)
        model.load_state_dict(fitted, strict=True, assign=True)
        return model.eval()

    def save_pretrained(self, folder: str | Path, processor: GLPNImageProcessor | None = None) -> None:
        """Writes ``config.json``, ``model.safetensors`` and ``preprocessor_config.json`` as HF does.

        Args:
            folder: Made where missing; each file is replaced as a whole.
            processor: The preprocessing that belongs to the weights; GLPN's own by default.

        Raises:
            WriteError: The folder or a file cannot be written.
            MissingDependencyError: safetensors is not installed.
        """
        with needs("writing a checkpoint", "export"):
            from safetensors.torch import save
        folder = Path(folder)
        (processor or GLPNImageProcessor()).save_pretrained(folder)
        values = self.config.to_dict() | {"architectures": [type(self).architecture]}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        content = save(tensors, metadata={"format": "pt"})  # save_file makes a file only its owner can read
        with atomic_path(folder / WEIGHTS_NAME) as temporary:
            temporary.write_bytes(content)
        with atomic_path(folder / CONFIG_NAME) as temporary:
            temporary.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _config_beside(path: Path) -> GLPNConfig | None:
    """The config of a folder, or beside a file; None for a lone file, whose shapes must tell."""
    file = (path if path.is_dir() else path.parent) / CONFIG_NAME
    if file.is_file() and path.suffix != ".ckpt":
        return GLPNConfig.from_json_file(file)
    if not path.is_dir():
        return None
    raise CheckpointError(
        f"the folder {path} has no {CONFIG_NAME}",
        expected="a Hugging Face checkpoint folder",
        fix="add the config.json of the model, or give the weights file itself with max_depth",
    )


def _warn_of_scale(source: str | Path, path: Path, config: GLPNConfig) -> None:
    """HF's conversion gave max_depth 10 to the KITTI weights too, which were trained at 80 m."""
    names = ["" if local_path(source) else str(source), path.name, path.resolve().name]
    if path.is_file():
        names.append(path.resolve().parent.name)
    names += cached_as(path) or ()
    file = (path if path.is_dir() else path.parent) / CONFIG_NAME
    if file.is_file():
        names.append(str(json.loads(file.read_text(encoding="utf-8")).get("_name_or_path")))
    if config.max_depth == 10 and any("kitti" in name.lower() for name in names):
        warnings.warn(
            f"{source} seems to be trained on KITTI but says max_depth 10, so its depth probably reads "
            "8x too small; if it is the authors' model, pass max_depth=80 (--max-depth 80).",
            ScaleWarning,
            stacklevel=3,
        )


def _encoder_part(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors of a depth network, or of an encoder saved alone."""
    prefix = "glpn."
    part = {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return part or dict(tensors)


def _config_of_shapes(tensors: Mapping[str, Tensor], max_depth: float) -> GLPNConfig:
    try:
        return GLPNConfig(**infer_config(tensors), max_depth=max_depth)
    except ConfigError as error:
        raise CheckpointError(
            f"the checkpoint's shapes give a network that GLPN is not ({error.got})",
            expected=error.expected,
            fix="pass the configuration it was trained with",
        ) from None
