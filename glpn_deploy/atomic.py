"""Writing a file or folder so that its place holds the old content or the whole new one, never a part."""

from __future__ import annotations

import contextlib
import ctypes
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from glpn_deploy.errors import WriteError

_STEM_CHARACTERS = 40  # leaves room for the random part within the usual limit of 255 bytes a name


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str], *, sync: bool = False) -> Iterator[Path]:
    """Yields a temporary file beside ``path`` that takes its place when the block succeeds.

    The temporary file exists, is empty, and ends in the same suffix as ``path``, so that writers which
    look at the suffix do what they would have done. Whatever ends the block otherwise, Ctrl-C included,
    removes it and leaves what was at ``path`` before.

    Args:
        path: Where the file shall stand; a symbolic link there is replaced, not followed.
        sync: Also wait until the content is on the disk before renaming, so that a power cut too
            leaves the old file or the new one.

    Raises:
        WriteError: The folder does not exist, ``path`` is not a plain file, or writing failed with an
            OSError (disk full, no permission); other exceptions of the block pass unchanged.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.stem[:_STEM_CHARACTERS]}.{secrets.token_hex(4)}{target.suffix}")
    with _write_errors(target):
        if target.exists() and not target.is_file():  # renaming onto /dev/null would replace the device
            raise WriteError(f"{target} exists and is not a plain file", fix="choose another name")
        # os.open rather than tempfile: the file gets the permissions of the user's umask, not 0600.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            yield temporary
            if sync:
                _sync(temporary)
            temporary.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def staging_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a new folder beside ``path`` to prepare its content in; the folder is gone afterwards.

    Leftovers of processes that were killed while they had one for the same ``path`` are removed.

    Args:
        path: The file or folder that the content is for; the block itself renames it into place
            (`replace_folder`, or ``Path.replace`` for files).

    Raises:
        WriteError: As `atomic_path`.
    """
    target = Path(path)
    prefix = f".{target.name[:_STEM_CHARACTERS]}.partial-"
    with _write_errors(target):
        for leftover in target.parent.glob(f"{glob.escape(prefix)}*"):
            if not _is_running(leftover.name.removeprefix(prefix).split("-")[0]):
                shutil.rmtree(leftover, ignore_errors=True)
        folder = target.with_name(f"{prefix}{os.getpid()}-{secrets.token_hex(4)}")
        try:
            folder.mkdir()  # within the block: a signal may arrive right behind it
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


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


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except OSError:
        return True
    return True


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
