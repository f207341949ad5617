"""KITTI's Eigen split as BTS and GLPDepth list it, with the benchmark's 352×1216 crop."""

from __future__ import annotations

from pathlib import Path

from glpn_deploy.datasets.base import DepthSample, Pair
from glpn_deploy.datasets.lists import ListedDataset, Split
from glpn_deploy.errors import DatasetError

KB_CROP = (352, 1216)
"""Height and width [px] of the KITTI benchmark's crop."""


class KittiEigen(ListedDataset):
    """KITTI (Geiger et al., 2013; split of Eigen et al., 2014), sparse depth as uint16 of metres × 256.

    BTS's lists have depth paths of another root, and no ground truth for 45 of the 697 test images.

    Args:
        kb_crop: Cut image and depth to 352×1216, at the bottom and in the middle, as the authors do. The
            evaluation crop counts from there.
    """

    name = "kitti"
    lists = ("{split}_list.txt", "eigen_{split}_files_with_gt.txt")  # GLPDepth's, BTS's
    depth_scale = 256.0
    max_depth = 80.0
    crop = "garg"

    def __init__(
        self,
        root: str | Path,
        file_list: str | Path | None = None,
        *,
        split: Split = "test",
        depth_root: str | Path | None = None,
        kb_crop: bool = True,
    ) -> None:
        super().__init__(root, file_list, split=split, depth_root=depth_root)
        self.kb_crop = kb_crop

    def prepare(self, sample: DepthSample, pair: Pair) -> DepthSample:
        """Cuts the sample to the KB crop."""
        if not self.kb_crop:
            return sample
        (height, width), (rows, columns) = sample.depth.shape, KB_CROP
        if height < rows or width < columns:
            raise DatasetError(
                f"{pair.where}: {pair.image} is {width}x{height}",
                expected=f"at least {columns}x{rows}, the KB crop",
                fix="switch the KB crop off for images that are already cut",
            )
        top, left = height - rows, (width - columns) // 2
        window = (slice(top, top + rows), slice(left, left + columns))
        return DepthSample(sample.image[window], sample.depth[window], sample.name)
