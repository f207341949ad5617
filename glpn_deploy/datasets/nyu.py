"""NYU Depth V2 as BTS and GLPDepth lay it out: file lists over JPEG images and 16-bit PNG depth."""

from __future__ import annotations

from pathlib import Path

from glpn_deploy.datasets.lists import ListedDataset, Split
from glpn_deploy.depth.metrics import Crop


class NyuDepthV2(ListedDataset):
    """NYU Depth V2 (Silberman et al., 2012), depth in millimetres, 480×640, evaluated in the NYU crop.

    Args:
        root: The folder that the paths in the list start from.
        file_list: The list; ``None`` looks in ``root`` for ``{split}_list.txt`` (GLPDepth) and
            ``nyudepthv2_{split}_files_with_gt.txt`` (BTS).
        split: Which list to look for.
        max_depth: Ground truth at or above this [m] does not count.
        crop: The evaluation crop.
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
        names = (f"{split}_list.txt", f"nyudepthv2_{split}_files_with_gt.txt")
        super().__init__(
            root, file_list, names, name="nyu", depth_scale=1000.0, max_depth=max_depth, crop=crop
        )
