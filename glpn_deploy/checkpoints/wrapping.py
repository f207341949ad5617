"""Tensor names as training tools leave them: wrapped by DataParallel, torch.compile, Lightning ..."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping

from torch import Tensor

from glpn_deploy.checkpoints.original import is_original

# Put between a module's name and its parameters' by torch.compile, FSDP and activation checkpointing.
_WRAPPERS = re.compile(r"(?:(?<=\.)|^)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# The first tensor of the encoder, which every GLPN checkpoint has: HF's name, and the authors' for it.
_FIRST = re.compile(
    r"(?P<prefix>.*?)(?P<own>glpn\.encoder\.patch_embeddings\.0|encoder\.patch_embed1"
    r"|encoder\.patch_embeddings\.0|patch_embed1)\.proj\.weight"
)
_COUNTED = (".total_ops", ".total_params")  # thop's counters, left in the modules it profiled


def unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's tensors under its own names: without wrappers' names and without a common prefix.

    Beside a prefix, tensors without it (a loss's, an average's counter) are none of the network's.

    Warns:
        UserWarning: Names were changed, or tensors left out; says which. Not where it is ``module.`` in a
            file of the authors', whose own checkpoints come so.
    """
    plain = {
        _WRAPPERS.sub("", name): tensor
        for name, tensor in tensors.items()
        if not f".{name}".endswith(_COUNTED)
    }
    prefix = _common_prefix(plain)
    inside = {name[len(prefix) :]: tensor for name, tensor in plain.items() if name.startswith(prefix)}
    wrappers = sorted({found for name in tensors for found in _WRAPPERS.findall(name)})
    stripped = [*wrappers, *([prefix] if prefix else [])]
    outside = [name for name in plain if not name.startswith(prefix)]
    as_published = stripped == ["module."] and not outside and is_original(inside)
    if stripped and not as_published:
        left = f"; {len(outside)} outside it left out ({', '.join(outside[:3])})" if outside else ""
        warnings.warn(
            f"The checkpoint's tensors are read without {' and '.join(map(repr, stripped))} in their "
            f"names, which training tools put there{left}.",
            stacklevel=2,
        )
    return inside


def _common_prefix(tensors: Mapping[str, Tensor]) -> str:
    """What stands before the names of the network's tensors; of several networks (EMA) the first's."""
    for name in tensors:
        found = _FIRST.fullmatch(name)
        if found is None:
            continue
        prefix = found["prefix"]
        # Other networks have an encoder of this kind too (SegFormer): with a head of their own, they stay.
        surely = found["own"].startswith("glpn.") or all(other.startswith(prefix) for other in tensors)
        decoded = any(other.startswith((f"{prefix}decoder.", f"{prefix}last_layer")) for other in tensors)
        return prefix if surely or decoded else ""
    return ""
