"""Finding the images that a person names: files, folders and globs."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from glpn_deploy.errors import ImageError

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
        if path.is_dir():
            found = _only_images(path.iterdir())
        elif not path.exists() and _WILDCARDS & set(name):
            found = _only_images(Path(match) for match in glob.glob(name, recursive=True))  # noqa: PTH207 - absolute patterns
        else:
            found = [path] if path.exists() else []
        if not found:
            what = "the folder has no images" if path.is_dir() else "nothing is there"
            raise ImageError(
                f"{name}: {what}", expected="an image, a folder of images or a glob such as 'shots/*.jpg'"
            )
        paths.update(dict.fromkeys(found))
    return list(paths)


def _only_images(paths: object) -> list[Path]:
    suffixes = Image.registered_extensions()
    return sorted(p for p in paths if p.suffix.lower() in suffixes and p.is_file())  # type: ignore[attr-defined]


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
    seen: Counter[str] = Counter()
    numbered = []
    for stem in stems:
        seen[stem] += 1
        numbered.append(stem if seen[stem] == 1 else f"{stem}_{seen[stem]}")
    return numbered
