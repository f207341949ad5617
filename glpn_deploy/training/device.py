"""Where a run computes, and in which precision."""

from __future__ import annotations

import contextlib
import dataclasses

import torch

from glpn_deploy.errors import BackendError, InputError
from glpn_deploy.options import Device
from glpn_deploy.training.options import Precision


@dataclasses.dataclass(frozen=True)
class Numerics:
    """The precision of a run.

    Attributes:
        dtype: What autocast computes in; None for float32 throughout.
        scaler: Scales the loss against fp16's small range; does nothing in other precisions.
    """

    device: torch.device
    dtype: torch.dtype | None
    scaler: torch.amp.GradScaler

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """The context that the forward pass runs in."""
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)


def choose_device(name: Device) -> torch.device:
    """The device of that name; ``auto`` takes a GPU where torch finds one."""
    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise BackendError(
            "training was asked to run on a GPU and PyTorch finds none", fix="leave --device out, or say cpu"
        )
    return torch.device("cuda" if found and name != "cpu" else "cpu")


def choose_numerics(precision: Precision, device: torch.device) -> Numerics:
    """The precision of that name on a device; ``auto`` is bf16, else fp16, on a GPU and fp32 on a CPU."""
    if precision == "fp16" and device.type == "cpu":
        raise InputError("the precision is fp16 on a CPU", expected="fp32 or bf16 there")
    if precision == "auto" and device.type == "cuda":
        precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
    return Numerics(device, dtype, scaler)
