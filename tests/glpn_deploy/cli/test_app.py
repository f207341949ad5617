"""Errors end as one sentence with the right status, whatever they are."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from glpn_deploy.cli.app import command
from glpn_deploy.errors import BackendError, InputError

COMMANDS = ("export", "predict", "verify", "doctor")


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (
            InputError("a size of 31", expected="32", fix="enlarge it"),
            2,
            "a size of 31; expected 32; enlarge it.",
        ),
        (BackendError("the device is gone"), 1, "the device is gone."),
        (KeyboardInterrupt(), 1, "interrupted; nothing unfinished was left behind."),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 1, "No space left on device"),
        (MemoryError(), 1, "ran out of memory"),
    ],
)
def test_an_error_is_one_sentence(
    error: BaseException,
    status: int,
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing() -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["glpn-x"])
    with pytest.raises(SystemExit) as end:
        command(failing)()
    captured = capsys.readouterr()
    assert end.value.code == status
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert text in captured.err


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches_and_loads_nothing_heavy(name: str) -> None:
    code = (
        "import sys, runpy\n"
        "sys.argv = ['glpn', '--help']\n"
        "try:\n"
        f"    from glpn_deploy.cli.{name} import main; main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
        "heavy = {'torch', 'numpy', 'onnxruntime', 'onnx', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Example" in done.stdout
    assert "Exit status" in done.stdout


def test_a_reader_that_goes_away_is_no_error(tiny_bundle: Path) -> None:
    verify = f"{sys.executable} -m glpn_deploy.cli.verify {tiny_bundle} --json | head -c 1"
    done = subprocess.run(["bash", "-c", verify], capture_output=True, text=True)
    assert done.stdout == "{"
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp437", "utf-8"])
def test_no_character_stops_the_work(encoding: str) -> None:
    code = (
        "import sys\n"
        "from glpn_deploy.cli.app import command\n"
        "from glpn_deploy.cli.console import complain, output\n"
        "def work() -> None:\n"
        "    output(as_json=False).print('[green]✓[/] a → b 日 \\udcff')\n"
        "    complain('red', 'error', '✗ 480×640 日')\n"
        "command(work)()\n"
    )
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    out, err = done.stdout.decode(encoding), done.stderr.decode(encoding)
    assert done.returncode == 0, err
    if encoding == "utf-8":
        assert out.split() == ["✓", "a", "→", "b", "日", r"\udcff"]
        assert "✗ 480×640 日" in err
    else:
        assert out.split() == ["ok", "a", "->", "b", r"\u65e5", r"\udcff"]
        assert "x 480" in err
