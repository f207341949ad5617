"""Checkpoints that are changed, and the sentence that refuses one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from glpn_deploy.errors import CheckpointError, GlpnError


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def refusal(
    call: Callable[..., Any], *args: Any, kind: type[GlpnError] = CheckpointError, **options: Any
) -> str:
    """The one sentence that a call is refused with."""
    with pytest.raises(kind) as caught:
        call(*args, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.exit_code == 2
    return text
