"""Files from strangers, at every door: see README.md beside this."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DOORS = (
    *("checkpoint", "preprocessor", "onnx", "manifest", "golden", "sidecar"),
    *("image", "depth", "dataset", "state", "report"),
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and pipes are Linux's here")


@pytest.fixture(scope="module")
def made(tiny_checkpoint, tiny_bundle, put_engine, tmp_path_factory):
    """What the package itself makes, tiny."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copytree(tiny_checkpoint, folder / "checkpoint")
    shutil.copytree(tiny_bundle, folder / "bundle")
    about = {"flags": ("DIRECT_IO",), "layers": {"fp32": 218}, "parity": {"passed": True, "reports": []}}
    put_engine(folder / "bundle", plan=bytes(64), warnings=("slow",), **about)
    shutil.move(folder / "bundle" / "engines", folder)
    shutil.copy(ROOT / "benchmarks" / "results" / "bench_nyu_cpu.json", folder / "report.json")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
def test_a_file_is_taken_or_refused(door, made, tmp_path, request):
    count, seed = (request.config.getoption(name) for name in ("--fuzz-examples", "--fuzz-seed"))
    places = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    settings = {"OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    command = [sys.executable, str(HERE / "child.py"), door, str(made), str(tmp_path), str(seed)]
    run = subprocess.run(
        [*command, "0", str(count)],
        capture_output=True,
        text=True,
        errors="replace",
        env=os.environ | places | settings,
        cwd=tmp_path,
        check=False,
    )
    number = (tmp_path / "number").read_text() if (tmp_path / "number").exists() else "none"
    again = f"input {number} in {tmp_path / 'case'}; again: {' '.join(command)} {number} 1"
    assert run.returncode == 0, f"the process ended with {run.returncode}\n{run.stderr[-3000:]}\n{again}"
    outcome = json.loads(run.stdout.splitlines()[-1])
    assert not outcome["whole"], "a file as it should be was refused"
    for failure in outcome["failures"]:
        pytest.fail(
            f"input {failure['number']}: {failure['outside'] or ''}\n{failure['error']}\n"
            f"again: {' '.join(command)} {failure['number']} 1"
        )
    assert outcome["refused"] + outcome["taken"] == count
    assert outcome["refused"] > count // 20  # else the mutator does not reach what is read
    assert outcome["peak_bytes"] < 4 << 30


def test_every_door_is_tried(monkeypatch):
    monkeypatch.syspath_prepend(HERE)
    assert tuple(importlib.import_module("doors").DOORS) == DOORS
