"""Writing a file or folder so that its place holds the old content or the whole new one, never a part."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from glpn_deploy.errors import WriteError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_NAME_CHARACTERS = 40  # leaves room for the random part within the usual limit of 255 bytes a name
_STAGING_NAME = re.compile(r"\..*\.partial-[0-9a-f]{8}", re.DOTALL)
_LOCK, _CONTENT = "lock", "content"
_HELD: set[int] = set()
_LOCK_FLAGS = os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class _NoLocksError(Exception):
    """The file system cannot lock files."""


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str], *, sync: bool = False) -> Iterator[Path]:
    """Yields a temporary file near ``path`` that takes its place when the block succeeds.

    The temporary file exists, is empty, and ends in the same suffix as ``path``, so that writers which
    look at the suffix do what they would have done. Whatever ends the block otherwise, Ctrl-C included,
    removes it and leaves what was at ``path`` before; what a killed process left is removed when the next
    one first writes to the folder.

    Args:
        path: Where the file shall stand; a symbolic link there is replaced, not followed.
        sync: Also wait until the content is on the disk before renaming, so that a power cut too
            leaves the old file or the new one.

    Raises:
        WriteError: The folder does not exist, ``path`` is not a plain file, or writing failed with an
            OSError (disk full, no permission); other exceptions of the block pass unchanged.
    """
    target = Path(path)
    with _write_errors(target):
        if target.exists() and not target.is_file():  # renaming onto /dev/null would replace the device
            raise WriteError(f"{target} exists and is not a plain file", fix="choose another name")
        _clean_once(target.parent)
        with _staging(target) as folder:
            temporary = folder / f"{_CONTENT}{target.suffix}"
            temporary.touch()
            yield temporary
            if sync:
                _sync(temporary)
            temporary.replace(target)


@contextlib.contextmanager
def staging_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a new folder near ``path`` to prepare its content in; the folder is gone afterwards.

    What killed processes left beside ``path`` is removed. Processes are told apart by a lock that the
    system frees with its process, which also holds between containers that share the folder.

    Args:
        path: The file or folder that the content is for; the block itself renames it into place
            (`replace_folder`, or ``Path.replace`` for files).

    Raises:
        WriteError: As `atomic_path`.
    """
    target = Path(path)
    with _write_errors(target):
        _clean(target.parent)
        with _staging(target) as folder:
            (folder / _CONTENT).mkdir()
            yield folder / _CONTENT


@contextlib.contextmanager
def only_one(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Holds a lock file while the block runs, so that a second process that asks for it is refused.

    The file is gone afterwards; one that a killed process left is nobody's. Where the file system has no
    locks, nobody is refused.

    Args:
        path: The lock file, in a folder that exists.
        what: Who holds it, for the refusal ("another glpn-train").

    Raises:
        WriteError: Another process holds it, or it cannot be made.
    """
    file = Path(path)
    with _write_errors(file):
        descriptor = _held_lock(file, what)
    _HELD.add(descriptor)
    try:
        yield
    finally:
        _HELD.discard(descriptor)
        if sys.platform != "win32":  # which removes no open file
            file.unlink(missing_ok=True)
        os.close(descriptor)
        if sys.platform == "win32":
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)


def _held_lock(file: Path, what: str) -> int:
    while True:
        descriptor = os.open(file, _LOCK_FLAGS, 0o666)
        try:
            with contextlib.suppress(_NoLocksError):
                _lock(descriptor)
            return descriptor
        except FileNotFoundError:  # the one before has just ended
            os.close(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise WriteError(
                f"{what} is working in {file.parent}", fix="wait for it, stop it, or choose another folder"
            ) from None


def _let_go_in_child() -> None:
    """A worker process that outlives its killed parent must not hold the parent's lock."""
    for descriptor in _HELD:
        os.close(descriptor)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)


@contextlib.contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` with a locked file in it; it is gone afterwards."""
    while True:
        outer = target.with_name(f".{target.name[:_NAME_CHARACTERS]}.partial-{secrets.token_hex(4)}")
        descriptor = None
        try:
            outer.mkdir()  # within the block: a signal may arrive right behind it
            try:
                descriptor = os.open(outer / _LOCK, _LOCK_FLAGS, 0o666)
                with contextlib.suppress(_NoLocksError):  # then nobody removes anybody's folder
                    _lock(descriptor)
            except (BlockingIOError, FileNotFoundError):
                continue  # another process saw the folder before its lock, and took it for a leftover
            yield outer
            return
        finally:
            if descriptor is not None:
                os.close(descriptor)
            try:
                (outer / _LOCK).unlink(missing_ok=True)
                outer.rmdir()
            except OSError:  # it is not empty: the content did not go where it was meant for
                shutil.rmtree(outer, ignore_errors=True)


def _clean(folder: Path) -> None:
    """Removes the staging folders whose process is gone."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _STAGING_NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                _remove_leftover(Path(entry.path))


_clean_once = functools.lru_cache(maxsize=4096)(_clean)  # looking through a folder for every file is slow


def _remove_leftover(folder: Path) -> None:
    """Removes a staging folder unless a running process holds its lock."""
    with contextlib.suppress(OSError, _NoLocksError):
        descriptor = os.open(folder / _LOCK, _LOCK_FLAGS, 0o666)
        try:
            _lock(descriptor)
            if sys.platform != "win32":
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)
        if sys.platform == "win32":  # which removes no open file
            shutil.rmtree(folder, ignore_errors=True)


def _lock(descriptor: int) -> None:
    """Locks an open file until it is closed, or its process ends in whatever way.

    Raises:
        BlockingIOError: Another process holds it.
        FileNotFoundError: Another process held it and has removed it.
        _NoLocksError: The file system has no locks.
    """
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
            raise BlockingIOError from error
        raise _NoLocksError from error
    if not os.fstat(descriptor).st_nlink:
        raise FileNotFoundError


def replace_folder(new: Path, target: Path) -> None:
    """Puts the folder ``new`` at ``target``, in one step where the system can exchange two names.

    What stood at ``target`` is removed. Where names cannot be exchanged (other systems than Linux,
    some file systems), there is an instant between two renames in which ``target`` does not exist.
    """
    if not target.exists():
        new.replace(target)
        return
    if not _exchange(new, target):
        old = new.with_name(new.name + "-old")
        target.replace(old)
        try:
            new.replace(target)
        except BaseException:
            old.replace(target)
            raise
        new = old
    shutil.rmtree(new, ignore_errors=True)


def _exchange(a: Path, b: Path) -> bool:
    """Swaps two names by Linux's renameat2; False where that cannot be done."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    at_fdcwd, rename_exchange = -100, 2
    return bool(renameat2(at_fdcwd, os.fsencode(a), at_fdcwd, os.fsencode(b), rename_exchange) == 0)


def make_folder(path: Path, mode: int = 0o777, fix: str = "check the permissions above it") -> Path:
    """Makes a folder with those above it, where it is not there, and returns it.

    Raises:
        WriteError: It cannot be made.
    """
    try:
        path.mkdir(mode, parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"the folder {path} cannot be made ({error.strerror})", fix=fix) from error
    return path


def user_folder(kind: str) -> Path:
    """The user's folder of the package for a ``kind`` of file, ``cache`` or ``state``; it need not be there.

    Raises:
        WriteError: The user has no home.
    """
    variable = f"XDG_{kind.upper()}_HOME"
    given = Path(os.environ.get(variable, ""))
    usual = {"cache": ".cache", "state": ".local/state"}
    try:
        return (given if given.is_absolute() else Path.home() / usual[kind]) / "glpn-deploy"
    except RuntimeError:
        raise WriteError("this user has no home folder", fix=f"set {variable} to a folder") from None


@contextlib.contextmanager
def _write_errors(target: Path) -> Iterator[None]:
    """Turns the operating system's refusals into sentences."""
    try:
        if not target.parent.is_dir():
            raise WriteError(
                f"{target} cannot be written: there is no folder {target.parent}",
                fix=f"create it (mkdir -p {target.parent}) or choose another",
            )
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise WriteError(
            f"{target} could not be written ({reason})",
            fix=f"check the free space and your permissions in {target.parent}",
        ) from error


def _sync(path: Path) -> None:
    """Waits until the file's content has reached the disk."""
    descriptor = os.open(path, os.O_RDWR)  # Windows flushes only what is open for writing
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
