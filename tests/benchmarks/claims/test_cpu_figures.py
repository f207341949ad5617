"""The CPU's figures: verdicts on planted rows, what one row says, and one trial run of the whole command."""

from __future__ import annotations

import json
import os
import signal
import sys

import pytest

from glpn_deploy.benchmarks.claims import cpu_figures, cpu_parts, cpu_profile, cpu_runs
from glpn_deploy.benchmarks.claims.cpu_rows import EAGER, EXPORT, Files, Options, cases, row
from glpn_deploy.benchmarks.claims.cpu_verdicts import judge, lacking
from glpn_deploy.benchmarks.measuring.rounds import Live
from glpn_deploy.benchmarks.workload.cases import Case
from glpn_deploy.errors import BackendError

AMX = frozenset({"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8"})
AVX2 = frozenset({"avx2"})


def planted_rows(**changes: dict) -> dict:
    rows = {
        EXPORT: {"median_ms": 840.0},
        "onnxruntime fp32": {"median_ms": 660.0, "over_export": 1.27, "peak_gb": 0.97},
        "openvino fp32": {"median_ms": 560.0, "over_export": 1.50, "of_ceiling": 0.84, "peak_gb": 1.6},
        "openvino bf16": {"median_ms": 130.0, "over_export": 6.4, "over_eager": 9.4},
        "openvino int8": {"median_ms": 120.0, "over_export": 7.0},
        "openvino int8+bf16": {"median_ms": 105.0, "over_export": 8.0},
        "openvino fp32 batch 8": {"over_batch_1": 1.2},
    }
    return {**rows, **changes}


def verdicts(rows: dict, extra: dict, flags: frozenset[str] | None, **options: bool) -> dict[str, str]:
    figures = judge(rows, extra, flags, stand_in=options.get("stand_in", False))
    return {figure.name: figure.verdict for figure in figures}


def test_each_figure_is_held_against_what_is_asked():
    extra = {
        "accuracy": {"openvino bf16": 0.004, "openvino int8": 0.03, "openvino int8+bf16": 0.01},
        "start": {
            "fp32": {"warm_s": 2.1},
            "bf16": {"warm_s": 1.9},
            "auto": {"backend": "openvino", "why": ""},
        },
        "end_to_end": {"over_bare_running": 0.08},
        "limited": {"auto, by setting": "runs (onnxruntime)", "openvino, emulated": "ended with status -4"},
    }
    found = verdicts(planted_rows(), extra, AMX)
    optimum = "Optimum's export in ONNX Runtime"
    assert found == {
        f"FP32 ONNX Runtime over {optimum}": "reached",
        f"FP32 OpenVINO over {optimum}": "reached",
        "FP32 OpenVINO of the FP32 ceiling": "missed",
        f"bf16 OpenVINO over {optimum}": "reached",
        "bf16 OpenVINO over HF eager": "reached",
        f"INT8 OpenVINO over {optimum}": "missed",
        f"INT8 and bf16 OpenVINO over {optimum}": "reached",
        "openvino bf16 against FP32, demo network": "reached",
        "openvino int8 against FP32, demo network": "missed",
        "openvino int8+bf16 against FP32, demo network": "reached",
        "onnxruntime int8 against FP32, demo network": "not judged",
        "batch 8 over batch 1, OpenVINO": "reached",
        "batch 8 over batch 1, ONNX Runtime": "not judged",
        "peak memory, FP32 openvino": "missed",
        "peak memory, FP32 onnxruntime": "reached",
        "first depth map from a warm cache, fp32": "missed",
        "first depth map from a warm cache, bf16": "reached",
        "glpn-predict on many over bare": "reached",
        "auto's choice over the fastest, FP32": "reached",
        "without AVX-512: auto, by setting": "reached",
        "without AVX-512: openvino, emulated": "missed",
    }


def test_auto_that_took_the_slower_one_is_told():
    found = verdicts(planted_rows(), {"start": {"auto": {"backend": "onnxruntime"}}}, AMX)
    assert found["auto's choice over the fastest, FP32"] == "missed"


def test_what_a_processor_lacks_is_said_beside_what_it_misses():
    rows = planted_rows(**{"openvino bf16": {"not_run": "openvino gives fp32 from this file, not bf16"}})
    figures = judge(rows, {}, AVX2, stand_in=True)
    mine = [figure for figure in figures if figure.name.startswith(("bf16 OpenVINO", "INT8 OpenVINO"))]
    assert [figure.verdict for figure in mine] == ["not judged", "not judged", "missed"]
    assert [figure.note for figure in mine] == [
        "no AMX (no bf16 arithmetic)",
        "no AMX (no bf16 arithmetic)",
        "no AMX (no VNNI, INT8 products saturate)",
    ]
    export = next(figure for figure in figures if figure.name.startswith("FP32 ONNX Runtime"))
    assert "HF's torch.onnx export" in export.name
    assert "Optimum is not installed" in export.note


def test_what_the_ceiling_allows_is_said_beside_what_is_missed():
    rows = planted_rows()
    rows["openvino bf16"] = {"over_export": 4.0, "over_eager": 9.4, "of_ceiling": 0.8}
    figures = judge(rows, {}, AMX - {"amx_bf16"}, stand_in=False)
    notes = {figure.name: figure.note for figure in figures if figure.name.startswith("bf16 OpenVINO")}
    missed, reached = (
        notes["bf16 OpenVINO over Optimum's export in ONNX Runtime"],
        notes["bf16 OpenVINO over HF eager"],
    )
    assert missed == "no AMX (AVX512_BF16 only); at the measured ceiling it would be 5x"
    assert "ceiling" not in reached


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_narrow_product_that_is_slow_is_measured_on_the_small_trial_only(precision, monkeypatch):
    monkeypatch.setattr(cpu_runs, "_SLOW_GFLOPS", float("inf"))
    monkeypatch.setattr(cpu_runs, "_TRIAL_SIDE", 64)
    monkeypatch.setattr(cpu_runs, "_SIDE", 0)  # would divide by no time at all
    assert 0 < cpu_runs.product_rate(precision, 1) < 1e4


def test_what_processors_lack():
    assert lacking(AMX) == {}
    assert lacking(None) == {}
    assert lacking(AMX - {"amx_bf16", "amx_int8"}) == {
        "bf16": "no AMX (AVX512_BF16 only)",
        "int8": "no AMX (VNNI only)",
    }


def test_a_row_counts_images_and_compares_within_rounds():
    """The machine slows down fourfold half way; ratios, counted an image, do not move."""
    slow = {number: 4.0 if number > 5 else 1.0 for number in range(10)}
    samples = {
        EXPORT: {number: [100 * by] for number, by in slow.items()},
        EAGER: {number: [300 * by] for number, by in slow.items()},
        "openvino fp32": {number: [50 * by] for number, by in slow.items()},
    }
    eight = {number: [320 * by] for number, by in slow.items()}
    live = Live(Case("openvino", "fp32", 8, 64, 96), None, {}, samples=eight, peak_mib=1000.0)
    found = row(live, samples, 10**9, {"fp32": 50.0})
    assert found["over_export"] == pytest.approx(2.5)
    assert found["over_eager"] == pytest.approx(7.5)
    assert found["over_batch_1"] == pytest.approx(1.25)
    assert found["images_per_s"] == pytest.approx(8e3 / found["median_ms"])
    assert found["of_ceiling"] == pytest.approx(8e9 / (found["median_ms"] / 1e3) / 50e9)
    assert found["peak_gb"] == pytest.approx(1.048576)


def test_optimum_is_asked_for_where_it_is(tmp_path):
    files = Files(tmp_path, tmp_path / "a.onnx", tmp_path / "b.onnx", (), None)
    assert cases(Options(), files)[EXPORT].backend == "optimum"
    files = Files(tmp_path, tmp_path / "a.onnx", tmp_path / "b.onnx", (), tmp_path / "hf.onnx")
    export = cases(Options(threads=2), files)[EXPORT]
    assert (export.backend, export.path, export.threads) == ("onnxruntime", str(tmp_path / "hf.onnx"), 2)


def test_a_command_that_fails_says_why(tmp_path):
    with pytest.raises(BackendError, match=r"glpn-predict ended with status 2: error: .* has no images"):
        cpu_runs.predict(tmp_path / "nothing.onnx", tmp_path)


def test_streams_count_every_image(tiny_onnx):
    found = cpu_runs.streams("onnxruntime", tiny_onnx, (2, 3, 64, 96), 2, 2, 0.2)
    assert found["one"] > 0
    assert found["gain"] == pytest.approx(found["side_by_side"] / found["one"])


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_measuring_process_that_is_killed_is_one_sentence():
    with pytest.raises(BackendError, match=r"measured _end was ended; see whether memory ran out"):
        cpu_runs.alone(_end)


@pytest.mark.parametrize("threads", [1, None])
def test_profiles_add_up_to_less_than_the_whole_run(tiny_onnx, threads):
    shape = (1, 3, 64, 96)
    for profile in (
        cpu_profile.onnxruntime_profile(tiny_onnx, shape, threads),
        cpu_runs.alone(cpu_profile.openvino_profile, tiny_onnx, shape, threads, "fp32"),
    ):
        assert list(profile.values()) == sorted(profile.values(), reverse=True)
        assert {"Conv", "Convolution", "MatMul", "FullyConnected"} & profile.keys()
        assert 0 < sum(profile.values()) < 200  # ms, of a network of some thousand weights


def test_a_part_that_fails_is_named_and_ends_no_other(tiny_checkpoint, tmp_path, monkeypatch, capsys):
    """And the report goes on from what another run of the command has measured."""
    options = ["--quick", "--size", "64x96", "--threads", "1", "--out", str(tmp_path)]
    options += ["--optimum", sys.executable]  # spares the export by torch.onnx, which only rows need
    options += ["--checkpoint", str(tiny_checkpoint)]

    def fail(besides):
        raise RuntimeError("no memory")

    monkeypatch.setattr(cpu_parts.Besides, "profile", fail)
    with pytest.raises(SystemExit) as ended:
        cpu_figures.main([*options, "--only", "streams,profile"])
    assert ended.value.code == 1
    assert "profile was not measured: no memory" in capsys.readouterr().out
    report = json.loads((tmp_path / "cpu_figures.json").read_text())
    assert report["not_measured"] == {"profile": "no memory"}
    monkeypatch.undo()
    cpu_figures.main([*options, "--only", "profile"])
    again = json.loads((tmp_path / "cpu_figures.json").read_text())
    assert again["streams"] == report["streams"]
    assert again["profile"]["onnxruntime fp32"]
    assert again["not_measured"] == {}
    with pytest.raises(SystemExit) as ended:
        cpu_figures.main([*options[:-2], "--only", "profile"])  # another checkpoint
    assert ended.value.code == 2
    assert "of another settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threads", "0"], "--threads 0: at least 1"),
        (["--only", "rows,everything"], "--only rows,everything: some of rows, start"),
        (["--checkpoint", "/nowhere/at/all", "--quick"], "/nowhere/at/all"),
    ],
)
def test_wrong_use_is_one_sentence(options, message, capsys):
    with pytest.raises(SystemExit) as ended:
        cpu_figures.main(options)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("size", ["100x64", "64", "0x32", "64x96x3"])
def test_sizes_are_multiples_of_32(size, capsys):
    with pytest.raises(SystemExit):
        cpu_figures.main(["--size", size])
    assert "two multiples of 32" in capsys.readouterr().err


@pytest.mark.slow
def test_a_trial_run_measures_everything(tiny_checkpoint, tmp_path, capsys):
    options = ["--quick", "--size", "64x96", "--threads", "1", "--out", str(tmp_path)]
    cpu_figures.main(["--checkpoint", str(tiny_checkpoint), *options])
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "cpu_figures.json").read_text())
    assert report["format"] == "glpn-deploy-cpu-figures"
    assert report["rows"][EXPORT]["over_export"] == pytest.approx(1.0)
    assert report["rows"]["onnxruntime fp32"]["rounds"] >= 6
    assert all(rate > 0 for rate in report["ceilings_gflops_per_s"].values())
    assert report["ceilings_gflops_per_s"].keys() == {"fp32", "bf16", "int8"}
    assert report["ceilings_gflops_per_s"]["fp32"] > report["rows"]["onnxruntime fp32"]["gflops_per_s"]
    assert report["start"]["auto"]["backend"] in ("onnxruntime", "openvino")
    assert 0 < report["start"]["fp32"]["warm_s"] < report["seconds"]["start"]
    assert report["not_measured"] == {}
    assert all(said.startswith("runs") for said in report["limited"].values())
    assert {figure["verdict"] for figure in report["figures"]} <= {
        "reached",
        "missed",
        "not judged",
        "reported",
    }
    assert "asked and measured" in printed
