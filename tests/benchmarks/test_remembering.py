"""Which row of a report is remembered: one that auto can take, within its error budget."""

from __future__ import annotations

import dataclasses

import pytest

from glpn_deploy.benchmarks.options import BenchOptions
from glpn_deploy.benchmarks.remembering import fastest_of
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.errors import BackendError


@pytest.fixture
def made(samples, row, report, tiny_bundle):
    """What is kept of rows (backend, precision, ms, AbsRel)."""

    def keep(*cases, within=None):
        plain = row(samples(20.0, 1))
        rows = [
            row(
                samples(ms, 2),
                backend=backend,
                precision=precision,
                error={**plain.error, "abs_rel": abs_rel},
            )
            for backend, precision, ms, abs_rel in cases
        ]
        made = report(rows)
        made = dataclasses.replace(made, source={**made.source, "manifest_sha256": "0" * 64})
        return fastest_of(made, Bundle.open(tiny_bundle), BenchOptions(within=within))

    return keep


CASES = (
    ("torch", "fp32", 5.0, 0.0),  # runs checkpoints, not bundles
    ("onnxruntime", "fp32", 20.0, 1e-7),
    ("openvino", "fp32", 30.0, 1e-7),
    ("openvino", "bf16", 10.0, 0.004),
    ("openvino", "int8+bf16", 6.0, 0.004),  # which auto does not take
    ("openvino", "int8", 8.0, 0.5),  # wrong
    ("onnxruntime", "int8", 9.0, 0.015),
)


def test_the_fastest_of_each_precision_and_fp32_where_none_is_asked_for(made):
    kept = made(*CASES)
    assert {precision: about.backend for precision, about in kept.fastest.items()} == {
        "fp32": "onnxruntime",
        "bf16": "openvino",
        "int8": "onnxruntime",
    }
    assert kept.precision == "fp32"
    assert (kept.date, kept.shape) == ("2026-01-01", "1x96x128")


@pytest.mark.parametrize(("within", "precision"), [(1e-4, "fp32"), (0.005, "bf16"), (0.02, "int8")])
def test_a_budget_chooses_the_precision_too(within, precision, made):
    assert made(*CASES, within=within).precision == precision


def test_an_engine_is_its_backend(made):
    assert made(("tensorrt@a.fp16.engine", "fp16", 3.0, 1e-4)).fastest["fp16"].backend == "tensorrt"


@pytest.mark.parametrize("cases", [CASES[:1], (("openvino", "fp32", 1.0, 0.5),)])
def test_nothing_to_remember(cases, made):
    with pytest.raises(BackendError):
        made(*cases)
    with pytest.raises(BackendError):
        made(CASES[3], within=1e-6)
