"""glpn-doctor: what runs, what is missing, and the line that mends it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from glpn_deploy.optional import install_line


def test_this_machine(run: Callable) -> None:
    result = run("doctor")
    assert result.status == 0
    for name in ("python", "processor", "memory", "gpu", "torch", "onnxruntime", "export"):
        assert f"✓ {name}" in result.out or f"! {name}" in result.out
    assert "can run bundles with: torch, onnxruntime, openvino" in result.out


def test_json(run: Callable) -> None:
    report = json.loads(run("doctor", "--json").out)
    assert report["backends"] == ["torch", "onnxruntime", "openvino"]
    assert {finding["status"] for finding in report["findings"]} <= {"ok", "warning", "missing"}


def test_a_machine_with_nothing(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    gone = {"torch", "onnxruntime", "openvino", "onnx"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name in gone else find(name, *a)
    )
    result = run("doctor")
    assert result.status == 1
    assert install_line("cpu") in result.out
    assert install_line("cpu", "export") in result.out


def test_each_line_is_told_when_it_is_known() -> None:
    """Backends take seconds to import; what stands above them waits for none, nor for numpy."""
    code = (
        "import sys\n"
        "from glpn_deploy.doctor import machine\n"
        "import glpn_deploy.cli.console\n"
        "found = machine.look()\n"
        "print(next(found).name)\n"
        "print(sorted({'numpy', 'torch', 'onnxruntime', 'openvino'} & set(sys.modules)))\n"
        "print(next(found).name, next(found).name, next(found).name)\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["python", "[]", "processor memory gpu", "False"]
