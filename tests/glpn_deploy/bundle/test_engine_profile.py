"""Profiles: what they hold, how they are written, and that no two of them share a name."""

from __future__ import annotations

import itertools
import json
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glpn_deploy.bundle.engine_profile import (
    MAX_BATCH,
    MAX_PROFILES,
    MAX_SIDE,
    Profile,
    choose_profile,
    parse_profiles,
    profile_options,
    profiles_name,
)
from glpn_deploy.decoding import FieldError, decode
from glpn_deploy.errors import InputError
from tests.refusals import refused

VGA = Profile((1, 480, 640), (1, 480, 640), (4, 480, 640))
WIDE = Profile((1, 256, 320), (1, 480, 640), (4, 480, 640))


def numbers(low: int, high: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(low, high), min_size=3, max_size=3).map(sorted)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    batch = draw(numbers(1, 8))
    height, width = (draw(numbers(1, 24)) for _ in range(2))
    return Profile(*((n, 32 * h, 32 * w) for n, h, w in zip(batch, height, width, strict=True)))


SHAPES = st.tuples(
    st.integers(1, 9), st.integers(1, 25).map(lambda n: 32 * n), st.integers(1, 25).map(lambda n: 32 * n)
)


def inside(profile: Profile, shape: tuple[int, int, int]) -> bool:
    """Written out, as the oracle."""
    (a, b, c), (d, e, f) = profile.min, profile.max
    return a <= shape[0] <= d and b <= shape[1] <= e and c <= shape[2] <= f


@given(profiles(), SHAPES)
def test_it_holds_its_ends_and_nothing_beyond(profile, shape):
    assert profile.holds(profile.min)
    assert profile.holds(profile.opt)
    assert profile.holds(profile.max)
    assert profile.holds(shape) == inside(profile, shape)


@given(profiles())
def test_text_and_json_bring_the_same_profile_back(profile):
    assert Profile.parse(str(profile)) == profile
    assert decode(Profile, json.loads(json.dumps(profile.to_dict()))) == profile


@given(st.lists(profiles(), min_size=1, max_size=4, unique=True))
@settings(max_examples=50)
def test_the_options_ask_for_the_same_profiles(chosen):
    words = shlex.split(shlex.join(profile_options(chosen)))
    given_options: dict[str, list[str]] = {}
    for option, value in itertools.pairwise(words):
        if option.startswith("--"):
            given_options.setdefault(option.removeprefix("--"), []).append(value)
    (batch,) = given_options.get("batch", [None])
    asked = parse_profiles(given_options.get("shapes", ()), batch, profiles=given_options.get("profile", ()))
    assert asked == tuple(chosen)


@given(profiles(), profiles())
def test_unlike_profiles_have_unlike_names(a, b):
    assert (a == b) == (a.name == b.name)


@given(st.lists(profiles(), min_size=1, max_size=6), st.lists(profiles(), min_size=1, max_size=6))
@settings(max_examples=40)
def test_several_have_a_name_that_fits_a_file_system(a, b):
    name = profiles_name(a)
    assert (a == b) == (name == profiles_name(b))
    assert len(name) <= 100
    assert not set(name) & set('/\\:*?"<>| \n')


@given(st.lists(profiles(), max_size=6), SHAPES)
def test_the_tightest_that_holds_a_shape_is_chosen(candidates, shape):
    index = choose_profile(candidates, shape)
    holding = [profile for profile in candidates if inside(profile, shape)]
    if index is None:
        assert not holding
        return
    assert inside(candidates[index], shape)
    pixels = [n * h * w for n, h, w in (profile.max for profile in holding)]
    n, h, w = candidates[index].max
    assert n * h * w == min(pixels)


def test_names_as_people_read_them():
    assert VGA.name == "480x640.b1-4"
    assert Profile.fixed((1, 480, 640)).name == "480x640.b1"
    assert WIDE.name == "256-480x320-640.b1-4"
    tuned = Profile((1, 480, 640), (2, 480, 640), (4, 480, 640))
    assert tuned.name == "480x640.b1-4.o2x480x640"
    assert profiles_name([VGA, Profile.fixed((1, 256, 320))]) == "480x640.b1-4+256x320.b1"


def test_of_two_that_fit_the_tuned_one_runs():
    far, near = Profile(WIDE.min, (1, 480, 640), WIDE.max), Profile(WIDE.min, *[WIDE.max] * 2)
    assert choose_profile([far, near], (4, 480, 640)) == 1
    assert choose_profile([far, near], (1, 480, 640)) == 0
    assert choose_profile([WIDE, VGA], (1, 480, 640)) == 1
    assert choose_profile([WIDE, VGA], (1, 256, 640)) == 0
    assert choose_profile([WIDE, VGA], (5, 480, 640)) is None
    assert choose_profile([], (1, 480, 640)) is None


def test_what_the_command_line_means():
    assert parse_profiles() == (Profile.fixed((1, 480, 640)),)
    assert parse_profiles(["480x640"], "1:4") == (VGA,)
    assert parse_profiles(["480x640,256x320"], "2") == (
        Profile.fixed((2, 480, 640)),
        Profile.fixed((2, 256, 320)),
    )
    assert parse_profiles(["480x640"], "1:2:4") == (Profile((1, 480, 640), (2, 480, 640), (4, 480, 640)),)
    assert parse_profiles(min_shape="1x256x320", max_shape="4x480x640") == (WIDE,)
    assert parse_profiles(min_shape="1x256x320", opt_shape="2x256x320", max_shape="4x480x640") == (
        Profile((1, 256, 320), (2, 256, 320), (4, 480, 640)),
    )
    assert parse_profiles(["480x640"], "1:4", "1x256x320", None, "4x480x640") == (VGA, WIDE)
    assert parse_profiles(profiles=["1x256x320:1x480x640:4x480x640", "1x32x32"]) == (
        WIDE,
        Profile.fixed((1, 32, 32)),
    )
    assert parse_profiles(["480x640", "480x640"]) == (Profile.fixed((1, 480, 640)),)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"shapes": ["480"]}, "--size '480'; expected height x width"),
        ({"shapes": ["480x640,"]}, "--size ''"),
        ({"shapes": ["480x650"]}, "side is 650 px; expected a multiple of 32 px .*; write 640"),
        ({"shapes": ["16x32"]}, "side is 16 px; .*; write 32"),
        ({"shapes": ["0x32"]}, "side is 0 px"),
        ({"shapes": [f"{MAX_SIDE + 32}x32"]}, f"write {MAX_SIDE}"),
        ({"shapes": ["-480x640"]}, "--size"),
        ({"shapes": ["९६x96"]}, "--size"),  # digits, but not ours
        ({"shapes": ["9" * 400 + "x32"]}, "--size"),
        ({"batch": "0"}, "batch is 0; expected 1 to"),
        ({"batch": "4:1"}, "min 4x480x640 exceeds its opt|exceeds its max"),
        ({"batch": "1:8:4"}, "opt 8x480x640 exceeds its max 4x480x640"),
        ({"batch": "1-4"}, "--batch is '1-4'; .*write --batch 1:4"),
        ({"batch": str(MAX_BATCH + 1)}, f"batch is {MAX_BATCH + 1}; expected 1 to {MAX_BATCH}"),
        ({"min_shape": "1x256x320"}, "only one end .*; expected --min and --max"),
        ({"max_shape": "1x256x320"}, "only one end"),
        ({"opt_shape": "1x256x320"}, "only one end"),
        (
            {"min_shape": "256x320", "max_shape": "1x480x640"},
            "--min is '256x320'; expected batch x height x width",
        ),
        ({"min_shape": "1x480x640", "max_shape": "1x256x640"}, "exceeds its"),
        ({"min_shape": "1x64x64", "max_shape": "1x96x96", "batch": "4"}, "--batch is given without --size"),
        ({"profiles": ["1x32x32:1x64x64"]}, "expected min:opt:max"),
        ({"profiles": ["1x32x32"], "batch": "2"}, "--batch is given without --size"),
    ],
)
def test_wrong_use_is_a_sentence(arguments, words):
    with pytest.raises(InputError, match=words):
        parse_profiles(**arguments)


def test_too_many_profiles():
    sizes = [f"{32 * i}x32" for i in range(1, MAX_PROFILES + 2)]
    assert len(parse_profiles(sizes[:-1])) == MAX_PROFILES
    with refused(
        InputError, got=f"{MAX_PROFILES + 1} profiles are asked for", expected=f"at most {MAX_PROFILES}"
    ):
        parse_profiles(sizes)


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {},
        {"min": [1, 32, 32], "opt": [1, 32, 32]},
        {"min": "132", "opt": [1, 32, 32], "max": [1, 32, 32]},
        *(
            {"min": shape, "opt": [1, 32, 32], "max": [1, 32, 32]}
            for shape in (
                [1, 32],
                [1, 32, 32, 32],
                [True, 32, 32],
                [1.0, 32, 32],
                ["1", 32, 32],
                [None, 32, 32],
                [[1], 32, 32],
                [-1, 32, 32],
                [1, 10**400, 32],
                [10**400, 32, 32],
                [1, -(10**400), 32],
            )
        ),
    ],
)
def test_a_hostile_profile_is_refused(values):
    with pytest.raises(FieldError) as refused:
        decode(Profile, values)
    assert len(str(refused.value)) < 300
