"""The strict check of a checkpoint's tensors against the model they are meant for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glpn_deploy.checkpoints.original import ENCODER_ONLY
from glpn_deploy.errors import CheckpointError


@dataclasses.dataclass(frozen=True)
class Fit:
    """Tensors that fit a model, and the names of those that do not.

    Attributes:
        tensors: Those that fit, in the model's dtypes.
        missing: The model's, which the checkpoint lacks.
        unknown: The checkpoint's, which the model lacks.
        misshapen: Names, the checkpoint's shape and the model's.
    """

    tensors: dict[str, Tensor]
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    misshapen: tuple[tuple[str, torch.Size, torch.Size], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """HF's loading info."""
        return {
            "missing_keys": set(self.missing),
            "unexpected_keys": set(self.unknown),
            "mismatched_keys": set(self.misshapen),
            "error_msgs": [],
        }

    def __str__(self) -> str:
        shapes = [f"{n} is {_shape(got)}, not {_shape(wanted)}" for n, got, wanted in self.misshapen]
        parts = (
            _some(self.missing, "missing"),
            _some(self.unknown, "unknown"),
            _some(shapes, "of another shape"),
        )
        return ", ".join(filter(None, parts))


def fit(
    tensors: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    path: Path | None,
    *,
    strict: bool = True,
    other_shapes: bool = False,
) -> Fit:
    """Checks tensors against a model's names and shapes and gives them in its dtypes.

    Args:
        tensors: What was read; half and double precision are converted.
        wanted: The model's state dict, whose values may be without memory ("meta").
        path: Where they came from, for the message.
        strict: Refuse tensors that are missing or left over.
        other_shapes: Allow those of another shape.

    Raises:
        CheckpointError: Tensors are missing, left over or of another shape, as far as that is not allowed, of
            another kind, or not finite.
    """
    tensors = dict(tensors)
    for name in wanted:
        # Batch counters came with torch 0.4.1 and do not touch the result; older files lack them, and
        # files that were halved tensor by tensor have them in half precision.
        sibling = name.replace("num_batches_tracked", "running_mean")
        counter = tensors.get(name)
        if sibling != name and sibling in tensors and (counter is None or counter.is_floating_point()):
            tensors[name] = torch.tensor(0)
    both = [name for name in wanted if name in tensors]
    report = Fit(
        {},
        tuple(name for name in wanted if name not in tensors),
        tuple(name for name in tensors if name not in wanted),
        tuple((n, tensors[n].shape, wanted[n].shape) for n in both if tensors[n].shape != wanted[n].shape),
    )
    if (strict and (report.missing or report.unknown)) or (report.misshapen and not other_shapes):
        raise CheckpointError(
            f"{path or 'the state dict'} does not fit the model: {report}",
            expected=f"exactly the {len(wanted)} tensors of the configured GLPN",
            fix=_hint(tensors, report),
        )
    misshapen = {name for name, _, _ in report.misshapen}
    both = [name for name in both if name not in misshapen]
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
    return dataclasses.replace(report, tensors=fitted)


def _hint(tensors: Mapping[str, Tensor], report: Fit) -> str:
    known = [name for name in tensors if name.startswith(("glpn.", "encoder.", "decoder.", "head."))]
    encoder_only = known and not any(name.startswith(("decoder.", "head.head.")) for name in known)
    if encoder_only and any(name.startswith("decoder.") for name in report.missing):
        return ENCODER_ONLY
    if not known:
        return "it is not a GLPN checkpoint; give one such as vinvino02/glpn-nyu"
    if report.misshapen:
        return "check that config.json is the one it was trained with"
    return "give a complete checkpoint, with the config.json it was trained with"


def _some(names: Sequence[str], what: str) -> str:
    """``3 missing (a, b, ...)`` with up to three names, or nothing."""
    if not names:
        return ""
    return f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def _shape(shape: torch.Size) -> str:
    return "x".join(map(str, shape)) or "a scalar"
