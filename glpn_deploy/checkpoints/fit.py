"""The strict check of a checkpoint's tensors against the model they are meant for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from glpn_deploy.checkpoints.original import ENCODER_ONLY
from glpn_deploy.errors import CheckpointError


def fit(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Checks tensors against a model's names and shapes and gives them in its dtypes.

    Args:
        tensors: What was read; half and double precision are converted.
        wanted: The model's state dict, whose values may be without memory ("meta").
        path: Where they came from, for the message.

    Raises:
        CheckpointError: Tensors are missing, left over, of another shape or kind, or not finite.
    """
    tensors = dict(tensors)
    for name in wanted:
        # Batch counters came with torch 0.4.1 and do not touch the result; older files lack them.
        sibling = name.replace("num_batches_tracked", "running_mean")
        if sibling != name and sibling in tensors and name not in tensors:
            tensors[name] = torch.tensor(0)
    missing = [name for name in wanted if name not in tensors]
    extra = [name for name in tensors if name not in wanted]
    both = [name for name in wanted if name in tensors]
    shapes = [
        f"{name} is {_shape(tensors[name])}, not {_shape(wanted[name])}"
        for name in both
        if tensors[name].shape != wanted[name].shape
    ]
    if missing or extra or shapes:
        problems = [
            _some(missing, "missing"),
            _some(extra, "unknown"),
            _some(shapes, "of another shape"),
        ]
        raise CheckpointError(
            f"{path} does not fit the model: " + ", ".join(problem for problem in problems if problem),
            expected=f"exactly the {len(wanted)} tensors of the configured GLPN",
            fix=_hint(tensors, missing, shapes),
        )
    fitted: dict[str, Tensor] = {}
    for name in both:
        tensor, dtype = tensors[name], wanted[name].dtype
        if tensor.is_floating_point() != dtype.is_floating_point:
            raise CheckpointError(f"{path}: {name} holds {tensor.dtype}", expected=f"{dtype} or alike")
        fitted[name] = tensor.to(dtype).contiguous()
    broken = [name for name in both if not torch.isfinite(fitted[name]).all()]
    if broken:
        raise CheckpointError(
            f"{path} holds NaN or infinity in {_some(broken, 'tensors')}",
            expected="finite weights",
            fix="the training diverged or the file is damaged: use another checkpoint",
        )
    return fitted


def _hint(tensors: Mapping[str, Tensor], missing: list[str], shapes: list[str]) -> str:
    known = [name for name in tensors if name.startswith(("glpn.", "encoder.", "decoder.", "head."))]
    encoder_only = known and not any(name.startswith(("decoder.", "head.head.")) for name in known)
    if encoder_only and any(name.startswith("decoder.") for name in missing):
        return ENCODER_ONLY
    if not known:
        return "it is not a GLPN checkpoint; give one such as vinvino02/glpn-nyu"
    if shapes:
        return "check that config.json is the one it was trained with"
    return "give a complete checkpoint, with the config.json it was trained with"


def _some(names: list[str], what: str) -> str:
    """``3 missing (a, b, ...)`` with up to three names, or nothing."""
    if not names:
        return ""
    return f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"
