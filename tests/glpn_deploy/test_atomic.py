"""A killed or failed write leaves the old file whole and nothing beside it."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from glpn_deploy.atomic import atomic_path
from glpn_deploy.errors import GlpnError, WriteError


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("sync", [False, True])
def test_new_content_takes_the_place_of_the_old(tmp_path: Path, sync: bool) -> None:
    target = tmp_path / "model.onnx"
    target.write_text("old")
    with atomic_path(target, sync=sync) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".onnx"
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
    with pytest.raises(WriteError, match="Disk quota exceeded"), atomic_path(tmp_path / "a.bin") as temporary:
        temporary.write_bytes(b"x")
    assert names_in(tmp_path) == []


def test_missing_folder_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="mkdir -p"), atomic_path(tmp_path / "no" / "a.bin"):
        pytest.fail("the block must not run")


def test_folder_and_device_are_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="not a plain file"), atomic_path(tmp_path):
        pytest.fail("the block must not run")
    if os.name == "posix":
        with pytest.raises(WriteError, match="not a plain file"), atomic_path("/dev/null"):
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
