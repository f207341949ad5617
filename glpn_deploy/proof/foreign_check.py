"""An ONNX file of other software, held against the checkpoint that it is said to be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.errors import InputError
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.model.modeling import GLPNForDepthEstimation
from glpn_deploy.proof.checks.budget import Budget
from glpn_deploy.proof.findings import Verification
from glpn_deploy.proof.options import VerifyOptions
from glpn_deploy.proof.parity import SWEEP, compare, fp32_budget, room_batch, round_up, sweep_batches
from glpn_deploy.runtimes.base import InputSpec, RuntimeOptions
from glpn_deploy.runtimes.onnx_file.foreign import open_onnx
from glpn_deploy.runtimes.onnx_file.header import read_header
from glpn_deploy.runtimes.registry import load_runtime
from glpn_deploy.runtimes.rt_torch import TorchRuntime

_USUAL = (480, 640)


def verify_foreign(path: Path, checkpoint: Path, options: VerifyOptions) -> Verification:
    """Compares an ``.onnx`` file's depth with PyTorch's, over the shapes of the sweep that it takes.

    A file of one size or batch is compared at that. FP32 is held to the tolerance, another precision to its
    budget (`glpn_deploy.proof.checks.budget.Budget`). Scale and image processor are the file's own, or stand
    beside it, or are the checkpoint's.
    """
    for name, used in (("precision", options.precisions is not None), ("polygraphy", options.polygraphy)):
        if used:
            raise InputError(f"--{name} for {path}", expected="a bundle", fix=f"leave out --{name}")
    own = read_header(path).max_depth
    model = GLPNForDepthEstimation.from_pretrained(checkpoint, max_depth=own, dtype="float32")
    source = open_onnx(path, fallback=(checkpoint, model.config.max_depth))
    precision = source.header.precision
    limit = fp32_budget(source.max_depth, options.tolerance) if precision == "fp32" else Budget.of(precision)
    with load_runtime("onnxruntime", path, options.runtime) as candidate:
        candidate.reasons += source.reasons
        batches, total = _batches(candidate.spec, source.processor)
        reference = TorchRuntime(model, RuntimeOptions(device="cpu"))
        report = compare(candidate, reference, batches, limit, total=total)
    return Verification((report,), max_depth=source.max_depth)


def _batches(
    spec: InputSpec, processor: GLPNImageProcessor
) -> tuple[Iterator[tuple[str, NDArray[np.float32]]], int]:
    """The sweep for a graph of free shapes; else some rooms of the size and batch that it takes."""
    if spec.batch is None and spec.height is None and spec.width is None:
        return sweep_batches(processor, spec.size_multiple), len(SWEEP)
    height, width = (
        round_up(usual, processor.size_divisor) if side is None else side
        for side, usual in zip((spec.height, spec.width), _USUAL, strict=True)
    )
    batches = (spec.batch,) if spec.batch is not None else (1, 2, 3)
    plain = processor.replace(do_resize=False)  # a fixed size need not be one that it shrinks to
    found = ((f"{n}x{height}x{width}", room_batch(plain, n, height, width)) for n in batches)
    return found, len(batches)
