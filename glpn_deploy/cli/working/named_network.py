"""A network of the user's own, from the function that makes it: ``module:function``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from torch import nn

from glpn_deploy.errors import InputError

_WHAT = "MODULE:FUNCTION, a function that takes the checkpoint and returns the network"


def make_network(name: str, checkpoint: str) -> nn.Module:
    """Imports a function, from the current folder or the installed packages, and calls it.

    Args:
        name: ``module:function``.
        checkpoint: What it is given; the configuration's ``name_or_path`` where the network has none.

    Raises:
        InputError: There is no such function, it fails, or it returns no network.
    """
    module, _, function = name.partition(":")
    if not module or not function:
        raise InputError(f"--model {name}", expected=_WHAT, fix="write --model my_networks:load")
    sys.path.insert(0, str(Path.cwd()))  # which python -m does, and a console script does not
    try:
        make = getattr(importlib.import_module(module), function)
    except Exception as error:  # whatever the user's module raises
        raise InputError(f"--model {name}: {_words(error)}", expected=_WHAT) from error
    finally:
        sys.path.pop(0)
    try:
        network = make(checkpoint)
    except Exception as error:  # likewise
        raise InputError(f"{name} failed on {checkpoint} ({_words(error)})", expected="a network") from error
    if not isinstance(network, nn.Module):
        raise InputError(f"{name} returned a {type(network).__name__}", expected="a torch.nn.Module")
    config: Any = getattr(network, "config", None)
    if not getattr(config, "name_or_path", checkpoint):
        config.name_or_path = checkpoint
    return network


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
