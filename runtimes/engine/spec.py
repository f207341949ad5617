"""The shapes an engine takes, and what is said to one that it does not."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from glpn_deploy.bundle.engine_profile import Profile, Shape, choose_profile, spell
from glpn_deploy.errors import InputError
from glpn_deploy.runtimes.base import InputSpec, InputType, batch_shape


@dataclasses.dataclass(frozen=True)
class EngineSpec(InputSpec):
    """Shapes by optimization profile.

    Attributes:
        rebuild: The command that builds it with a shape more.
        fills: Whether its runtime fills up batches that are smaller than any profile takes.
    """

    profiles: tuple[Profile, ...] = ()
    what: str = "the engine"
    rebuild: Callable[[Shape], str] | None = None
    fills: bool = False

    def check(self, pixel_values: NDArray[Any]) -> NDArray[Any]:
        """Returns the batch as the engine takes it, contiguous."""
        anyhow = InputSpec(channels=self.channels, size_multiple=self.size_multiple, dtype=self.dtype)
        array = anyhow.check(pixel_values)
        shape = batch_shape(array)
        if not (self.fills and filled_shape(self.profiles, shape)):
            self.index(shape)
        return array

    def index(self, shape: Shape) -> int:
        """The profile that runs a shape."""
        index = choose_profile(self.profiles, shape)
        if index is None or any(side % self.size_multiple for side in shape[1:]):
            raise self.outside(shape)
        return index

    def outside(self, shape: Shape) -> InputError:
        """What is said to a shape that no profile holds."""
        sides = [side for side in shape[1:] if side % self.size_multiple]
        if sides:
            return InputError(
                f"a side of the input is {sides[0]} px", expected=f"a multiple of {self.size_multiple} px"
            )
        fix = "resize the images"
        with contextlib.suppress(InputError):  # a shape that no engine ever takes
            fix = fix if self.rebuild is None else f"{fix}, or build for it: {self.rebuild(shape)}"
        return InputError(
            f"a batch of {spell(shape)} (images, height, width) lies outside what {self.what} was built for",
            expected=" or ".join(profile.name for profile in self.profiles),
            fix=fix,
        )


def filled_shape(profiles: Sequence[Profile], shape: Shape) -> Shape | None:
    """The smallest batch of more images that a profile takes at a shape's size, or None where none does."""
    batches = sorted({p.min[0] for p in profiles if p.min[0] > shape[0]})
    larger = ((n, *shape[1:]) for n in batches)
    return next((found for found in larger if choose_profile(profiles, found) is not None), None)


def engine_spec(
    profiles: Sequence[Profile],
    multiple: int,
    what: str,
    rebuild: Callable[[Shape], str] | None,
    dtype: InputType = "float32",
) -> EngineSpec:
    """The spec of profiles; a batch size that all of them insist on is named, so that batches are filled."""
    only = {(profile.min[0], profile.max[0]) for profile in profiles}
    (low, high), *others = only
    return EngineSpec(
        size_multiple=multiple,
        batch=low if low == high and not others and low > 1 else None,
        max_batch=min(profile.max[0] for profile in profiles),
        profiles=tuple(profiles),
        what=what,
        rebuild=rebuild,
        dtype=dtype,
    )
