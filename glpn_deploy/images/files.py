"""Finding the images that a person names: files, folders and globs."""

from __future__ import annotations

import glob
import itertools
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from glpn_deploy.errors import ImageError
from glpn_deploy.images.moving import refuse_moving
from glpn_deploy.images.opening import HEIF_SUFFIXES, readable_formats
from glpn_deploy.optional import install_line

_WILDCARDS = frozenset("*?[")
_RESULT = re.compile(r"\.depth(_\w+)?\.(png|npy|tiff|exr)$|\.ply$", re.IGNORECASE)


def find_images(names: Sequence[str]) -> list[Path]:
    """Expands files, folders (their images, not those of folders within) and globs, each path once.

    A file that is named is taken whatever its suffix; in folders and globs the suffix has to be one
    that Pillow reads. Hidden files (macOS' ``._photo.png``) are no images there, nor are glpn-predict's
    results (``photo.depth_mm.png``).

    Raises:
        ImageError: A name matches nothing, or a folder has no image.

    Warns:
        UserWarning: Other files were passed over; counts and names them.
    """
    paths: dict[Path, None] = {}
    passed: list[Path] = []
    for name in names:
        path = Path(name)
        try:
            if path.is_dir():
                found = _only_images(path.iterdir(), passed)
            elif not path.exists() and _WILDCARDS & set(name):
                found = _only_images(map(Path, glob.glob(name, recursive=True)), passed)  # noqa: PTH207 - absolute patterns
            else:
                found = [path] if path.exists() else []
        except OSError as error:  # a folder that may not be read, a name too long
            raise ImageError(
                f"{name} cannot be read ({error.strerror})", expected="an image, a folder or a glob"
            ) from None
        if not found:
            refuse_moving(name)
            what = "the folder has no images" if path.is_dir() else "nothing is there"
            raise ImageError(
                f"{name}: {what}",
                expected="an image, a folder of images or a glob such as 'shots/*.jpg'",
                fix=_heif_line(passed),
            )
        paths.update(dict.fromkeys(found))
    if passed:
        names = ", ".join(path.name for path in passed[:3]) + (", ..." if len(passed) > 3 else "")
        advice = _heif_line(passed)
        warnings.warn(
            f"Passed over {len(passed)} {'file that is' if len(passed) == 1 else 'files that are'} no "
            f"readable image: {names}." + (f" For HEIC photographs: {advice}" if advice else ""),
            stacklevel=2,
        )
    return list(paths)


def _only_images(paths: Iterable[Path], passed: list[Path]) -> list[Path]:
    """The images among paths, sorted; other files go to ``passed``."""
    formats = readable_formats()  # first: it may register one
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in formats}
    images: list[Path] = []
    for path in sorted(paths):
        if path.name.startswith(".") or is_result(path) or not path.is_file():
            continue
        (images if path.suffix.lower() in suffixes else passed).append(path)
    return images


def is_result(path: Path) -> bool:
    """Whether a file is called as glpn-predict calls what it writes of an image."""
    return _RESULT.search(path.name) is not None


def _heif_line(passed: Sequence[Path]) -> str:
    """The pip line that makes phones' photographs readable, where some were passed over."""
    return install_line("heif") if any(path.suffix.lower() in HEIF_SUFFIXES for path in passed) else ""


def unique_stems(paths: Sequence[Path]) -> list[str]:
    """A name for the results of each path: its stem, with what tells it apart where stems agree."""
    for name in (
        lambda p: p.stem,
        lambda p: p.name.replace(".", "_"),
        lambda p: f"{p.parent.name}_{p.name.replace('.', '_')}",
    ):
        stems = [name(path) for path in paths]
        if len(set(stems)) == len(stems):
            return stems
    taken: dict[str, None] = {}
    for stem in stems:
        candidates = (stem if n == 1 else f"{stem}_{n}" for n in itertools.count(1))
        taken[next(name for name in candidates if name not in taken)] = None
    return list(taken)
