"""The file lists that BTS and GLPDepth publish: a line per sample, ``image depth [focal]``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from glpn_deploy.datasets.base import Pair, PairDataset
from glpn_deploy.datasets.files import read_lines
from glpn_deploy.errors import DatasetError
from glpn_deploy.reading import is_regular

Split = Literal["train", "test"]
_FORM = "lines of 'image depth' or 'image depth focal_length'"


class ListedDataset(PairDataset):
    """A data set whose samples a file list names.

    Args:
        root: The folder that the image paths in the list start from.
        file_list: The list; ``None`` looks in ``root`` for those of ``lists``.
        depth_root: The folder that the depth paths start from, where it is another one.

    Attributes:
        lists: Names of the published lists, the first that is there being taken.
        without_depth: Lines of the list left out because their depth is ``None``: there is no ground truth.

    Raises:
        DatasetError: The list is missing, empty or has a bad line, which is named.
    """

    lists: tuple[str, ...]

    def __init__(
        self,
        root: str | Path,
        file_list: str | Path | None = None,
        *,
        split: Split = "test",
        depth_root: str | Path | None = None,
    ) -> None:
        root = Path(root)
        names = tuple(name.format(split=split) for name in self.lists)
        listed = find_list(root, Path(file_list) if file_list else None, names)
        pairs, self.without_depth = read_pairs(listed, root, Path(depth_root) if depth_root else root)
        super().__init__(pairs)


def read_pairs(file_list: Path, image_root: Path, depth_root: Path) -> tuple[list[Pair], int]:
    """The samples that a list names.

    Paths are relative to the two folders also where they begin with "/", as they do in these lists. Where
    the depth is ``None`` there is no ground truth: the line is left out and counted. The focal length plays
    no part in GLPN and is only checked to be a number.

    Returns:
        The pairs in the list's order, and how many lines have no ground truth.
    """
    pairs, without_depth = [], 0
    for number, fields in read_lines(file_list, _FORM):
        where = f"{file_list}, line {number}"
        if len(fields) not in (2, 3):
            raise DatasetError(f"{where} has {len(fields)} fields", expected=_FORM)
        if len(fields) == 3 and not _is_number(fields[2]):
            raise DatasetError(f"{where}: the focal length is {fields[2]!r}", expected="a number")
        image, depth = (field.lstrip("/") for field in fields[:2])
        if depth == "None":
            without_depth += 1
        else:
            pairs.append(Pair(image_root / image, depth_root / depth, image, where))
    if not pairs:
        raise DatasetError(f"no line of {file_list} has ground truth", expected=_FORM)
    return pairs, without_depth


def find_list(root: Path, file_list: Path | None, names: tuple[str, ...]) -> Path:
    """The given list, or the first of ``names`` that lies in ``root``."""
    if file_list is not None:
        return file_list
    for name in names:
        if is_regular(root / name):
            return root / name
    raise DatasetError(
        f"the folder {root} has no file list" if root.is_dir() else f"there is no folder {root}",
        expected=f"{' or '.join(names)} in it",
        fix="or name a file list of your own",
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
