"""The state of a run, from which it goes on after being stopped or killed as if nothing had happened."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import torch

from glpn_deploy.atomic import atomic_path, make_folder
from glpn_deploy.errors import CheckpointError, InputError, WriteError, first_line

STATE_NAME = "state.pt"
_VERSION = 1


@dataclasses.dataclass
class TrainState:
    """What a run needs to go on at the same loss curve.

    There is no state of random generators in it: `Learner` seeds them at every step, and the order of the
    samples comes from seed and epoch.

    Attributes:
        best: Lowest ``abs_rel`` on the validation samples so far.
        seconds: Time spent training so far [s].
    """

    step: int
    validated: int
    best: float
    seconds: float
    learner: dict[str, dict[str, Any]]
    identity: dict[str, Any]


def state_path(out: Path) -> Path:
    """Where a run that writes to ``out`` keeps its state."""
    return out / "last" / STATE_NAME


def save_state(state: TrainState, out: Path) -> None:
    """Writes the state so that a kill at any instant leaves the old one or the new one."""
    path = state_path(out)
    make_folder(path.parent)
    values = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    with atomic_path(path) as temporary:
        try:
            torch.save({"version": _VERSION, **values}, temporary)
        except RuntimeError as error:  # torch's zip writer on a full disk
            raise WriteError(f"{path} could not be written ({first_line(error)})") from None


def _check_types(state: TrainState) -> None:
    kinds = {
        "step": int,
        "validated": int,
        "best": float,
        "seconds": float,
        "learner": dict,
        "identity": dict,
    }
    for name, kind in kinds.items():
        value = getattr(state, name)
        if not isinstance(value, (int, float) if kind is float else kind) or isinstance(value, bool):
            raise TypeError(f"its {name} is a {type(value).__name__}")
    if min(state.step, state.validated) < 0 or not all(isinstance(name, str) for name in state.identity):
        raise ValueError("its numbers are none of a run")


def load_state(out: Path, identity: dict[str, Any]) -> TrainState | None:
    """Reads the state that a run left in ``out``; nothing in the file is executed.

    Args:
        identity: `TrainOptions.identity` of the run that wants to go on.

    Returns:
        The state, or None where there is none.

    Raises:
        CheckpointError: The file is damaged or of another version.
        InputError: The run was begun with other options.
    """
    path = state_path(out)
    if not path.is_file():
        return None
    begin_anew = "begin anew with --fresh, or give another folder"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = torch.load(path, map_location="cpu", weights_only=True)
        if values.pop("version") != _VERSION:
            raise ValueError("it is of another version of glpn-deploy")
        state = TrainState(**values)
        _check_types(state)
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise CheckpointError(
            f"the training state {path} cannot be used ({first_line(error)})", fix=begin_anew
        ) from None
    changed = [
        f"{name} (then {state.identity.get(name)}, now {identity.get(name)})"
        for name in sorted(state.identity.keys() | identity.keys())
        if state.identity.get(name) != identity.get(name)
    ]
    if changed:
        raise InputError(
            f"the run in {out} was begun with other options: {', '.join(changed)}",
            expected="the same options, to go on from its step " + str(state.step),
            fix=begin_anew,
        )
    return state
