"""Optional packages: what is said where one is missing, and the pip line that brings it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from glpn_deploy.errors import MissingDependencyError

if TYPE_CHECKING:
    from importlib.metadata import Distribution

NAME = "glpn-deploy"


@contextlib.contextmanager
def needs(what: str, *extras: str, instead: str = "") -> Iterator[None]:
    """Around imports: one that fails becomes an error that names the package, its version and the pip line.

    Args:
        what: What needs it, as a subject ("exporting", "reading model.safetensors").
        extras: The package's extras that bring it.
        instead: What may be done without it ("save as .tif").

    Raises:
        MissingDependencyError: An import failed.
    """
    try:
        yield
    except MissingDependencyError:
        raise
    except ImportError as error:
        name = (error.name or "a package").partition(".")[0]
        fix = install_line(*extras) + (f", or {instead}" if instead else "")
        raise MissingDependencyError(f"{what} needs {name}, which {_state(name, error)}", fix=fix) from error


def _state(name: str, error: ImportError) -> str:
    """What is wrong with a package that does not import."""
    if isinstance(error, ModuleNotFoundError):
        return "is not installed"
    version = installed_version(name)
    return f"is installed{f' as {version}' if version else ''} and does not import ({error})"


def installed_version(distribution: str) -> str | None:
    """The version of a distribution, or None where it is not installed."""
    import importlib.metadata  # slow to load

    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def script_here(name: str) -> str | None:
    """A script of this environment as this shell runs it, or None where the environment has none.

    Its name where the shell finds that one by it, else its path.
    """
    folder, found = Path(sys.executable).parent, shutil.which(name)
    if found and Path(found).parent == folder:
        return name
    script = shutil.which(name, path=str(folder))
    if script is None:
        return None
    near = os.path.relpath(script)
    return script if near.startswith("..") else near


def install_line(*extras: str) -> str:
    """The pip line that brings an extra's packages, and works here, also where no environment is activated.

    From a clone (an editable install) it names the clone; else the packages themselves, since no index has
    this one.
    """
    return f"{script_here('pip') or 'pip'} install {_packages(*extras)}"


def _packages(*extras: str) -> str:
    """What pip is asked to install for extras."""
    import importlib.metadata  # slow to load, and only needed where something is missing
    from urllib.parse import urlparse
    from urllib.request import url2pathname

    try:
        package = importlib.metadata.distribution(NAME)
    except importlib.metadata.PackageNotFoundError:  # run from a folder that nobody installed
        return _clone(Path(__file__).parents[1], extras)
    origin = json.loads(package.read_text("direct_url.json") or "{}")
    if "dir_info" in origin:
        folder = Path(url2pathname(urlparse(origin["url"]).path))
        if (folder / "pyproject.toml").is_file():
            return _clone(folder, extras)
    wanted = {requirement for extra in extras for requirement in _required(package, extra)}
    return " ".join(sorted(wanted))


def _clone(folder: Path, extras: tuple[str, ...]) -> str:
    here = "." if folder == Path.cwd() else folder
    return f'-e "{here}[{",".join(extras)}]"'


def _required(package: Distribution, extra: str) -> Iterator[str]:
    """An extra's requirements, quoted for a shell; those for another Python or system are left to pip."""
    for requirement in package.requires or ():
        what, _, marker = requirement.partition(";")
        if re.search(rf"\bextra == ['\"]{re.escape(extra)}['\"]", marker):
            rest = re.sub(r"\s*(and\s+)?extra == ['\"][^'\"]*['\"]\s*", "", marker).strip()
            yield f"'{what.strip()}; {rest}'" if rest else f'"{what.strip()}"'
