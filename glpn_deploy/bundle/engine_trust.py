"""Which engines this user built on this machine. Only those are opened unasked: an engine is a program."""

from __future__ import annotations

import os
import platform
import stat
from pathlib import Path

from glpn_deploy.atomic import make_folder, user_folder
from glpn_deploy.bundle.engine_sidecar import Sidecar, rebuild_command
from glpn_deploy.errors import EngineError, WriteError


def remember_engine(sidecar: Sidecar) -> None:
    """Notes that this user built an engine here."""
    fix = "check its permissions, or set XDG_STATE_HOME to a folder of your own"
    record = make_folder(_records(), 0o700, fix) / sidecar.sha256
    try:
        record.touch(mode=0o600)
    except OSError as error:
        raise WriteError(f"{record} cannot be written ({error.strerror})", fix=fix) from error


def require_trusted(engine: Path, sidecar: Sidecar, trust: bool) -> None:
    """Refuses an engine that this user did not build on this machine, unless it is trusted.

    The engine's content is held against the sidecar's digest when it is read.
    """
    if not trust and not _built_here(sidecar.sha256):
        raise EngineError(
            f"{engine.name} was not built on this machine by this user, and an engine is a program: "
            "opening one gives whoever made it all that you may do here",
            fix=f"build it here: {rebuild_command(engine, sidecar)}; or, where you know who built it, "
            "--trust-engines (trust_engines=True in Python)",
        )


def _built_here(sha256: str) -> bool:
    folder = _records()
    try:
        about = folder.stat()
        known = (folder / sha256).is_file()
    except OSError:
        return False
    if os.name == "posix" and (about.st_uid != os.getuid() or stat.S_IMODE(about.st_mode) & 0o022):
        return False  # others could have written it
    return known


def _records() -> Path:
    """A folder of one empty file a digest; homes may be shared by machines, so each has its own."""
    return user_folder("state") / "engines" / (platform.node() or "here")
