"""KITTI's Eigen split as BTS and GLPDepth list it, with the benchmark's 352×1216 crop."""

from __future__ import annotations

from pathlib import Path

from glpn_deploy.datasets.base import DepthSample, Pair, PairDataset
from glpn_deploy.datasets.lists import find_list, read_pairs
from glpn_deploy.datasets.nyu import Split
from glpn_deploy.depth.metrics import Crop
from glpn_deploy.errors import DatasetError

KB_CROP = (352, 1216)
"""Height and width [px] of the KITTI benchmark's crop."""


class KittiEigen(PairDataset):
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

    Attributes:
        without_depth: Lines of the list left out because their depth is ``None``, which says that there
            is no ground truth (45 of 697 in BTS's test list).

    Raises:
        DatasetError: The list is missing, empty or has a bad line, which is named.
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
        root = Path(root)
        names = (f"{split}_list.txt", f"eigen_{split}_files_with_gt.txt")
        listed = find_list(root, Path(file_list) if file_list else None, names)
        pairs, self.without_depth = read_pairs(listed, root, Path(depth_root) if depth_root else root)
        self.kb_crop = kb_crop
        super().__init__(pairs, name="kitti", depth_scale=256.0, max_depth=max_depth, crop=crop)

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
