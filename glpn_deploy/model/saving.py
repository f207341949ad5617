"""Writing a model as transformers does: weights whole or in shards, config.json, preprocessing."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glpn_deploy.atomic import atomic_path
from glpn_deploy.checkpoints.files import WEIGHT_FILES, WEIGHTS_NAME, weights_name
from glpn_deploy.checkpoints.settings import write_settings
from glpn_deploy.optional import needs

_SHARD = re.compile(r"-\d{5}-of-\d{5}\.\w+")


def write_weights(
    folder: Path,
    tensors: Mapping[str, Tensor],
    *,
    safe: bool = True,
    max_shard_size: int | str | None = None,
    variant: str | None = None,
) -> None:
    """Writes weights into a folder that is there, and removes what would be read in their place.

    Args:
        tensors: The state dict; from any device, contiguous or not.
        safe: As safetensors; else by ``torch.save``.
        max_shard_size: Bytes, or as ``5GB``, beyond which there are several files and an index; None is one.
        variant: As in ``model.fp16.safetensors``.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    name = weights_name(WEIGHTS_NAME if safe else "pytorch_model.bin", variant)
    parts, index = ({name: tensors}, None)
    if max_shard_size is not None:
        parts, index = _shards(name, tensors, max_shard_size)
    for file, part in parts.items():
        with atomic_path(folder / file) as temporary:
            temporary.write_bytes(_bytes(part, safe))
    written = set(parts)
    if index is not None:
        file = weights_name(f"{WEIGHTS_NAME if safe else 'pytorch_model.bin'}.index.json", variant)
        write_settings(folder / file, json.dumps(index, indent=2, sort_keys=True) + "\n")
        written.add(file)
    _remove_stale(folder, name, written, variant)


def _bytes(tensors: Mapping[str, Tensor], safe: bool) -> bytes:
    """The content of a weights file; safetensors' save_file makes one that only its owner can read."""
    if not safe:
        stream = io.BytesIO()
        torch.save(dict(tensors), stream)
        return stream.getvalue()
    with needs("writing a checkpoint", "export"):
        from safetensors.torch import save
    return save(dict(tensors), metadata={"format": "pt"})


def _shards(
    name: str, tensors: Mapping[str, Tensor], size: int | str
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any] | None]:
    with needs("writing weights in shards", "export"):
        from huggingface_hub import split_torch_state_dict_into_shards
    start, end = name.rsplit(".", 1)
    split = split_torch_state_dict_into_shards(
        dict(tensors), filename_pattern=f"{start}{{suffix}}.{end}", max_shard_size=size
    )
    parts = {file: {n: tensors[n] for n in names} for file, names in split.filename_to_tensors.items()}
    if not split.is_sharded:
        return parts, None
    return parts, {"metadata": split.metadata, "weight_map": split.tensor_to_filename}


def _remove_stale(folder: Path, name: str, written: set[str], variant: str | None) -> None:
    """Removes weights that loading would take before the written ones, and shards of an earlier time."""
    order = [weights_name(file, variant) for file in WEIGHT_FILES]
    first = min(order.index(file) for file in written if file in order)
    stale = {folder / file for file in order[:first]}
    stale |= {folder / file for file in order if file.startswith(f"{name.split('.')[0]}.")}
    start, end = name.rsplit(".", 1)
    stale |= {path for path in folder.glob(f"{start}-*.{end}") if _SHARD.fullmatch(path.name[len(start) :])}
    for path in stale:
        if path.name not in written:
            path.unlink(missing_ok=True)
