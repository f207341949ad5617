"""A killed or failed write leaves the old file whole and nothing beside it."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from glpn_deploy.atomic import _clean_once, atomic_path, only_one, replace_folder, staging_folder
from glpn_deploy.errors import GlpnError, WriteError
from tests.refusals import refused


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("sync", [False, True])
def test_new_content_takes_the_place_of_the_old(tmp_path: Path, sync: bool) -> None:
    target = tmp_path / "model.onnx"
    target.write_text("old")
    with atomic_path(target, sync=sync) as temporary:
        assert temporary.suffix == ".onnx"
        assert temporary.stat().st_size == 0
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert names_in(tmp_path) == ["model.onnx"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_any_exception_keeps_the_old_file_and_passes(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    def fail_half_way() -> None:
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"half of the n")
            raise error

    with pytest.raises(error):
        fail_half_way()
    assert target.read_bytes() == b"old"
    assert names_in(tmp_path) == ["a.bin"]


def test_full_disk_while_writing(tmp_path: Path) -> None:
    with (
        pytest.raises(WriteError, match=r"a\.bin could not be written \(No space left") as caught,
        atomic_path(tmp_path / "a.bin"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert isinstance(caught.value, GlpnError)
    assert "free space" in caught.value.fix
    assert names_in(tmp_path) == []


def test_failure_of_the_rename_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(Path, "replace", full)
    with refused(WriteError, got="Disk quota exceeded"), atomic_path(tmp_path / "a.bin") as temporary:
        temporary.write_bytes(b"x")
    assert names_in(tmp_path) == []


def test_missing_folder_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with refused(WriteError, fix="mkdir -p"), atomic_path(tmp_path / "no" / "a.bin"):
        pytest.fail("the block must not run")


def test_folder_and_device_are_not_replaced(tmp_path: Path) -> None:
    with refused(WriteError, got="not a plain file"), atomic_path(tmp_path):
        pytest.fail("the block must not run")
    if os.name == "posix":
        with refused(WriteError, got="not a plain file"), atomic_path("/dev/null"):
            pytest.fail("the block must not run")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_the_file_gets_the_permissions_of_the_umask(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.bin") as temporary:
        temporary.write_bytes(b"x")
    (tmp_path / "ordinary").write_bytes(b"x")
    ordinary = (tmp_path / "ordinary").stat().st_mode
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == stat.S_IMODE(ordinary)


def test_very_long_name(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 240 + ".npy")
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"x")
    assert target.read_bytes() == b"x"


# Other processes --------------------------------------------------------------------------------------


def start(folder: Path, program: str) -> subprocess.Popen[str]:
    """A process in ``folder`` that has printed a line: it is where the test wants it."""
    head = "import sys, time\nfrom pathlib import Path\nfrom glpn_deploy.atomic import *\n"
    command = [sys.executable, "-c", head + textwrap.dedent(program)]
    process = subprocess.Popen(
        command, cwd=folder, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


WRITING = {
    "file": """
        with atomic_path("a.depth_mm.png") as path:
            path.write_bytes(b"half of the n")
            print("ready", flush=True)
            sys.stdin.read()
            path.write_bytes(b"new")
        """,
    "folder": """
        with staging_folder("bundle") as folder:
            (folder / "model.onnx").write_bytes(b"half of the n")
            print("ready", flush=True)
            sys.stdin.read()
            (folder / "model.onnx").write_bytes(b"new")
            replace_folder(folder, Path("bundle"))
        """,
}


def write_beside(folder: Path) -> None:
    """What a next run does: it writes something of its own, the first time in this folder."""
    _clean_once.cache_clear()
    with atomic_path(folder / "other.json") as path:
        path.write_text("{}")


@pytest.mark.parametrize("kind", WRITING)
def test_what_a_killed_process_left_is_removed_by_the_next_run(tmp_path: Path, kind: str) -> None:
    process = start(tmp_path, WRITING[kind])
    process.kill()
    process.communicate()
    assert len(names_in(tmp_path)) == 1
    write_beside(tmp_path)
    assert names_in(tmp_path) == ["other.json"]


@pytest.mark.parametrize("kind", WRITING)
def test_what_a_running_process_writes_is_left_alone(tmp_path: Path, kind: str) -> None:
    process = start(tmp_path, WRITING[kind])
    for _ in range(3):
        write_beside(tmp_path)
        with staging_folder(tmp_path / "bundle"):
            pass
    assert len(names_in(tmp_path)) == 2
    _, err = process.communicate()  # ends its standard input: it writes the rest
    assert (process.returncode, err) == (0, "")
    made = tmp_path / {"file": "a.depth_mm.png", "folder": "bundle/model.onnx"}[kind]
    assert made.read_bytes() == b"new"
    assert len(names_in(tmp_path)) == 2


def test_two_processes_that_write_the_same_and_clean_all_the_time(tmp_path: Path) -> None:
    program = """
        from glpn_deploy import atomic
        print("ready", flush=True)
        for number in range(200):
            atomic._clean_once.cache_clear()
            with atomic_path("a.txt") as path:
                path.write_text("whole " * 100)
            with staging_folder("b") as folder:
                (folder / "c").write_text("whole")
        """
    processes = [start(tmp_path, program) for _ in range(2)]
    assert [process.communicate()[1] for process in processes] == ["", ""]
    assert names_in(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "whole " * 100


def test_what_looks_like_a_left_over_and_is_none_stays(tmp_path: Path) -> None:
    """Names of others, and links to somebody's folder and file, which nothing is written through."""
    (tmp_path / ".x.partial-99999999999999999999999-a").mkdir()
    (tmp_path / ".x.partial-mine").mkdir()
    (tmp_path / ".x.partial-mine.png").touch()
    (tmp_path / "home").mkdir()
    (tmp_path / "thesis.png").touch()
    (tmp_path / ".z.partial-0123abcd.png").symlink_to("thesis.png")
    (tmp_path / ".y.partial-0123abcd").symlink_to("home")
    before = names_in(tmp_path)
    write_beside(tmp_path)
    with staging_folder(tmp_path / "x") as folder:
        assert names_in(folder) == []
    assert names_in(tmp_path) == sorted([*before, "other.json"])
    assert names_in(tmp_path / "home") == []


def test_killed_between_the_folder_and_its_lock(tmp_path: Path) -> None:
    (tmp_path / ".x.partial-0123abcd").mkdir()
    write_beside(tmp_path)
    assert names_in(tmp_path) == ["other.json"]


@pytest.mark.skipif(sys.platform == "win32", reason="flock")
def test_a_file_system_without_locks_is_written_to_and_never_cleaned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", none)
    (tmp_path / ".x.partial-0123abcd").mkdir()
    write_beside(tmp_path)
    assert names_in(tmp_path) == [".x.partial-0123abcd", "other.json"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="/proc")
def test_where_nothing_can_be_made_it_is_said(tmp_path: Path) -> None:
    """/proc answers as if the folder were not there."""
    for writer in (atomic_path, staging_folder):
        with pytest.raises(WriteError), writer("/proc/bundle"):
            pytest.fail("the block must not run")


def test_a_folder_takes_the_place_of_another_whole(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "old").touch()
    with staging_folder(tmp_path / "b") as folder:
        (folder / "new").touch()
        replace_folder(folder, tmp_path / "b")
    assert names_in(tmp_path) == ["b"]
    assert names_in(tmp_path / "b") == ["new"]


# One at a time ------------------------------------------------------------------------------------------

HOLDER = """
import os, sys, time
from glpn_deploy.atomic import only_one

with only_one(sys.argv[1], "another test"):
    if os.fork() == 0:  # a worker, which outlives its parent
        print("held", flush=True)
        time.sleep(60)
        os._exit(0)
    time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_second_process_is_refused_until_the_first_ends_in_whatever_way(tmp_path):
    lock = tmp_path / ".running"
    with only_one(lock, "another test"), pytest.raises(WriteError) as caught, only_one(lock, "another test"):
        pass
    assert "another test is working in" in caught.value.got
    assert not lock.exists()
    command = [sys.executable, "-c", HOLDER, str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(WriteError), only_one(lock, "another test"):
            pass
        holder.kill()
        holder.wait()
        try:
            with only_one(lock, "another test"):
                assert lock.exists()
        finally:
            os.killpg(holder.pid, signal.SIGKILL)
    assert not lock.exists()
