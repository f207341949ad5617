"""What the sections of the figures are made of, each on something small."""

from __future__ import annotations

import json
from unittest.mock import MagicMock

import pytest
from PIL import Image

from glpn_deploy.benchmarks.claims import cpu, cpu_peers, main_job
from glpn_deploy.benchmarks.claims.demo import motorcycle
from glpn_deploy.benchmarks.claims.running import FigureOptions, run_command
from glpn_deploy.benchmarks.report.results import Report
from glpn_deploy.errors import BackendError


@pytest.mark.slow
def test_this_network_is_transformers(monkeypatch) -> None:
    found = main_job.against_transformers(2)
    assert found["configurations"] == 2
    assert 0 <= max(found["max_difference"].values()) < 1e-4


def test_one_photograph_with_and_without_scaling() -> None:
    found = motorcycle("demo")
    assert found["depth_m"] == [pytest.approx(2.11, abs=0.01), pytest.approx(5.02, abs=0.01)]
    for size in ("original", "reduced"):
        assert 0 < found[size]["metric"]["delta1"] < 1
        assert found[size]["median_scaled"]["abs_rel"] < found["original"]["metric"]["abs_rel"]


def test_rows_are_known_by_backend_and_precision(samples, row, report) -> None:
    base = samples(20.0, 1)
    whole: Report = report(
        [row(base, baseline=base), row(samples(10.0, 2), baseline=base, backend="openvino")]
    )
    found = cpu.rows(whole)
    assert found.keys() == {"onnxruntime fp32", "openvino fp32"}
    assert found["openvino fp32"]["speedup"]["value"] == pytest.approx(2, rel=0.02)
    assert found["openvino fp32"]["peak_memory_mib"] == 100


def test_a_row_is_compared_with_the_fastest_peer_of_its_precision(samples, row, report) -> None:
    whole: Report = report(
        [
            row(samples(20.0, 1), backend="openvino"),
            row(samples(30.0, 2), backend="openvino-optimum"),
            row(samples(40.0, 3), backend="onnxruntime", precision="int8"),
            row(samples(50.0, 4), backend="ort-static", precision="int8"),
            row(samples(45.0, 5), backend="modelopt", precision="int8"),
        ]
    )
    found = cpu_peers.beside(whole)
    assert found["times_as_fast"].keys() == {"openvino fp32", "onnxruntime int8"}
    assert found["times_as_fast"]["openvino fp32"]["value"] == pytest.approx(1.5, rel=0.05)
    assert found["times_as_fast"]["onnxruntime int8"]["peer"] == "modelopt int8"
    assert found["times_as_fast"]["onnxruntime int8"]["value"] == pytest.approx(45 / 40, rel=0.05)
    assert found["rows"]["ort-static int8"]["median_ms"] == pytest.approx(50, rel=0.05)


@pytest.mark.parametrize("section", [cpu, cpu_peers])
def test_all_rows_of_a_table_meet_in_every_round(
    section, report, row, samples, tmp_path, monkeypatch
) -> None:
    """As many workers as there may be rows; peers are made in the Python that is named."""
    asked = []

    def sweep(bundle, options):
        asked.append(options)
        return report([row(samples(20.0, 1))])

    for name in ("warm_start", "predict_overhead", "run_command", "random_model"):
        monkeypatch.setattr(cpu, name, lambda *arguments: MagicMock())
    monkeypatch.setattr(cpu, "run_sweep", sweep)
    section.measure(FigureOptions(tmp_path, "/peers/python"))
    for options in asked:
        assert options.max_workers > len(options.backends) * len(options.precisions) + len(options.peers)
    assert set(asked[0].pythons.values()) == {"/peers/python"}
    assert "optimum" in asked[0].pythons


def test_what_a_command_adds_with_its_start_and_without() -> None:
    """Two seconds to start, then 1.1 s an image where the network takes 1 s."""
    found = cpu.overhead(one_s=3.1, many_s=2 + 1.1 * 100, count=100, bare_s=1.0)
    assert found["over_bare_running"] == pytest.approx(0.1)
    assert found["over_bare"] == pytest.approx(0.12)


@pytest.mark.slow
def test_a_command_is_timed_to_its_first_depth_map(tiny_onnx, tmp_path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (64, 64), "gray").save(tmp_path / name)
    found = cpu.predict(tiny_onnx, tmp_path, "--backend", "onnxruntime")
    assert 0 < found.first_s <= found.seconds + 0.1  # files carry the system's clock
    assert found.told["runtime"]["backend"] == "onnxruntime"


def test_a_command_that_fails_says_why(tmp_path) -> None:
    with pytest.raises(BackendError) as caught:
        cpu.predict(tmp_path / "nothing.onnx", tmp_path)
    assert "glpn-predict ended with status 2: error: " in str(caught.value)


@pytest.mark.slow
def test_rooms_are_judged_as_users_judge_them() -> None:
    found = json.loads(run_command("eval", "demo", "--dataset", "rooms", "--count", "1", "--json"))
    assert found["images"] == 1
    assert found["metrics"].keys() >= {"delta1", "abs_rel", "rmse"}
