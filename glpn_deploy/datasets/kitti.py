"""KITTI's Eigen split as BTS and GLPDepth list it, with the benchmark's 352×1216 crop."""

from __future__ import annotations

from pathlib import Path

from glpn_deploy.datasets.base import DepthSample, Pair
from glpn_deploy.datasets.lists import ListedDataset, Split
from glpn_deploy.depth.metrics import Crop
from glpn_deploy.errors import DatasetError

KB_CROP = (352, 1216)
"""Height and width [px] of the KITTI benchmark's crop."""


class KittiEigen(ListedDataset):
    """KITTI (Geiger et al., 2013; split of Eigen et al., 2014), sparse depth as uint16 of metres × 256.

    Args:
        root: The folder that the image paths in the list start from.
        file_list: The list; ``None`` looks in ``root`` for ``{split}_list.txt`` (GLPDepth) and
            ``eigen_{split}_files_with_gt.txt`` (BTS).
        split: Which list to look for.
        depth_root: The folder that the depth paths start from, where it is another one, as for BTS's lists.
        kb_crop: Cut image and depth to 352×1216, at the bottom and in the middle, as the authors do.
        max_depth: Ground truth at or above this [m] does not count.
        crop: The evaluation crop, which counts from the KB crop where that is on.

    BTS's test list has no ground truth for 45 of its 697 lines; see `ListedDataset.without_depth`.
    """

    def __init__(
        self,
        root: str | Path,
        file_list: str | Path | None = None,
        *,
        split: Split = "test",
        depth_root: str | Path | None = None,
        kb_crop: bool = True,
        max_depth: float = 80.0,
        crop: Crop | None = "garg",
    ) -> None:
        names = (f"{split}_list.txt", f"eigen_{split}_files_with_gt.txt")
        super().__init__(
            root,
            file_list,
            names,
            name="kitti",
            depth_root=depth_root,
            depth_scale=256.0,
            max_depth=max_depth,
            crop=crop,
        )
        self.kb_crop = kb_crop

    def prepare(self, sample: DepthSample, pair: Pair) -> DepthSample:
        """Cuts the sample to the KB crop.

        Raises:
            DatasetError: The image is smaller than that.
        """
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
