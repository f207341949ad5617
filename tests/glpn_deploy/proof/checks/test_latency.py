"""The verdict on latencies that are known, and on the tiny network as this machine runs it."""

from __future__ import annotations

import itertools
import json

import onnx
import pytest

from glpn_deploy.errors import BundleError, InputError
from glpn_deploy.proof.checks.latency import (
    ROUNDS,
    compare_times,
    measure_verdict,
)
from glpn_deploy.runtimes import choose, rt_openvino
from glpn_deploy.timing.order_statistics import FEWEST
from tests.refusals import refused

SHAPE = (1, 64, 96)


def test_a_faster_artefact_is_worth_it():
    verdict = compare_times("int8", "onnxruntime, cpu", SHAPE, [14.2] * 8, [10.0] * 8)
    assert verdict.recommended
    assert verdict.speedup == pytest.approx(1.42)
    assert "int8 is 1.42 times as fast as fp32 here (onnxruntime, cpu, 1x64x96" in verdict.sentence
    assert verdict.sentence.endswith("worth it")


def test_a_slower_artefact_is_never_recommended():
    verdict = compare_times("int8", "onnxruntime, cpu", SHAPE, [10.0] * 8, [20.0] * 8)
    assert not verdict.recommended
    assert verdict.speedup == pytest.approx(0.5)
    assert "slower" in verdict.sentence
    assert "not worth it on this machine; build it for the target and measure there" in verdict.sentence


def test_a_gain_within_the_noise_is_not_recommended():
    """Median 1.1, yet two of six rounds were slower: the interval reaches below 1."""
    verdict = compare_times("fp16", "here", SHAPE, [8.0, 9.0, 11.0, 11.0, 12.0, 12.0], [10.0] * 6)
    assert verdict.speedup == pytest.approx(1.1)
    assert (verdict.speedup_low, verdict.speedup_high) == (0.8, 1.2)
    assert not verdict.recommended
    assert "not clearly faster" in verdict.sentence


def test_a_sure_but_small_gain_is_not_recommended():
    verdict = compare_times("fp16", "here", SHAPE, [10.3] * 8, [10.0] * 8)
    assert verdict.speedup_low > 1
    assert not verdict.recommended
    assert "hardly faster" in verdict.sentence


def test_ratios_are_taken_round_by_round():
    """A machine that slows down sixfold hits both alike; the ratio of the medians would not be 2."""
    fp32 = [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]
    verdict = compare_times("int8", "here", SHAPE, fp32, [x / 2 for x in fp32])
    assert (verdict.speedup, verdict.speedup_low, verdict.speedup_high) == (2.0, 2.0, 2.0)
    assert (verdict.fp32_ms, verdict.candidate_ms) == (7.0, 3.5)


def test_the_network_is_measured_beside_itself(tiny_onnx):
    verdict = measure_verdict(tiny_onnx, tiny_onnx, "fp16", SHAPE)
    assert verdict.rounds == ROUNDS
    assert verdict.fp32_ms > 0
    assert verdict.candidate_ms > 0
    assert verdict.speedup_low <= verdict.speedup <= verdict.speedup_high
    assert json.loads(json.dumps(verdict.to_dict(), allow_nan=False))["shape"] == [1, 64, 96]


@pytest.mark.parametrize(
    ("flags", "where"),
    [
        ({"avx2", "avx512f", "avx512_vnni"}, "openvino, cpu"),
        ({"avx2", "avx512f"}, "onnxruntime against openvino, cpu"),  # INT8 without VNNI
        ({"avx2"}, "onnxruntime, cpu"),
    ],
)
def test_each_runs_in_what_auto_takes_for_it(flags, where, tiny_onnx, monkeypatch):
    monkeypatch.setattr(choose, "cpu_flags", lambda: frozenset(flags))
    verdict = measure_verdict(tiny_onnx, tiny_onnx, "int8", SHAPE)
    assert verdict.where == where
    assert f"({where}, 1x64x96" in verdict.sentence


def test_a_backend_that_does_not_load_gives_way_to_the_next(tiny_onnx, monkeypatch):
    """As where ONEDNN_MAX_CPU_ISA hides AVX-512 from half of OpenVINO: an export must not end by that."""
    monkeypatch.setattr(choose, "cpu_flags", lambda: frozenset({"avx2", "avx512f", "avx512_vnni"}))
    monkeypatch.setattr(rt_openvino, "hides_avx512", lambda *_: "ONEDNN_MAX_CPU_ISA=AVX2")
    verdict = measure_verdict(tiny_onnx, tiny_onnx, "int8", SHAPE)
    assert verdict.where == "onnxruntime, cpu"
    assert verdict.rounds == ROUNDS


def test_rounds_that_assure_an_interval_are_made_whatever_the_time_limit(tiny_onnx):
    late = itertools.count(0, 1000).__next__  # every look at the clock is a quarter of an hour later
    assert measure_verdict(tiny_onnx, tiny_onnx, "fp16", SHAPE, clock=late).rounds == FEWEST


def test_what_cannot_run_here_is_said_and_not_recommended(tiny_onnx, tmp_path, monkeypatch):
    monkeypatch.setattr(choose, "cpu_flags", lambda: frozenset({"avx2"}))
    model = onnx.load(str(tiny_onnx))
    model.graph.node[0].op_type = "NoSuchOperator"
    broken = tmp_path / "model.bf16.onnx"
    onnx.save_model(model, str(broken))
    verdict = measure_verdict(tiny_onnx, broken, "bf16", SHAPE)
    assert not verdict.recommended
    assert verdict.speedup is None
    assert verdict.sentence.startswith("bf16 cannot run here (onnxruntime, cpu: ")
    assert verdict.sentence.endswith("build it for its target and measure there")
    assert "model.bf16.onnx" in verdict.sentence
    assert str(tmp_path) not in verdict.sentence


def test_a_broken_original_is_not_blamed_on_the_candidate(tiny_onnx, tmp_path):
    with refused(BundleError, got="no file"):
        measure_verdict(tmp_path / "none.onnx", tiny_onnx, "fp16", SHAPE)
    with refused(InputError, expected="multiple of 32"):
        measure_verdict(tiny_onnx, tiny_onnx, "fp16", (1, 33, 64))


def test_the_interval_of_ten_rounds_leaves_out_one_at_either_end():
    """Rank 2 of 10 in the printed tables of the sign test (97.9 %; rank 3 would give 89 %)."""
    verdict = compare_times("int8", "here", SHAPE, [float(n) for n in range(11, 21)], [10.0] * 10)
    assert (verdict.speedup_low, verdict.speedup_high) == (1.2, 1.9)
