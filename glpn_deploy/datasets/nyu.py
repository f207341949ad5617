"""NYU Depth V2 as BTS and GLPDepth lay it out: file lists over JPEG images and 16-bit PNG depth."""

from __future__ import annotations

from glpn_deploy.datasets.lists import ListedDataset


class NyuDepthV2(ListedDataset):
    """NYU Depth V2 (Silberman et al., 2012), depth in millimetres, 480×640, evaluated in the NYU crop."""

    name = "nyu"
    lists = ("{split}_list.txt", "nyudepthv2_{split}_files_with_gt.txt")  # GLPDepth's, BTS's
    depth_scale = 1000.0
    crop = "nyu"
