"""Printed commands run in the shell that they are printed in."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from glpn_deploy.cli.console import ConsoleProgress, PlainConsole, runnable


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with an environment that is not activated; gives the environment's folder of programs."""
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    for name in ("python", "glpn-predict"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.chdir(tmp_path)
    return folder


def test_an_environment_that_is_not_activated_is_named(environment, monkeypatch, tmp_path) -> None:
    assert runnable("glpn-predict") == ".venv/bin/glpn-predict"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert runnable("glpn-predict") == str(environment / "glpn-predict")


def test_an_activated_one_needs_no_name(environment, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(environment))
    assert runnable("glpn-predict") == "glpn-predict"


def test_another_environments_command_is_not_taken(environment, monkeypatch, tmp_path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "glpn-predict").symlink_to(environment / "glpn-predict")
    monkeypatch.setenv("PATH", str(other))
    assert runnable("glpn-predict") == ".venv/bin/glpn-predict"


def test_without_scripts_the_module_is_run(environment) -> None:
    assert runnable("glpn-eval") == f"{environment / 'python'} -m glpn_deploy eval"


@pytest.mark.parametrize(("total", "shown"), [(None, False), (7, True)])
def test_a_step_of_unknown_length_has_no_bar(total, shown, capsys, monkeypatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, to rich
    with ConsoleProgress(PlainConsole()).step("rounds", total) as step:
        step.advance("round 1")
    seen = capsys.readouterr().err
    assert "rounds" in seen
    assert ("/7" in seen) is shown
    assert "/?" not in seen
