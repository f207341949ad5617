"""Finding the images that a person names: files, folders and globs."""

from __future__ import annotations

import glob
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from glpn_deploy.errors import ImageError
from glpn_deploy.images.opening import readable_formats

_WILDCARDS = frozenset("*?[")


def find_images(names: Sequence[str]) -> list[Path]:
    """Expands files, folders (their images, not those of folders within) and globs, each path once.

    A file that is named is taken whatever its suffix; in folders and globs the suffix has to be one
    that Pillow reads.

    Raises:
        ImageError: A name matches nothing, or a folder has no image.
    """
    paths: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        try:
            if path.is_dir():
                found = _only_images(path.iterdir())
            elif not path.exists() and _WILDCARDS & set(name):
                found = _only_images(Path(match) for match in glob.glob(name, recursive=True))  # noqa: PTH207 - absolute patterns
            else:
                found = [path] if path.exists() else []
        except OSError as error:  # a folder that may not be read, a name too long
            raise ImageError(
                f"{name} cannot be read ({error.strerror})", expected="an image, a folder or a glob"
            ) from None
        if not found:
            what = "the folder has no images" if path.is_dir() else "nothing is there"
            raise ImageError(
                f"{name}: {what}", expected="an image, a folder of images or a glob such as 'shots/*.jpg'"
            )
        paths.update(dict.fromkeys(found))
    return list(paths)


def _only_images(paths: Iterable[Path]) -> list[Path]:
    suffixes = {
        suffix for suffix, kind in Image.registered_extensions().items() if kind in readable_formats()
    }
    return sorted(path for path in paths if path.suffix.lower() in suffixes and path.is_file())


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
