"""The budget on errors computed by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from glpn_deploy.bundle.manifest import Artefact
from glpn_deploy.depth.error_stats import error_stats
from glpn_deploy.errors import BundleError, InputError
from glpn_deploy.proof.checks.budget import Budget, artefact_budget
from tests.refusals import refused

# |a - b| is 0.1, 0, 0 and 1 m; relative to b 0.1, 0, 0 and 0.2: AbsRel 0.075, largest 1 m
ERRORS = error_stats(np.array([1.1, 2, 3, 4]), np.array([1.0, 2, 3, 5]))


@pytest.mark.parametrize(
    ("abs_rel", "abs_m", "within"),
    [
        (0.0751, None, True),
        (0.0749, None, False),
        (None, 1.001, True),
        (None, 0.999, False),
        (0.0751, 1.001, True),
        (0.0749, 1.001, False),
        (0.0751, 0.999, False),
    ],
)
def test_every_limit_that_is_given_must_be_kept(abs_rel, abs_m, within):
    assert Budget(abs_rel, abs_m).allows(ERRORS) is within


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_pixel_that_is_not_finite_is_over_any_budget(bad):
    errors = error_stats(np.array([bad, 2, 3, 5]), np.array([1.0, 2, 3, 5]))
    assert not Budget(1e9, 1e9).allows(errors)


def test_the_default_holds_beside_a_limit_in_metres():
    assert Budget.of("fp16") == Budget(0.001)
    assert Budget.of("int8", max_abs_m=0.5) == Budget(0.02, 0.5)
    assert Budget.of("fp8", max_abs_rel=0.1) == Budget(0.1)


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf")])
def test_limits_are_finite_and_above_zero(limit):
    with refused(InputError, got="max_abs_m is", expected="finite number above 0"):
        Budget(0.001, limit)


def test_a_budget_has_a_limit_and_a_precision_that_needs_one():
    with refused(InputError, got="no limit"):
        Budget()
    with refused(InputError, expected="fp16, bf16, int8, fp8"):
        Budget.of("fp32")


def test_it_reads_as_words_and_as_json():
    assert str(Budget(0.001, 0.5)) == "AbsRel at most 0.001, no pixel more than 0.5 m off"
    assert json.dumps(Budget(0.001).to_dict()) == '{"max_abs_rel": 0.001, "max_abs_m": null}'


def test_a_limit_that_no_float_holds():
    artefact = Artefact("m.onnx", "onnx", "fp16", "", 17, 1, budget={"max_abs_rel": 10**400})
    with pytest.raises(BundleError):
        artefact_budget(artefact)
