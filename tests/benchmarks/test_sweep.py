"""Whole benchmarks with the null backend's planted delays, each case in its own process."""

from __future__ import annotations

import dataclasses
import re
import shutil

import pytest

from glpn_deploy.benchmarks import sweep
from glpn_deploy.benchmarks.measuring.load_runs import LoadOptions
from glpn_deploy.benchmarks.measuring.rounds import RoundOptions
from glpn_deploy.benchmarks.options import BenchOptions, EvalChoice
from glpn_deploy.benchmarks.report.compare import CompareOptions, compare_reports
from glpn_deploy.benchmarks.report.report_markdown import markdown
from glpn_deploy.benchmarks.report.results import Report
from glpn_deploy.benchmarks.sweep import run_sweep
from glpn_deploy.benchmarks.workload.cases import NotRun
from glpn_deploy.bundle.bundle import Bundle, write_manifest
from glpn_deploy.errors import BackendError, GlpnError, InputError

QUICK = RoundOptions(half_width=0.02, seconds=20.0)  # ends after 15 rounds, about 7 s
NULL = BenchOptions(backends=("null",), shapes=((32, 32),), rounds=QUICK, null_delay_ms=20.0, stages=False)


@pytest.fixture(scope="module")
def null_runs(tiny_bundle) -> dict[str, Report]:
    """Two equal ones and one that is 5 % slower."""
    slow = dataclasses.replace(NULL, null_delay_ms=21.0)
    return {name: run_sweep(tiny_bundle, o) for name, o in (("a", NULL), ("b", NULL), ("slow", slow))}


def without_calibration(report: Report) -> Report:
    """The null backend sleeps: the machine's speed, which other programs change, is not its own."""
    return dataclasses.replace(report, calibration={})


@pytest.mark.slow
def test_two_real_runs_are_no_different(null_runs) -> None:
    a, b = without_calibration(null_runs["a"]), without_calibration(null_runs["b"])
    assert compare_reports(a, b, CompareOptions(anyway=True)).cases[0].verdict == "no difference"


@pytest.mark.slow
def test_a_real_slow_down_of_five_percent_is_found(null_runs) -> None:
    a, slow = without_calibration(null_runs["a"]), without_calibration(null_runs["slow"])
    found = compare_reports(a, slow, CompareOptions(anyway=True))
    assert found.regressed
    assert found.cases[0].ratio.value == pytest.approx(1.05, abs=0.02)


@pytest.mark.slow
def test_the_planted_delay_is_what_is_measured_and_all_of_it_is_kept(null_runs) -> None:
    (row,) = null_runs["a"].rows
    assert row.latency.min_ms >= 20
    assert row.latency.median_ms == pytest.approx(20, rel=0.1)
    assert sum(map(len, row.samples.values())) == row.latency.runs
    assert -1 in row.warm_up  # what was run before the first round
    assert row.warm_up.keys() - {-1} == row.samples.keys()
    assert null_runs["a"].calibration.keys() >= row.samples.keys()
    assert row.images_per_s == pytest.approx(1e3 / row.latency.median_ms)


@pytest.mark.slow
def test_the_harness_reads_less_than_half_a_percent_of_the_shortest_case(null_runs) -> None:
    harness = null_runs["a"].harness
    assert 0 < harness["overhead_ms"] < 0.02
    assert harness["share_of_shortest"] <= 0.005


@pytest.mark.slow
def test_real_backends_rows_and_what_fails_beside_them(bundle_copy) -> None:
    """A graph that is no graph, a missing peer and a backend without the precision end nothing."""
    bundle = Bundle.open(bundle_copy)
    (artefact,) = (a for a in bundle.manifest.artefacts if a.precision == "fp32")
    (bundle_copy / "model.fp16.onnx").write_bytes(b"no graph")
    broken = dataclasses.replace(artefact, file="model.fp16.onnx", precision="fp16")
    write_manifest(bundle_copy, dataclasses.replace(bundle.manifest, artefacts=(artefact, broken)))
    report = run_sweep(
        bundle_copy,
        BenchOptions(
            backends=("onnxruntime", "null"),
            shapes=((64, 96), (32, 45)),
            batches=(2,),
            baseline="onnxruntime:fp32",
            peers=("optimum",),
            rounds=RoundOptions(half_width=0.2, seconds=0.5),
            evaluate=EvalChoice("rooms", None, 2),
            load=LoadOptions(callers=(2,), rates=(50.0,), seconds=0.2, soak_s=0.3),
        ),
    )
    keys = [f"{name} 2x{shape}" for shape in ("64x96", "32x45") for name in ("onnxruntime fp32", "null fp32")]
    assert [row.key for row in report.rows] == keys
    reasons = {item.name: item.reason for item in report.not_run}
    assert "glpn-verify" in reasons["onnxruntime fp16 2x64x96"]
    assert "gives fp32 from this file" in reasons["onnxruntime bf16 2x64x96"]
    assert "onnxruntime bf16 2x32x45" not in reasons  # once is enough
    first, null = report.rows[:2]
    assert first.network_size == (64, 96)
    assert report.rows[2].network_size == (32, 32)
    assert report.reference in ("torch fp32", "onnxruntime fp32")
    assert first.error["max_abs_m"] < 1e-4
    assert null.error["max_abs_m"] > 0.01
    assert first.speedup.value == 1
    assert null.speedup.value > 1
    assert first.accuracy["images"] == 2
    assert set(first.stages) == {"decode", "preprocess", "compute", "postprocess"}
    assert first.disk_bytes == (bundle_copy / "model.onnx").stat().st_size
    assert len(report.headlines) == 2
    assert all("null" not in line.split(":")[1].split(" is ")[0] for line in report.headlines)  # wrong depth
    by_key = {one["key"]: one for one in report.load}
    assert by_key[first.key]["callers"][0]["callers"] == 2
    assert by_key[first.key]["soak"]["runs"] > 0


@pytest.mark.slow
def test_an_overload_is_reported_and_loses_nothing(tiny_bundle) -> None:
    options = dataclasses.replace(
        NULL,
        rounds=RoundOptions(half_width=0.5, seconds=0.2),
        load=LoadOptions(rates=(100_000.0,), seconds=0.3, soak_s=0.3),
    )
    report = run_sweep(tiny_bundle, options)
    (load,) = report.load
    assert load["arrivals"][0]["requests"] == 30_000
    assert not load["arrivals"][0]["kept_up"]
    assert load["arrivals"][0]["unserved"] > 29_000
    assert load["soak"]["runs"] > 0
    assert "unserved" in " ".join(load["arrivals"][0])
    text = markdown(report)
    assert re.search(r"fell behind: [\d.]+/s served, 29\d{3} of 30000 left", text)
    assert re.search("memory (not judged|steady)", text)


@pytest.mark.slow
def test_no_case_that_runs_is_no_wrong_use(bundle_copy) -> None:
    """A graph that is no graph, and nothing beside it."""
    bundle = Bundle.open(bundle_copy)
    (artefact,) = (a for a in bundle.manifest.artefacts if a.precision == "fp32")
    (bundle_copy / "model.onnx").write_bytes(b"no graph")
    write_manifest(bundle_copy, dataclasses.replace(bundle.manifest, artefacts=(artefact,)))
    options = dataclasses.replace(NULL, backends=("onnxruntime",), precisions=("fp32",))
    with pytest.raises(BackendError, match=r"no case ran \(onnxruntime fp32 1x32x32: ") as caught:
        run_sweep(bundle_copy, options)
    assert caught.value.exit_code == 1
    assert ".;" not in str(caught.value)
    assert ".)" not in str(caught.value)


def test_a_peer_with_its_precision_is_a_row_too(tiny_bundle, tiny_checkpoint, monkeypatch) -> None:
    asked: list[str] = []

    def planned(*arguments: object) -> tuple[list, list]:
        asked.extend(arguments[4])
        return [], [NotRun("hf-eager", "planted.")]

    monkeypatch.setattr(sweep, "plan_runners", planned)
    with pytest.raises(InputError, match=r"nothing to measure \(hf-eager: planted\)"):
        run_sweep(tiny_bundle, dataclasses.replace(NULL, baseline="hf-eager:fp32"))
    assert asked == ["hf-eager"]


def test_not_one_case(bundle_copy) -> None:
    with pytest.raises(InputError, match="nothing to measure"):
        run_sweep(bundle_copy, dataclasses.replace(NULL, backends=()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backends": ("tvm",)}, "backend 'tvm'"),
        ({"baseline": "torch"}, "--baseline torch"),
        ({"peers": ("keras",)}, "peer 'keras'"),
        ({"shapes": ((20, 20),)}, "20 px"),
        ({"reference": "/nowhere"}, "nowhere"),
    ],
)
def test_wrong_use_is_refused_before_anything_runs(change, message, tiny_bundle) -> None:
    with pytest.raises(GlpnError, match=message):
        run_sweep(tiny_bundle, dataclasses.replace(NULL, **change))


def test_another_checkpoint_is_not_the_reference(bundle_copy, tiny_checkpoint, tmp_path) -> None:
    other = shutil.copytree(tiny_checkpoint, tmp_path / "other")
    text = (other / "config.json").read_text()
    (other / "config.json").write_text(text.replace('"max_depth": 10', '"max_depth": 80'))
    with pytest.raises(InputError, match="not the checkpoint"):
        run_sweep(bundle_copy, dataclasses.replace(NULL, reference=str(other)))


def test_a_peer_may_have_another_python() -> None:
    assert BenchOptions(pythons={"optimum": "/venv/bin/python"}).pythons == {"optimum": "/venv/bin/python"}
    with pytest.raises(InputError, match=r"a Python for backend 'tvm'; expected one of torch, .*optimum"):
        BenchOptions(pythons={"tvm": "python3"})


@pytest.mark.parametrize("change", [{"shapes": ()}, {"batches": (0,)}, {"live": 1}, {"threads": 0}])
def test_options_out_of_range(change) -> None:
    with pytest.raises(InputError):
        BenchOptions(**change)


def test_options_of_rounds() -> None:
    for change in ({"half_width": 0.0}, {"seconds": 0.0}, {"seconds": float("inf")}, {"fewest": 5}):
        with pytest.raises(InputError):
            RoundOptions(**change)
