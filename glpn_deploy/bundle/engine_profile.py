"""The shapes a TensorRT engine is built for: optimization profiles, their arithmetic, names and spelling."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections.abc import Sequence
from typing import Any

from glpn_deploy.decoding import shown
from glpn_deploy.errors import InputError
from glpn_deploy.options import parse_size

Shape = tuple[int, int, int]
"""Images in a batch, height [px], width [px]."""

SIDE_MULTIPLE = 32  # the network halves the image five times
MAX_SIDE, MAX_BATCH, MAX_PROFILES = 16384, 4096, 32
DEFAULT_SHAPE = "480x640"

_KINDS = ("min", "opt", "max")
_NAME_CHARACTERS = 80


@dataclasses.dataclass(frozen=True)
class Profile:
    """The shapes from ``min`` to ``max``, tuned for ``opt``.

    Attributes:
        min: Smallest batch, height and width.
        opt: What the kernels are chosen for.
        max: Largest batch, height and width.

    Raises:
        InputError: A side is not a multiple of 32 px, a number is out of range, or the three are not
            in order.
    """

    min: Shape
    opt: Shape
    max: Shape

    def __post_init__(self) -> None:
        for kind in _KINDS:
            _check_shape(kind, getattr(self, kind))
        for lower, upper in (("min", "opt"), ("opt", "max")):
            a, b = getattr(self, lower), getattr(self, upper)
            if any(x > y for x, y in zip(a, b, strict=True)):
                raise InputError(
                    f"a profile's {lower} {spell(a)} exceeds its {upper} {spell(b)}",
                    expected="min <= opt <= max in batch, height and width",
                )

    @classmethod
    def fixed(cls, shape: Shape) -> Profile:
        """The profile of one shape alone, which TensorRT optimizes best."""
        return cls(shape, shape, shape)

    @classmethod
    def parse(cls, text: str) -> Profile:
        """Reads ``1x256x320:1x480x640:4x480x640``, or one shape alone."""
        parts = [parse_shape("--profile", part) for part in text.split(":")]
        if len(parts) == 1:
            return cls.fixed(parts[0])
        if len(parts) != 3:
            raise InputError(
                f"--profile is {text!r}",
                expected="min:opt:max",
                fix="write --profile 1x256x320:1x480x640:4x480x640",
            )
        return cls(*parts)

    def holds(self, shape: Shape) -> bool:
        """Whether the engine takes a shape with this profile."""
        return all(a <= n <= b for a, n, b in zip(self.min, shape, self.max, strict=True))

    @property
    def plain(self) -> bool:
        """Whether it is tuned for what is tuned for by default: the smallest batch at the largest size."""
        return self.opt == (self.min[0], *self.max[1:])

    @property
    def name(self) -> str:
        """For file names and people: ``480x640.b1-4``, ``256-480x320-640.b1``.

        The optimum is named where it is not the default one, so that unlike profiles have unlike names.
        """
        batch, height, width = (_span(a, b) for a, b in zip(self.min, self.max, strict=True))
        tuned = "" if self.plain else f".o{spell(self.opt)}"
        return f"{height}x{width}.b{batch}{tuned}"

    def __str__(self) -> str:
        return f"{spell(self.min)}:{spell(self.opt)}:{spell(self.max)}"

    def to_dict(self) -> dict[str, list[int]]:
        """For the sidecar: three lists of batch, height, width."""
        return {kind: list(getattr(self, kind)) for kind in _KINDS}


def parse_shape(option: str, text: str) -> Shape:
    """Reads ``BATCHxHEIGHTxWIDTH``."""
    found = re.fullmatch(r"(\d{1,6})[xX×](\d{1,6})[xX×](\d{1,6})", text.strip(), re.ASCII)
    if not found:
        raise InputError(
            f"{option} is {text!r}", expected="batch x height x width", fix="write for example 1x480x640"
        )
    return int(found[1]), int(found[2]), int(found[3])


def parse_profiles(
    shapes: Sequence[str] = (),
    batch: str | None = None,
    min_shape: str | None = None,
    opt_shape: str | None = None,
    max_shape: str | None = None,
    profiles: Sequence[str] = (),
) -> tuple[Profile, ...]:
    """The profiles that the command line asks for; 480x640 at batch 1 where it asks for none.

    Args:
        shapes: ``480x640``, or several separated by commas; a profile of this size alone for each.
        batch: Of the shapes: ``1``, ``1:4`` (tuned for the smallest) or ``1:2:4`` (tuned for the middle).
        min_shape: ``1x256x320``: the smallest shape of one profile more; needs ``max_shape``.
        opt_shape: What it is tuned for; the smallest batch at the largest size where left out.
        max_shape: Its largest shape.
        profiles: Whole profiles as `Profile.parse` reads them.

    Returns:
        The profiles in the order of the arguments, none twice.
    """
    found = [Profile.parse(text) for text in profiles]
    if (min_shape is None) != (max_shape is None) or (opt_shape is not None and min_shape is None):
        raise InputError(
            "only one end of the range of shapes is given",
            expected="--min and --max",
            fix="write --min 1x256x320 --max 4x480x640",
        )
    if min_shape is not None and max_shape is not None:
        low, high = parse_shape("--min", min_shape), parse_shape("--max", max_shape)
        best = (low[0], *high[1:]) if opt_shape is None else parse_shape("--opt", opt_shape)
        found.append(Profile(low, best, high))
    sizes = [parse_size("--size", size) for text in shapes for size in text.split(",")]
    if found and not sizes and batch is not None:
        raise InputError(
            "--batch is given without --size",
            expected="the batch within --min, --opt, --max or --profile",
            fix="write it there (1x480x640), or name the sizes with --size",
        )
    if not found and not sizes:
        sizes = [parse_size("--size", DEFAULT_SHAPE)]
    low_n, best_n, high_n = _parse_batch("1" if batch is None else batch)
    sized = [Profile((low_n, *size), (best_n, *size), (high_n, *size)) for size in sizes]
    unique = tuple(dict.fromkeys((*sized, *found)))
    if len(unique) > MAX_PROFILES:
        raise InputError(
            f"{len(unique)} profiles are asked for", expected=f"at most {MAX_PROFILES} in one engine"
        )
    return unique


def choose_profile(profiles: Sequence[Profile], shape: Shape) -> int | None:
    """The index of the profile to run a shape with, or None where none holds it.

    Of those that hold it, the one with the fewest pixels at its maximum is taken, then the one with the
    most at its minimum, then the one tuned for the shape itself, then the first.
    """
    holding = [i for i, profile in enumerate(profiles) if profile.holds(shape)]

    def looseness(i: int) -> tuple[int, int, bool, int]:
        profile = profiles[i]
        return math.prod(profile.max), -math.prod(profile.min), profile.opt != shape, i

    return min(holding, key=looseness, default=None)


def profile_options(profiles: Sequence[Profile]) -> list[str]:
    """The arguments of glpn-build that ask for these profiles; `parse_profiles` reads them back."""
    batches = {(p.min[0], p.opt[0], p.max[0]) for p in profiles}
    sized = all(p.min[1:] == p.opt[1:] == p.max[1:] for p in profiles)
    if not sized or len(batches) != 1:
        return [argument for profile in profiles for argument in ("--profile", str(profile))]
    shapes = ",".join(f"{p.max[1]}x{p.max[2]}" for p in profiles)
    ((low, best, high),) = batches
    batch = str(low) if low == high else f"{low}:{high}" if best == low else f"{low}:{best}:{high}"
    return ["--size", shapes, "--batch", batch]


def profiles_name(profiles: Sequence[Profile]) -> str:
    """The profiles' names, joined for a file name; of many the first and a digest of all."""
    name = "+".join(profile.name for profile in profiles)
    if len(name) <= _NAME_CHARACTERS:
        return name
    digest = hashlib.sha256(" ".join(map(str, profiles)).encode()).hexdigest()[:8]
    return f"{profiles[0].name}+{len(profiles) - 1}more.{digest}"


def spell(shape: Shape) -> str:
    """``1x480x640``."""
    return "x".join(map(str, shape))


def _parse_batch(text: str) -> Shape:
    found = re.fullmatch(r"(\d{1,6})(?::(\d{1,6}))?(?::(\d{1,6}))?", text.strip(), re.ASCII)
    if not found:
        raise InputError(
            f"--batch is {text!r}", expected="a number, 1:4, or 1:2:4 to tune for 2", fix="write --batch 1:4"
        )
    low, second, third = (None if part is None else int(part) for part in found.groups())
    assert low is not None
    if second is None:
        return low, low, low
    return (low, low, second) if third is None else (low, second, third)


def _check_shape(kind: str, shape: Any) -> None:
    if not isinstance(shape, tuple) or len(shape) != 3 or any(type(n) is not int for n in shape):
        raise InputError(f"a profile's {kind} is not a shape", expected="batch, height, width")
    batch, *sides = shape
    if not 1 <= batch <= MAX_BATCH:
        raise InputError(f"a profile's {kind} batch is {shown(batch)}", expected=f"1 to {MAX_BATCH}")
    for side in sides:
        if not SIDE_MULTIPLE <= side <= MAX_SIDE or side % SIDE_MULTIPLE:
            near = min(max(side // SIDE_MULTIPLE, 1), MAX_SIDE // SIDE_MULTIPLE) * SIDE_MULTIPLE
            raise InputError(
                f"a profile's {kind} side is {shown(side)} px",
                expected=f"a multiple of {SIDE_MULTIPLE} px up to {MAX_SIDE}",
                fix=f"write {near}",
            )


def _span(a: int, b: int) -> str:
    return str(a) if a == b else f"{a}-{b}"
