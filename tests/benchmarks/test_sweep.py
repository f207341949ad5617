"""Whole benchmarks: once with real processes, otherwise with ones that answer as planted."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glpn_deploy.benchmarks.options import BenchOptions, RoundOptions
from glpn_deploy.benchmarks.report.results import Report
from glpn_deploy.benchmarks.sweep import run_sweep
from glpn_deploy.benchmarks.workload.cases import CALIBRATION, Case, CaseId
from glpn_deploy.bundle.bundle import Bundle, write_manifest
from glpn_deploy.datasets.options import GroundTruthOptions
from glpn_deploy.errors import BackendError, GlpnError, InputError
from tests.benchmarks import planted_process as planted
from tests.refusals import refused

QUICK = RoundOptions(half_width=0.99, seconds=60.0, fewest=6)  # ends after six rounds
BOTH = BenchOptions(
    backends=("onnxruntime", "null"), shapes=((32, 45),), rounds=QUICK, baseline="onnxruntime:fp32"
)


def answering(**by_name: dict[str, object]) -> Callable[[Case], object]:
    """Starts planted processes; options by ``backend``, or ``backend_precision``."""

    def start(case: Case) -> Any:
        named = by_name.get(f"{case.backend}_{case.precision}", by_name.get(case.backend, {}))
        return planted.PlantedProcess(case, **named)

    return start


def left_out(report: Report) -> list[tuple[CaseId, str]]:
    """Without the note that the bundle names no checkpoint."""
    return [(item.case, item.part) for item in report.not_run if item.part != "reference"]


def with_fp16(bundle_copy: Path) -> Path:
    """The bundle with an FP16 artefact, which is the FP32 one."""
    bundle = Bundle.open(bundle_copy)
    (artefact,) = (a for a in bundle.manifest.artefacts if a.precision == "fp32")
    half = dataclasses.replace(artefact, precision="fp16")
    write_manifest(bundle_copy, dataclasses.replace(bundle.manifest, artefacts=(artefact, half)))
    return bundle_copy


@pytest.fixture(scope="module")
def real(tiny_bundle) -> Report:
    """Every kind of measurement, each in real processes."""
    options = dataclasses.replace(
        BOTH,
        precisions=("fp32",),
        batches=(2,),
        evaluate=GroundTruthOptions(dataset="rooms", count=2),
        callers=(2,),
        load_seconds=0.1,
        null_delay_ms=5.0,
    )
    return run_sweep(tiny_bundle, options)


@pytest.mark.slow
def test_real_rows_have_all_that_was_measured(real, tiny_bundle) -> None:
    first, null = real.rows
    assert [row.id for row in real.rows] == [
        CaseId(name, "fp32", (2, 32, 45)) for name in ("onnxruntime", "null")
    ]
    assert left_out(real) == []
    assert first.network_size == (32, 32)
    assert real.reference in ("torch fp32", "onnxruntime fp32")
    assert first.error["max_abs_m"] < 1e-4
    assert null.error["max_abs_m"] > 0.01
    assert (first.speedup.value, first.speedup.low) == (1, 1)
    assert first.accuracy["images"] == 2
    assert set(first.stages) == {"decode", "preprocess", "compute", "postprocess"}
    assert first.stages["compute"] == first.latency.median_ms
    assert "Conv" in first.operators
    assert null.operators == {}
    assert first.disk_bytes == (tiny_bundle / "model.onnx").stat().st_size
    assert first.product_share > 0
    assert [one["callers"][0]["callers"] for one in real.load] == [2, 2]


@pytest.mark.slow
def test_the_planted_delay_is_measured_and_all_of_it_is_kept(real) -> None:
    row = real.rows[1]
    assert row.latency.min_ms >= 5
    assert sum(map(len, row.samples.values())) == row.latency.runs
    assert -1 in row.warm_up  # what was run before the first round
    assert row.warm_up.keys() - {-1} == row.samples.keys()
    assert real.calibration.keys() >= row.samples.keys()
    assert row.images_per_s == pytest.approx(2e3 / row.latency.median_ms)
    assert real.load[1]["callers"][0]["images_per_s"] <= 2 * 2 / 0.005


@pytest.mark.slow
def test_the_harness_reads_less_than_half_a_percent_of_the_shortest_case(real) -> None:
    assert 0 < real.harness["overhead_ms"] < 0.02
    assert real.harness["share_of_shortest"] == real.harness["overhead_ms"] / min(
        row.latency.median_ms for row in real.rows
    )


def test_what_fails_ends_nothing_else(bundle_copy) -> None:
    """One precision does not load, one does only when it is measured, and a peer is missing."""
    start = answering(
        onnxruntime_fp16={"fails": ("load",)}, onnxruntime_bf16={"fails": ("outputs",)}, null={"depth": 9.0}
    )
    options = dataclasses.replace(BOTH, peers=("optimum",))
    report = run_sweep(with_fp16(bundle_copy), options, start)
    assert [str(row.id.runner) for row in report.rows] == [
        "onnxruntime fp32",
        "onnxruntime bf16",
        "null fp32",
    ]
    left_out = {(item.case, item.part): item.reason for item in report.not_run}
    assert left_out[CaseId("onnxruntime", "fp16", (1, 32, 45)), "latency"] == "planted: load."
    assert left_out[CaseId("onnxruntime", "bf16", (1, 32, 45)), "extras"] == "planted: outputs."
    assert report.rows[1].error is None
    assert report.rows[2].error["abs_rel"] == pytest.approx(3.5)
    assert report.rows[0].stages == {"decode": 1.0, "compute": 20.0}  # the row's own median
    assert report.rows[0].operators == {"Conv": 15.0}


def test_what_a_file_does_not_give_is_tried_at_one_shape_only(tiny_bundle) -> None:
    tried: list[CaseId] = []
    answer = answering(onnxruntime_bf16={"fails": ("load",)})

    def start(case: Case) -> Any:
        tried.append(case.id)
        return answer(case)

    options = dataclasses.replace(BOTH, shapes=((32, 45), (64, 96)))
    report = run_sweep(tiny_bundle, options, start)
    assert len(report.rows) == 4
    assert [case.shape for case in tried if case.precision == "bf16"] == [(1, 32, 45)]


def test_workers_that_do_not_fit_come_in_groups_with_the_baseline_anew(bundle_copy) -> None:
    """Three at a time, the calibration among them; the machine is half as fast after the first group."""
    started: list[CaseId] = []
    times = {"onnxruntime fp16": 10.0, "null fp32": 40.0}

    def start(case: Case) -> Any:
        started.append(case.id.runner)
        slower = 2 if started.count(CaseId(CALIBRATION, "fp32")) > 1 else 1
        return planted.PlantedProcess(case, median_ms=slower * times.get(str(case.id.runner), 20.0))

    options = dataclasses.replace(BOTH, max_workers=3)
    report = run_sweep(with_fp16(bundle_copy), options, start)
    baseline = [runner for runner in started if str(runner) == "onnxruntime fp32"]
    assert len(baseline) == started.count(CaseId(CALIBRATION, "fp32")) == 3
    assert report.rows[0].latency.median_ms == 20
    assert {str(row.id.runner): row.speedup.value for row in report.rows} == {
        "onnxruntime fp32": 1.0,
        "onnxruntime fp16": 2.0,
        "onnxruntime bf16": 1.0,
        "null fp32": 0.5,
    }


def test_no_case_that_runs_is_no_wrong_use(tiny_bundle) -> None:
    with pytest.raises(BackendError) as caught:
        run_sweep(tiny_bundle, BOTH, answering(onnxruntime={"fails": ("load",)}, null={"fails": ("run",)}))
    assert caught.value.exit_code == 1
    assert "onnxruntime fp32 1x32x45: planted: load; " in str(caught.value)
    assert ".;" not in str(caught.value)
    assert ".)" not in str(caught.value)


def test_callers_that_fail_are_told_beside_their_row(tiny_bundle) -> None:
    options = dataclasses.replace(BOTH, precisions=("fp32",), callers=(2,))
    report = run_sweep(tiny_bundle, options, answering(null={"fails": ("callers",)}))
    assert [len(one["callers"]) for one in report.load] == [1, 0]
    assert report.load[0]["callers"][0]["images_per_s"] == 100.0
    assert left_out(report) == [(CaseId("null", "fp32", (1, 32, 45)), "load")]


def test_an_interruption_keeps_the_shapes_that_were_complete(tiny_bundle) -> None:
    answer = answering()

    def start(case: Case) -> Any:
        if case.batch == 2:
            raise KeyboardInterrupt
        return answer(case)

    options = dataclasses.replace(BOTH, precisions=("fp32",), batches=(1, 2), callers=(2,))
    report = run_sweep(tiny_bundle, options, start)
    assert report.interrupted
    assert [row.batch for row in report.rows] == [1, 1]
    assert left_out(report) == [
        (CaseId(shape=(2, 32, 45)), "latency"),
        (CaseId(), "load"),
    ]
    with pytest.raises(KeyboardInterrupt):
        run_sweep(tiny_bundle, dataclasses.replace(options, batches=(2,)), start)


def test_a_peer_that_is_the_baseline_is_a_row_too(tiny_bundle, tiny_checkpoint) -> None:
    options = BenchOptions(
        backends=("null",),
        precisions=("fp32",),
        shapes=((32, 45),),
        rounds=QUICK,
        baseline="hf-eager:fp32",
        reference=str(tiny_checkpoint),
    )
    report = run_sweep(tiny_bundle, options, answering(null={"median_ms": 10.0}))
    assert [row.backend for row in report.rows] == ["hf-eager", "null"]
    assert report.baseline == "hf-eager fp32"
    assert report.rows[1].speedup.value == 2.0


@pytest.mark.parametrize(
    "change",
    [
        {"backends": ()},
        {"backends": ("tvm",)},
        {"baseline": "torch"},
        {"peers": ("keras",)},
        {"shapes": ((20, 20),)},
        {"reference": "/nowhere"},
    ],
)
def test_wrong_use_is_refused_before_anything_runs(change, tiny_bundle) -> None:
    started: list[Case] = []
    with pytest.raises(GlpnError) as caught:
        run_sweep(tiny_bundle, dataclasses.replace(BOTH, **change), started.append)
    assert caught.value.exit_code == 2
    assert started == []


def test_another_checkpoint_is_not_the_reference(bundle_copy, tiny_checkpoint, tmp_path) -> None:
    other = shutil.copytree(tiny_checkpoint, tmp_path / "other")
    text = (other / "config.json").read_text()
    (other / "config.json").write_text(text.replace('"max_depth": 10', '"max_depth": 80'))
    with refused(InputError, got="not the checkpoint"):
        run_sweep(bundle_copy, dataclasses.replace(BOTH, reference=str(other)))


def test_a_peer_may_have_another_python() -> None:
    assert BenchOptions(pythons={"optimum": "/venv/bin/python"}).pythons == {"optimum": "/venv/bin/python"}
    with pytest.raises(InputError):
        BenchOptions(pythons={"tvm": "python3"})


@pytest.mark.parametrize(
    "change",
    [
        {"shapes": ()},
        {"batches": (0,)},
        {"max_workers": 1},
        {"threads": 0},
        {"callers": (0,)},
        {"load_seconds": float("inf")},
    ],
)
def test_options_out_of_range(change) -> None:
    with pytest.raises(InputError):
        BenchOptions(**change)


@pytest.mark.parametrize(
    "change", [{"half_width": 0.0}, {"seconds": 0.0}, {"seconds": float("inf")}, {"fewest": 5}]
)
def test_options_of_rounds(change) -> None:
    with pytest.raises(InputError):
        RoundOptions(**change)
