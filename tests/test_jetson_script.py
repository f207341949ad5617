"""docs/jetson.sh against stand-ins: it checks before it acts, in order, and stops at the first failure."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "docs/jetson.sh"
RELEASE = (
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n# KERNEL_VARIANT: oot\n"
)
COMMANDS = ("glpn-doctor", "glpn-build", "glpn-verify", "glpn-predict")

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


class Board:
    """A Jetson made of a folder: its release file, a python3 that makes environments, and a bundle."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        self.fails, self.lacks = "", ""
        (folder / "root/etc").mkdir(parents=True)
        (folder / "root/etc/nv_tegra_release").write_text(RELEASE)
        (folder / "bundle").mkdir()
        (folder / "bundle/manifest.json").write_text("{}")
        (folder / "photo.jpg").write_bytes(b"")
        (folder / "bin").mkdir()
        self.write(
            folder / "bin/python3",
            'case "$*" in\n'
            '  --version) echo "Python 3.10.12" ;;\n'
            '  -c*) case "$*" in *"${LACKS:-no}"*) exit 1 ;; esac ;;\n'
            '  "-m venv"*) echo "venv $*" >> "$LOG"; mkdir -p "$4/bin"; cp "$STAND_IN" "$4/bin/python"\n'
            f'    for name in {" ".join(COMMANDS)}; do cp "$STAND_IN" "$4/bin/$name"; done ;;\n'
            "esac",
        )
        self.write(
            folder / "stand-in",
            'echo "$(basename "$0") $*" >> "$LOG"\n[ "$(basename "$0")" != "${FAILS:-none}" ]',
        )

    @staticmethod
    def write(path: Path, text: str) -> None:
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "JETSON_ROOT": str(self.folder / "root"),
            "LOG": str(self.log),
            "STAND_IN": str(self.folder / "stand-in"),
            "FAILS": self.fails,
            "LACKS": self.lacks or "nothing lacks",
        }
        command = ["bash", str(SCRIPT), *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)

    @property
    def done(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def board(tmp_path):
    return Board(tmp_path)


def test_all_steps_in_order(board):
    run = board.run("--precision", "int8", "--size", "384x512", "--batch", "1:2", "bundle", "photo.jpg")
    assert (run.returncode, run.stderr) == (0, "")
    assert board.done == [
        "venv -m venv --system-site-packages glpn-venv",
        "python -m pip install glpn-deploy[jetson]",
        "glpn-doctor ",
        "glpn-build bundle --precision int8 --size 384x512 --batch 1:2",
        "glpn-verify bundle",
        "glpn-predict bundle photo.jpg --backend tensorrt --precision int8",
    ]
    assert run.stdout.rstrip().endswith("done: bundle/engines")


def test_a_second_run_keeps_the_environment(board):
    board.run("bundle")
    board.log.unlink()
    assert board.run("bundle").returncode == 0
    assert [line.split()[0] for line in board.done] == ["python", "glpn-doctor", "glpn-build", "glpn-verify"]


def test_a_step_that_fails_ends_it(board):
    board.fails = "glpn-build"
    assert board.run("bundle", "photo.jpg").returncode == 1
    assert board.done[-1].startswith("glpn-build")


def test_dry_run_changes_nothing(board):
    run = board.run("--dry-run", "bundle", "photo.jpg")
    assert run.returncode == 0
    assert board.done == []
    assert not (board.folder / "glpn-venv").exists()
    assert [command for command in COMMANDS if f"+ glpn-venv/bin/{command}" in run.stdout] == list(COMMANDS)


def test_dry_run_tells_its_plan_anywhere(board):
    shutil.rmtree(board.folder / "root")
    run = board.run("--dry-run", "--precision", "fp16", "--precision", "int8", "nowhere", "photo.jpg")
    assert (run.returncode, run.stderr, board.done) == (0, "", [])
    for plan in (
        "here it would stop: this is no Jetson",
        "nowhere is no bundle",
        "--precision fp16,int8 ",
    ):
        assert plan in run.stdout
    assert "--backend tensorrt --precision fp16\n" in run.stdout


def test_an_engine_for_each_precision(board):
    assert board.run("--precision", "fp16,int8", "bundle").returncode == 0
    assert "glpn-build bundle --precision fp16,int8 --size 480x640 --batch 1" in board.done


@pytest.mark.parametrize(
    ("release", "status", "words"),
    [
        ("# R35 (release), REVISION: 4.1, GCID: 33958178\n", 1, "JetPack 5 or older"),
        ("garbage\n", 1, "the release cannot be read"),
        (None, 1, "this is no Jetson"),
        ("# R39 (release), REVISION: 2.1, GCID: 46758480\n", 0, ""),
    ],
)
def test_releases(release, status, words, board):
    path = board.folder / "root/etc/nv_tegra_release"
    path.unlink()
    if release is not None:
        path.write_text(release)
    run = board.run("bundle")
    assert run.returncode == status
    assert words in run.stderr
    told = board.run("--dry-run", "bundle")
    assert (told.returncode, words in told.stdout) == (0, True)


@pytest.mark.parametrize(
    ("lacks", "fix"),
    [("import tensorrt", "apt install python3-libnvinfer"), ("ensurepip", "apt install python3-venv")],
)
def test_what_the_board_lacks(lacks, fix, board):
    board.lacks = lacks
    run = board.run("bundle")
    assert (run.returncode, board.done) == (1, [])
    assert fix in run.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "error: missing argument BUNDLE"),
        (("nowhere",), "is no bundle"),
        (("bundle", "nothing.jpg"), "there is no image nothing.jpg"),
        (("bundle", "photo.jpg", "x"), "unexpected extra argument (x)"),
        (("--fast", "bundle"), "no such option: --fast"),
        (("bundle", "--size"), "--size needs a value"),
    ],
)
def test_wrong_use(arguments, words, board):
    run = board.run(*arguments)
    assert (run.returncode, board.done) == (2, [])
    assert words in run.stderr


def test_help(board):
    run = board.run("--help")
    assert run.returncode == 0
    assert run.stdout.startswith("Usage: jetson.sh")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck():
    subprocess.run(["shellcheck", str(SCRIPT)], check=True)


def test_a_jetson_gets_no_library_of_cuda() -> None:
    """JetPack has them, and the driver is called itself."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 brings tomllib")
    project = tomllib.loads((SCRIPT.parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [*project["dependencies"], *project["optional-dependencies"]["jetson"]]
    assert not [name for name in names if name.startswith(("cuda", "nvidia", "torch", "tensorrt", "onnx"))]
    assert any(name.startswith("numpy") for name in names)
