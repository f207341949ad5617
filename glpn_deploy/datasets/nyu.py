"""NYU Depth V2 as BTS and GLPDepth lay it out: file lists over JPEG images and 16-bit PNG depth."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from glpn_deploy.datasets.base import PairDataset
from glpn_deploy.datasets.lists import find_list, read_pairs
from glpn_deploy.depth.metrics import Crop

Split = Literal["train", "test"]


class NyuDepthV2(PairDataset):
    """NYU Depth V2 (Silberman et al., 2012), depth in millimetres, 480×640, evaluated in the NYU crop.

    Args:
        root: The folder that the paths in the list start from.
        file_list: The list; ``None`` looks in ``root`` for ``{split}_list.txt`` (GLPDepth) and
            ``nyudepthv2_{split}_files_with_gt.txt`` (BTS).
        split: Which list to look for.
        max_depth: Ground truth at or above this [m] does not count.
        crop: The evaluation crop.

    Attributes:
        without_depth: Lines of the list left out because their depth is ``None``.

    Raises:
        DatasetError: The list is missing, empty or has a bad line, which is named.
    """

    def __init__(
        self,
        root: str | Path,
        file_list: str | Path | None = None,
        *,
        split: Split = "test",
        max_depth: float = 10.0,
        crop: Crop | None = "nyu",
    ) -> None:
        root = Path(root)
        names = (f"{split}_list.txt", f"nyudepthv2_{split}_files_with_gt.txt")
        listed = find_list(root, Path(file_list) if file_list else None, names)
        pairs, self.without_depth = read_pairs(listed, root, root)
        super().__init__(pairs, name="nyu", depth_scale=1000.0, max_depth=max_depth, crop=crop)
