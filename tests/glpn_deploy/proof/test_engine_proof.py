"""What an engine is compared with, judged on ONNX Runtime in the engine's place."""

from __future__ import annotations

import re

import numpy as np
import pytest

from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.bundle.engine_profile import Profile, parse_profiles
from glpn_deploy.errors import ParityError
from glpn_deploy.optional import install_line
from glpn_deploy.proof import engine_proof
from glpn_deploy.proof.checks.budget import Budget
from glpn_deploy.proof.engine_proof import engine_limit, prove_engine, require_comparisons
from glpn_deploy.runtimes.base import Runtime, RuntimeOptions
from glpn_deploy.runtimes.registry import BACKENDS, load_runtime
from tests.refusals import refused


class Engine(Runtime):
    """Takes the profiles' shapes only, as an engine does, and can be made to err."""

    backend, device, precision = "tensorrt", "cuda:0", "fp32"

    def __init__(self, path, profiles, spoil=lambda x, depth: depth):
        self._inner = load_runtime("onnxruntime", path, RuntimeOptions(device="cpu"))
        self.spec, self._profiles, self._spoil = self._inner.spec, profiles, spoil
        self.shapes = []

    def _infer(self, pixel_values):
        n, _, h, w = pixel_values.shape
        assert any(profile.holds((n, h, w)) for profile in self._profiles)
        self.shapes.append((n, h, w))
        return self._spoil(pixel_values, self._inner.run(pixel_values))

    def _free(self):
        self._inner.close()


def prove(folder, profiles, spoil=lambda x, depth: depth, tf32=False):
    bundle = Bundle.open(folder)
    with Engine(folder / "model.onnx", profiles, spoil) as engine:
        artefact = bundle.artefact("fp32")
        proof = prove_engine(bundle, artefact, engine, profiles, tf32=tf32)
    return proof, engine.shapes


@pytest.fixture
def no_onnxruntime(monkeypatch):
    """As where only TensorRT is installed: the package is not found (the stand-in is loaded before)."""
    monkeypatch.setattr(engine_proof, "BACKENDS", {**BACKENDS, "onnxruntime": Missing()})


class Missing:
    install = install_line("cpu")

    def missing(self):
        return "pip install it"


def test_goldens_that_fit_and_rooms_at_every_corner(tiny_bundle):
    profiles = parse_profiles(["256x192"], "1:3") + parse_profiles(["64x96"])
    proof, shapes = prove(tiny_bundle, profiles)
    assert shapes == [(1, 256, 192), (3, 256, 192), (3, 256, 192), (1, 64, 96)]
    golden, rooms = proof.reports
    assert [case.name for case in golden.cases] == ["golden/1.png", "3 times golden/1.png"]
    assert [case.name for case in rooms.cases] == ["3x256x192", "1x64x96"]
    assert (golden.reference["backend"], rooms.reference["backend"]) == ("golden", "onnxruntime")
    assert proof.not_checked == {}
    assert proof.to_dict()["passed"] is True
    proof.require()


@pytest.mark.usefixtures("no_onnxruntime")
def test_without_onnxruntime_what_no_golden_shows_is_said(tiny_bundle):
    profiles = parse_profiles(["256x192"], "1:3") + parse_profiles(["64x96"])
    proof, shapes = prove(tiny_bundle, profiles)
    assert shapes == [(1, 256, 192), (3, 256, 192)]
    assert list(proof.not_checked) == ["1x64x96"]
    assert "no golden has this shape" in proof.not_checked["1x64x96"]


@pytest.mark.usefixtures("no_onnxruntime")
def test_where_nothing_was_compared_nothing_passed(tiny_bundle):
    proof, shapes = prove(tiny_bundle, parse_profiles(["64x96"]))
    assert shapes == []
    assert proof.to_dict()["passed"] is None
    assert list(proof.not_checked) == ["1x64x96"]


def test_a_span_of_sizes(tiny_bundle):
    profiles = (Profile.parse("1x96x160:1x128x160:2x256x320"),)
    _, shapes = prove(tiny_bundle, profiles)
    assert shapes == [
        *((1, 256, 192), (2, 256, 192), (1, 96, 320), (2, 96, 320)),  # goldens
        *((1, 96, 160), (1, 128, 160), (2, 256, 320)),  # corners
    ]


@pytest.mark.usefixtures("no_onnxruntime")
def test_too_large_to_compare(tiny_bundle, monkeypatch):
    monkeypatch.setattr(engine_proof, "_MOST_PIXELS", 2 * 96 * 320)
    proof, shapes = prove(tiny_bundle, parse_profiles(["96x320"], "1:4"))
    assert shapes == [(1, 96, 320)]
    assert proof.not_checked == {"4x96x320": "too large to compare"}


@pytest.mark.usefixtures("no_onnxruntime")
@pytest.mark.parametrize(
    ("profiles", "words"),
    [
        (
            ["1x64x96"],
            r"at 64x96\.b1 \(no golden has this shape.*because it errs; .*--image of this size .64x96",
        ),
        (["1x256x192", "1x64x96"], rf"at 64x96\.b1 .*or {re.escape(install_line('cpu'))}"),
        (
            ["1x480x640", "1x416x640:1x480x640:1x480x640"],
            r"at 416-480x640\.b1 ",
        ),  # the golden runs on the first
        (["64x480x640"], r"at 480x640\.b64 \(too large to compare\).*build for a smaller --batch"),
    ],
)
def test_profiles_that_nothing_can_be_compared_at(tiny_bundle, profiles, words):
    with pytest.raises(ParityError, match=words):
        require_comparisons(Bundle.open(tiny_bundle), parse_profiles(profiles=profiles), "it errs")


def test_profiles_that_something_can_be_compared_at(tiny_bundle, monkeypatch):
    bundle = Bundle.open(tiny_bundle)
    require_comparisons(bundle, parse_profiles(["64x96"]), "it errs")  # on rooms, with ONNX Runtime
    monkeypatch.setattr(engine_proof, "BACKENDS", {**BACKENDS, "onnxruntime": Missing()})
    inside = (Profile.parse("1x64x96:1x64x96:1x480x640"),)  # goldens lie in it
    for profiles in (parse_profiles(["256x192,480x640"]), inside):
        require_comparisons(bundle, profiles, "it errs")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x, depth: depth + np.float32(1e-3),
        lambda x, depth: np.where(
            np.arange(len(depth))[:, None, None] == 2, depth[:1], depth
        ),  # mixes images
        lambda x, depth: np.full_like(depth, np.nan),
    ],
)
def test_a_wrong_engine(tiny_bundle, spoil):
    proof, _ = prove(tiny_bundle, parse_profiles(["96x320"], "1:3"), spoil)
    assert proof.to_dict()["passed"] is False
    with refused(ParityError, fix="the engine was not kept; run the ONNX file instead") as caught:
        proof.require()
    assert caught.value.exit_code == 1


def test_limits(tiny_bundle):
    from dataclasses import replace

    bundle = Bundle.open(tiny_bundle)
    full = bundle.artefact("fp32")
    assert engine_limit(bundle, full).max_abs_m == pytest.approx(
        5e-5 * 10
    )  # below TF32's, above other orders of sums
    assert engine_limit(bundle, full, tf32=True) == Budget(max_abs_rel=0.001)
    half = replace(full, precision="fp16", budget=None)
    assert engine_limit(bundle, half) == Budget(max_abs_rel=0.001)
    assert engine_limit(bundle, replace(half, budget={"max_abs_m": 0.5})) == Budget(max_abs_m=0.5)
