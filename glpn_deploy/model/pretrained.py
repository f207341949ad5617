"""Loading a checkpoint strictly into a network, and saving one in HF's format: what both models share."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from glpn_deploy.checkpoints.files import CONFIG_NAME, as_hf, load_state_dict
from glpn_deploy.checkpoints.fit import fit
from glpn_deploy.checkpoints.hub import cached_as, hub_options, local_path, resolve_checkpoint
from glpn_deploy.checkpoints.original import infer_config
from glpn_deploy.checkpoints.settings import write_settings
from glpn_deploy.checkpoints.upload import push_folder
from glpn_deploy.errors import CheckpointError, ConfigError, InputError
from glpn_deploy.images.processing import CONFIG_NAME as PROCESSOR_NAME
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.model.base import Network, as_config
from glpn_deploy.model.config import GLPNConfig
from glpn_deploy.model.placement import one_device, one_thread, weights_dtype
from glpn_deploy.model.saving import write_weights
from glpn_deploy.reading import read_json

_Model = TypeVar("_Model", bound="PreTrained")

_WITHOUT_EFFECT = {  # of HF's keywords: nothing would change
    "low_cpu_mem_usage",  # always so here
    "trust_remote_code",  # never needed: nothing of a checkpoint is run
    "weights_only",
}


class ScaleWarning(UserWarning):
    """A checkpoint whose depth is probably not in metres."""


class PreTrained(Network):
    """Loading and saving, shared by both models, under transformers' names."""

    @classmethod
    @one_thread()
    def from_pretrained(
        cls: type[_Model],
        pretrained_model_name_or_path: str | Path | None,
        *,
        max_depth: float | None = None,
        norm_eps: str | None = None,
        config: GLPNConfig | str | Path | None = None,
        state_dict: Mapping[str, Tensor] | None = None,
        strict: bool = True,
        ignore_mismatched_sizes: bool = False,
        dtype: str | torch.dtype | None = None,
        torch_dtype: str | torch.dtype | None = None,
        device_map: Any = None,
        variant: str | None = None,
        use_safetensors: bool | None = None,
        output_loading_info: bool = False,
        **keywords: Any,
    ) -> Any:
        """Loads a checkpoint strictly: every tensor there, none left over, every shape right, all finite.

        Args:
            pretrained_model_name_or_path: Checkpoint folder or file, a hub id (``owner/name``), or None
                with ``config`` and ``state_dict``.
            max_depth: Depth in metres at the sigmoid's 1, instead of the config's; the authors'
                ``.ckpt`` files do not say it and need it.
            norm_eps: ``hf`` or ``original``, instead of the config's.
            config: Used instead of the checkpoint's own configuration, or where that is.
            state_dict: Used instead of the checkpoint's weights; prefixes of training tools are left out.
            strict: False fills what is missing with random numbers and leaves out what is unknown, with a
                warning, which transformers does unasked.
            ignore_mismatched_sizes: Fill tensors of another shape with random numbers, with a warning.
            dtype: Of the weights; None and ``auto`` are what the config or the weights say, as in
                transformers 5 (float32 for nearly all checkpoints).
            torch_dtype: The old name of ``dtype``.
            device_map: ``cpu``, ``cuda``, ``auto`` (CUDA where it is) or another single device.
            variant: As ``fp16`` in ``model.fp16.safetensors``.
            use_safetensors: Whether the weights have to be safetensors (True) or a pickle of tensors (False).
            output_loading_info: Also give what was missing, unknown and of another shape.
            **keywords: Of the hub as HF has them (``revision``, ``cache_dir``, ``local_files_only`` or
                ``offline``, ``token``, ``force_download``, ``subfolder``), values of the configuration, and
                ``attn_implementation="eager"``.

        Returns:
            The model in eval mode. `GLPNModel` takes the encoder of any GLPN checkpoint.

        Raises:
            CheckpointError: The checkpoint is missing, damaged or not this network's.
            ConfigError: Its configuration, or an override, is unusable.
            InputError: A keyword that cannot be honoured.
            MissingDependencyError: safetensors or huggingface-hub is needed and not installed.

        Warns:
            ScaleWarning: A KITTI checkpoint that says 10 m.
            UserWarning: Random numbers took the place of weights, because that was asked for.
        """
        hub, overrides = hub_options({k: v for k, v in keywords.items() if k not in _WITHOUT_EFFECT})
        overrides |= {k: v for k, v in (("max_depth", max_depth), ("norm_eps", norm_eps)) if v is not None}
        if isinstance(config, (str, Path)):
            config = GLPNConfig.from_pretrained(config)
        source, path = pretrained_model_name_or_path, None
        found = None
        if source is not None:
            path = resolve_checkpoint(source, hub, safetensors=use_safetensors)
            found = _config_beside(path) if config is None else None
        tensors = as_hf(state_dict or {})
        if state_dict is None:
            if path is None:
                raise InputError("neither a checkpoint nor a state_dict", expected="one of them")
            tensors = load_state_dict(path, variant=variant, safetensors=use_safetensors)
        if found is not None and source is not None and path is not None:
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
        config = _overridden(as_config(config), overrides)
        config.name_or_path = "" if source is None else str(source)
        tensors = _encoder_part(tensors) if cls.encoder_only else _prefixed(tensors)
        config.dtype = weights_dtype(torch_dtype if dtype is None else dtype, config, tensors)
        device = one_device(device_map)

        # Built without memory and filled with the tensors as read: no time goes into random weights.
        with torch.device("meta"):
            model = cls(config).to(config.dtype)
        fitted = fit(tensors, model.state_dict(), path, strict=strict, other_shapes=ignore_mismatched_sizes)
        if fitted.missing or fitted.misshapen:
            model = cls(config).to(config.dtype)
        if str(fitted):
            warnings.warn(f"{source} was not loaded as it is: {fitted}.", stacklevel=2)
        model.load_state_dict(fitted.tensors, strict=False, assign=True)
        model = model.to(device).eval()
        return (model, fitted.to_dict()) if output_loading_info else model

    def save_pretrained(
        self,
        save_directory: str | Path,
        processor: GLPNImageProcessor | None = None,
        *,
        state_dict: Mapping[str, Tensor] | None = None,
        safe_serialization: bool = True,
        max_shard_size: int | str | None = None,
        variant: str | None = None,
        is_main_process: bool = True,
        push_to_hub: bool = False,
        **hub: Any,
    ) -> None:
        """Writes ``config.json``, ``model.safetensors`` and ``preprocessor_config.json`` as HF does.

        Args:
            save_directory: Made where missing; each file is replaced as a whole.
            processor: The preprocessing that belongs to the weights. Without, what stands in the folder
                stays, and a folder that has none gets GLPN's own.
            state_dict: Written instead of the model's.
            safe_serialization: False writes ``pytorch_model.bin`` by ``torch.save``.
            max_shard_size: Bytes, or as ``5GB``, beyond which there are several files and an index.
            variant: As in ``model.fp16.safetensors``.
            is_main_process: False writes nothing: another process does.
            push_to_hub: Also upload them, to ``repo_id`` or the repository of the folder's name.
            **hub: Of `push_to_hub`.

        Raises:
            ConfigError: The configuration was changed to what no network has.
            WriteError: The folder or a file cannot be written.
            MissingDependencyError: safetensors is not installed.
        """
        if not is_main_process:
            return
        self.config.validate()
        folder = Path(save_directory)
        if processor is not None or not (folder / PROCESSOR_NAME).is_file():
            (processor or GLPNImageProcessor()).save_pretrained(folder)
        write_weights(
            folder,
            self.state_dict() if state_dict is None else state_dict,
            safe=safe_serialization,
            max_shard_size=max_shard_size,
            variant=variant,
        )
        saved = self.config.replace(architectures=[self.architecture], dtype=self.dtype)
        write_settings(folder / CONFIG_NAME, saved.to_json_string())
        if push_to_hub:
            self.push_to_hub(hub.pop("repo_id", folder.name), **hub)

    def push_to_hub(self, repo_id: str, **hub: Any) -> Any:
        """Uploads what `save_pretrained` writes; the keywords are `checkpoints.upload.push_folder`'s."""
        return push_folder(self.save_pretrained, repo_id, **hub)


def _overridden(config: GLPNConfig, overrides: dict[str, Any]) -> GLPNConfig:
    """A copy with some values of its own changed; other names are keywords that nobody knows."""
    implementation = overrides.pop("attn_implementation", config.attn_implementation)
    unknown = [name for name in overrides if not hasattr(config, name)]
    if unknown:
        raise InputError(
            f"from_pretrained was given {', '.join(unknown)}",
            expected="its own keywords, or values of the configuration",
            fix="leave it out: it cannot be honoured",
        )
    changed = config.replace(**overrides)
    changed._attn_implementation = implementation
    changed.validate()
    return changed


def _config_beside(path: Path) -> GLPNConfig | None:
    """The config of a folder, or beside a file; None for a lone file, whose shapes must tell."""
    file = (path if path.is_dir() else path.parent) / CONFIG_NAME
    if file.is_file() and path.suffix != ".ckpt":
        return GLPNConfig.from_json_file(file)  # type: ignore[no-any-return]
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
        names.append(str(read_json(file).get("_name_or_path")))
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


def _prefixed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A depth network's tensors; those of an encoder saved alone get the name they have in one."""
    alone = not any(name.startswith("glpn.") for name in tensors)
    return {f"glpn.{n}" if alone and n.startswith("encoder.") else n: t for n, t in tensors.items()}


def _config_of_shapes(tensors: Mapping[str, Tensor], max_depth: float) -> GLPNConfig:
    try:
        return GLPNConfig(**infer_config(tensors)).replace(max_depth=max_depth)
    except ConfigError as error:
        raise CheckpointError(
            f"the checkpoint's shapes give a network that GLPN is not ({error.got})",
            expected=error.expected,
            fix="pass the configuration it was trained with",
        ) from None
