"""glpn-bench from its options to its files."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest


@pytest.mark.slow
def test_a_run_writes_its_reports(tiny_bundle, tmp_path, run) -> None:
    out = tmp_path / "out"
    result = run(
        *("bench", tiny_bundle, "--backends", "onnxruntime", "--precisions", "fp32", "--shapes", "32x64"),
        *("--seconds", 0.5, "--width", 50, "--out", out),
    )
    assert result.status == 0, result.err
    assert "onnxruntime fp32" in result.out
    assert f"glpn-compare {out / 'report.json'}" in result.out
    assert {path.name for path in out.iterdir()} == {"report.json", "report.md", "report.html"}
    values = json.loads((out / "report.json").read_text())
    assert values["rows"][0]["key"] == "onnxruntime fp32 1x32x64"
    assert values["rows"][0]["samples"]
    again = run("compare", out / "report.json", out / "report.json", "--anyway")
    assert again.status == 0
    assert "no difference" in again.out


@pytest.mark.slow
def test_json_goes_to_standard_output_alone(tiny_bundle, tmp_path, run) -> None:
    result = run(
        *("bench", tiny_bundle, "--backends", "null", "--shapes", "32x32", "--seconds", 0.3, "--no-stages"),
        *("--out", tmp_path, "--json"),
    )
    assert json.loads(result.out)["rows"][0]["backend"] == "null"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--backends", "tvm"), "backend 'tvm'"),
        (("--precisions", "fp64"), "--precisions fp64"),
        (("--shapes", "480"), "--shapes '480'"),
        (("--batches", "1.5"), "whole numbers"),
        (("--batches", "a"), "--batches 'a'"),
        (("--load", "--rate", "x"), "--rate 'x'"),
        (("--images", "/nowhere"), "--images /nowhere"),
        (("--python", "tensorrt"), "--python tensorrt"),
        (("--python", "tvm=python3"), "a Python for backend 'tvm'"),
    ],
)
def test_wrong_use_is_one_sentence(arguments, words, tiny_bundle, run) -> None:
    result = run("bench", tiny_bundle, *arguments)
    assert result.status == 2
    assert words in result.err
    assert result.err.count("\n") == 1


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
