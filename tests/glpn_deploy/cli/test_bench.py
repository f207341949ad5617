"""glpn-bench from its options to its files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from glpn_deploy.benchmarks import sweep
from glpn_deploy.benchmarks.workload.cases import PEERS
from tests.benchmarks import planted_process as planted


@pytest.mark.slow
def test_a_run_writes_its_reports(tiny_bundle, foreign_onnx, tmp_path, run) -> None:
    out = tmp_path / "out"
    result = run(
        *("bench", tiny_bundle, "--backend", "onnxruntime", "--precision", "fp32", "--size", "64x96"),
        *("--peers", f"optimum={foreign_onnx}", "--baseline", "optimum"),
        *("--seconds", 0.5, "--width", 50, "--eval", "rooms", "--count", 2, "--out", out),
    )
    assert result.status == 0, result.err
    assert "onnxruntime fp32" in result.out
    assert re.search(r"^Fastest: (onnxruntime|optimum) fp32, ", result.out, re.MULTILINE)
    assert f"glpn-bench {tiny_bundle} --remember" in result.out
    assert {path.name for path in out.iterdir()} == {"report.json", "report.md", "report.html"}
    values = json.loads((out / "report.json").read_text())
    keys = [row["key"] for row in values["rows"]]
    assert keys == ["optimum fp32 1x64x96", "onnxruntime fp32 1x64x96"]
    assert all(row["error"]["max_abs_m"] < 1e-4 for row in values["rows"])
    assert values["rows"][0]["samples"]
    assert "Accuracy on 2 images of rooms:" in result.out
    again = run("compare", out, out / "report.json", "--anyway")
    assert again.status == 0
    assert "no difference" in again.out


def test_json_goes_to_standard_output_alone(tiny_bundle, tmp_path, run, monkeypatch) -> None:
    monkeypatch.setattr(sweep, "start_worker", lambda case, pythons: planted.PlantedProcess(case))
    result = run(
        *("bench", tiny_bundle, "--backend", "null", "--size", "32x32", "--seconds", 0.3, "--no-stages"),
        *("--out", tmp_path, "--json"),
    )
    assert json.loads(result.out)["rows"][0]["backend"] == "null"


def test_what_was_fastest_is_remembered_shown_and_forgotten(tiny_bundle, tmp_path, run, monkeypatch) -> None:
    """Processes answer as planted, OpenVINO the fastest; bf16 is wrong by half."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    planted_ms = {("openvino", "fp32"): 10.0, ("openvino", "bf16"): 5.0}

    def start(case, pythons):
        about = (case.backend, case.precision)
        return planted.PlantedProcess(
            case, median_ms=planted_ms.get(about, 20.0), depth=3.0 if case.precision == "bf16" else 2.0
        )

    monkeypatch.setattr(sweep, "start_worker", start)
    words = (
        "bench",
        tiny_bundle,
        "--backend",
        "onnxruntime,openvino",
        "--precision",
        "fp32,bf16",
        "--quick",
    )
    result = run(*words, "--size", "32x32", "--out", tmp_path / "out", "--remember", "--within", 0.01)
    assert result.status == 0, result.err
    lines = result.out.splitlines()
    answer = next(line for line in lines if line.startswith("Fastest"))
    assert (
        answer
        == "Fastest: openvino fp32, 10.0 ms, surely faster than onnxruntime fp32 (2.00 times), AbsRel 0"
    )
    names = [line.split()[0] + line.split()[1] for line in lines[lines.index(answer) + 3 :][:4]]
    assert names[:2] == ["openvinobf16", "openvinofp32"]  # the fastest first, whatever its error
    assert "auto takes openvino for fp32, and fp32 where no precision is named" in result.out
    assert "A quick look" in result.out
    doctor = run("doctor")
    assert "openvino for networks like " in doctor.out
    assert "fp32 in 10 ms at 1x32x32" in doctor.out
    assert "1" in run("bench", tiny_bundle, "--forget").out
    assert "remembered" not in run("doctor").out
    assert "Nothing was remembered." in run("bench", tiny_bundle, "--forget").out


def test_a_quick_look_has_no_time_of_its_own(tiny_bundle, run, monkeypatch) -> None:
    nothing_may_run(monkeypatch)
    assert run("bench", tiny_bundle, "--quick", "--seconds", 5).status == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--backend", "tvm"), "backend 'tvm'"),
        (("--remember", "--mode", "throughput"), "--remember with --mode throughput"),
        (("--precision", "fp64"), "the option precision is 'fp64'"),
        (("--size", "480"), "--size '480'"),
        (("--batch", "1.5"), "whole numbers"),
        (("--batch", "a"), "--batch 'a'"),
        (("--batch", "inf"), "--batch 'inf'"),
        (("--batch", "1,nan"), "--batch '1,nan'"),
        (("--load-seconds", "inf"), "load_seconds is inf"),
        (("--seconds", "inf"), "seconds is inf"),
        (("--within", "0"), "within is 0"),
        (("--eval", "nyu"), "--eval nyu needs a path; pass --data-path"),
        (("--eval", "folder", "--data-path", "/nowhere"), "/nowhere"),
        (("--count", "3"), "--count without --eval"),
        (("--data-path", "rooms"), "--data-path without --eval"),
        (("--images", "/nowhere"), "--images /nowhere"),
        (("--python", "tensorrt"), "--python tensorrt"),
        (("--python", "tvm=python3"), "a Python for backend 'tvm'"),
    ],
)
def test_wrong_use_is_one_sentence(arguments, words, tiny_bundle, run, monkeypatch) -> None:
    nothing_may_run(monkeypatch)
    result = run("bench", tiny_bundle, *arguments)
    assert result.status == 2
    assert words in result.err
    assert result.err.count("\n") == 1


def nothing_may_run(monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("measured before it was refused")

    monkeypatch.setattr(sweep, "measure_shape", refuse)


@pytest.mark.parametrize("place", ["file", "file/under", "/proc/bench"])
def test_a_folder_that_cannot_be_written_to_is_refused_first(
    place, tiny_bundle, tmp_path, run, monkeypatch
) -> None:
    nothing_may_run(monkeypatch)
    (tmp_path / "file").touch()
    result = run("bench", tiny_bundle, "--backend", "null", "--out", tmp_path / place)
    assert result.status == 1
    assert str(tmp_path / "file") in result.err or "/proc" in result.err
    assert result.err.count("\n") == 1


def test_wrong_use_leaves_no_folder(tiny_bundle, tmp_path, run) -> None:
    out = tmp_path / "new" / "out"
    assert run("bench", tiny_bundle, "--baseline", "tvm", "--out", out).status == 2
    assert not out.parent.exists()


@pytest.mark.parametrize("asked", ["optimum", "optimum:fp32"])
def test_a_peer_that_is_missing_says_how_to_get_it(asked, tiny_bundle, run, monkeypatch) -> None:
    monkeypatch.setitem(PEERS, "optimum", "no_such_package.onnx")
    result = run("bench", tiny_bundle, "--baseline", asked)
    assert result.status == 2
    assert f"--baseline {asked} cannot run here" in result.err
    assert "pip install optimum-onnx" in result.err
    assert "--python optimum=PYTHON" in result.err


INTERRUPTED_AT = """
import signal, sys
sys.path.append(sys.argv.pop())
from planted_process import PlantedProcess
from glpn_deploy.benchmarks import sweep
from glpn_deploy.cli.bench import main

at = int(sys.argv.pop())

def start(case, pythons):
    if case.batch == at:
        signal.raise_signal(signal.SIGINT)
    return PlantedProcess(case)

sweep.start_worker = start
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


def interrupted(bundle, out, batch: int) -> subprocess.CompletedProcess[str]:
    options = ("--backend", "null", "--size", "32x32", "--batch", "1,2,3", "--seconds", "0.1")
    beside = Path(planted.__file__).parent
    words = [bundle, *options, "--width", "50", "--no-stages", "--load", "--out", out, batch, beside]
    return subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AT, *map(str, words)], capture_output=True, text=True, check=False
    )


def test_an_interruption_keeps_the_shapes_that_were_complete(tiny_bundle, tmp_path) -> None:
    """Processes answer as planted; each shape starts with the matrix product, which is of batch 1."""
    done = interrupted(tiny_bundle, tmp_path, 2)
    assert done.returncode == 1, done.stderr
    assert "Interrupted: what was complete is written." in done.stdout
    values = json.loads((tmp_path / "report.json").read_text())
    assert values["interrupted"] is True
    assert [row["key"] for row in values["rows"]] == ["null fp32 1x32x32"]
    left = [item["name"] for item in values["not_run"] if "interrupted" in item["reason"]]
    assert left == ["2x32x32", "3x32x32", "load"]


def test_an_interruption_of_the_first_shape_says_that_nothing_is_kept(tiny_bundle, tmp_path) -> None:
    done = interrupted(tiny_bundle, tmp_path / "out", 1)
    assert done.returncode == 1
    assert "No shape was complete: no report is written." in done.stdout
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_no_bundle(tmp_path, run) -> None:
    assert run("bench", tmp_path).status == 2


@pytest.mark.parametrize("name", ["bench", "compare"])
def test_help_loads_nothing_heavy(name) -> None:
    program = (
        f"import sys; sys.argv = ['glpn-{name}', '--help']\n"
        f"from glpn_deploy.cli.{name} import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(*sorted({'torch', 'numpy', 'onnxruntime', 'psutil'} & set(sys.modules)))"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""
    assert time.perf_counter() - start < 5
