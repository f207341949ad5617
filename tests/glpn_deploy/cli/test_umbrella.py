"""``glpn`` lists the commands, runs each under its name, and knows what was meant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import glpn_deploy
from glpn_deploy.cli import umbrella

tomllib = pytest.importorskip("tomllib", reason="Python 3.11 brings tomllib")


def glpn(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "glpn_deploy", *arguments], capture_output=True, text=True)


def test_it_has_every_command_of_the_package() -> None:
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8")
    scripts = tomllib.loads(text)["project"]["scripts"]
    assert {f"glpn-{name}" for name in umbrella.COMMANDS} | {"glpn"} == scripts.keys()


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_lists_the_commands(arguments: tuple[str, ...], capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["glpn", *arguments])
    umbrella.main()
    lines = capsys.readouterr().out.splitlines()
    for name in umbrella.COMMANDS:
        (line,) = [line for line in lines if line.startswith(f"  {name} ")]
        assert len(line) > len(name) + 20


def test_a_reader_that_has_gone_is_no_error() -> None:
    command = f"{sys.executable} -m glpn_deploy --help | true"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert ended.stderr == ""


def test_help_loads_no_library() -> None:
    code = (
        "import sys; sys.argv = ['glpn', '--help']; from glpn_deploy.cli.umbrella import main; main(); "
        "heavy = {'typer', 'rich', 'numpy', 'torch', 'PIL'} & set(sys.modules); assert not heavy, heavy"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_a_command_runs_under_its_name() -> None:
    done = glpn("compare", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: glpn compare [OPTIONS]")
    missing = glpn("verify", "no-such-folder")
    assert missing.returncode == 2
    assert missing.stderr.count("\n") == 1


def test_the_version() -> None:
    assert glpn("--version").stdout == f"glpn-deploy {glpn_deploy.__version__}\n"


def test_a_misspelled_command_gets_its_answer(capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["glpn", "exprot"])
    with pytest.raises(SystemExit) as end:
        umbrella.main()
    assert end.value.code == 2
    assert "did you mean glpn export" in capsys.readouterr().err
