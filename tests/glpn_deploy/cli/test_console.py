"""Printed commands run in the shell that they are printed in; lines fit the terminal, steps their columns."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import cast

import pytest

from glpn_deploy.cli.console import ConsoleProgress, PlainConsole, runnable, say_next


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


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> PlainConsole:
    """A terminal of 40 characters; what is printed is in its ``file``."""
    monkeypatch.setenv("NO_COLOR", "1")
    made = PlainConsole()
    made.file, made.width = io.StringIO(), 40
    made._force_terminal = True
    return made


def shown(console: PlainConsole) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", cast(io.StringIO, console.file).getvalue()).splitlines()


def test_lines_end_between_words_and_what_follows_is_indented(console) -> None:
    console.print("[red]error:[/] the bundle has no artefact of this precision", hang=7)
    console.print("  a path: " + "x" * 50 + " and more")
    console.print("short")
    assert shown(console) == [
        "error: the bundle has no artefact of",
        "       this precision",
        "  a path:",
        "    " + "x" * 50,
        "    and more",
        "short",
    ]


def test_commands_stay_whole_to_be_copied(console) -> None:
    words = "glpn-build bundle --precision fp16 --size 480x640"
    say_next(console, words)
    assert shown(console) == ["", "Next:", f"  {words}"]


def test_a_pipe_gets_whole_lines(console) -> None:
    console._force_terminal = False
    console.print("a line that is longer than forty characters, whole")
    assert shown(console) == ["a line that is longer than forty characters, whole"]


@pytest.mark.parametrize("verbose", [False, True])
def test_seconds_keep_their_column_and_steps_within_steps_are_details(console, verbose) -> None:
    progress = ConsoleProgress(console, verbose=verbose)
    with progress.step("a step with quite a long title") as step:
        with progress.step("within") as inner:
            inner.fail("over its budget")
        step.finish("so many words that they need a second line")
    with progress.step("another") as step:
        step.warn("not here")
    lines = shown(console)
    details = ["✗    0.0 s  within: over its budget"] if verbose else []
    assert lines[: len(details)] == details
    assert [line[:12] for line in lines[len(details) :]] == [
        "✓    0.0 s  ",
        " " * 12,
        " " * 12,
        "!    0.0 s  ",
    ]
    assert max(map(len, lines)) <= 40
