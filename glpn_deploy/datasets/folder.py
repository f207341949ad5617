"""A plain folder of image and depth files that go together by name."""

from __future__ import annotations

import math
import re
from pathlib import Path

from glpn_deploy.datasets.base import Pair, PairDataset
from glpn_deploy.errors import DatasetError

_IMAGES = {".jpg", ".jpeg", ".png"}
_DEPTHS = {".png", ".npy"}
_PREDICTED = re.compile(r"\.depth(_mm|_kitti)?$")  # what glpn-predict adds to a stem


class DepthFolder(PairDataset):
    """``ROOT/images/*.{jpg,jpeg,png}`` and ``ROOT/depth/*.{png,npy}``, matched by name without the ending.

    What glpn-predict writes (``a.depth_mm.png``, ``a.depth_kitti.png``, ``a.depth.npy``) belongs to ``a``.

    Image pixels are taken as stored: EXIF orientation is not applied, since the depth has none.

    Args:
        depth_scale: Units per metre of the 16-bit depth PNGs, such as 1000 for millimetres; it has to be
            stated where there are any whose names (glpn-predict's) do not say it. ``.npy`` files hold metres.
        consecutive: The images, in the order of their names, are the frames of one clip at 30 a second.

    Raises:
        DatasetError: A folder is missing or empty, a file has no partner or two of them, or the scale is
            missing or not a number above 0.
    """

    def __init__(
        self, root: str | Path, *, depth_scale: float | None = None, consecutive: bool = False
    ) -> None:
        root = Path(root)
        if depth_scale is not None and not 0 < depth_scale < math.inf:
            raise DatasetError(f"the depth scale is {depth_scale}", expected="units per metre, above 0")
        images, depths = _by_stem(root / "images", _IMAGES), _by_stem(root / "depth", _DEPTHS)
        for stem in sorted(images.keys() ^ depths.keys()):
            found, kind = (images[stem], "depth") if stem in images else (depths[stem], "image")
            raise DatasetError(f"{found} has no {kind} of the same name", expected=f"pairs by name in {root}")
        pngs = [path for path in depths.values() if path.suffix.lower() == ".png"]
        if depth_scale is None:
            depth_scale = _named_scale(pngs)
        if pngs and depth_scale is None:
            raise DatasetError(
                f"the unit of {pngs[0]} is not known",
                expected="a depth scale in units per metre",
                fix="state 1000 for millimetres, 256 for KITTI's format",
            )
        super().__init__([Pair(images[stem], depths[stem], images[stem].name) for stem in sorted(images)])
        self.name = "frames" if consecutive else "folder"
        self.depth_scale, self.consecutive = depth_scale, consecutive


def _named_scale(pngs: list[Path]) -> float | None:
    """Units per metre by the names that glpn-predict gives, where all agree."""
    named = {(_PREDICTED.search(path.stem) or [""])[0] for path in pngs}
    return {".depth_mm": 1000.0, ".depth_kitti": 256.0}.get(named.pop()) if len(named) == 1 else None


def _by_stem(folder: Path, endings: set[str]) -> dict[str, Path]:
    kinds = ", ".join(sorted(endings))
    if not folder.is_dir():
        raise DatasetError(f"there is no folder {folder}", expected=f"files ending in {kinds} there")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in endings or path.name.startswith("."):
            continue
        stem = _PREDICTED.sub("", path.stem) if endings is _DEPTHS else path.stem
        if stem in found:
            raise DatasetError(f"{found[stem]} and {path} have the same name", expected="one file a name")
        found[stem] = path
    if not found:
        raise DatasetError(f"the folder {folder} is empty", expected=f"files ending in {kinds}")
    return found
