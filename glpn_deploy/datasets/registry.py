"""The kinds of data set by name, each imported when it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from glpn_deploy.datasets.base import DepthDataset
from glpn_deploy.datasets.options import DatasetOptions, GroundTruthOptions, Kind
from glpn_deploy.errors import DatasetError, InputError
from glpn_deploy.optional import needs

_OPTIONS = {
    "nyu": {"file_list", "split", "as_released"},
    "kitti": {"file_list", "split", "depth_root", "kb_crop"},
    "folder": {"depth_scale"},
    "frames": {"depth_scale"},
    "rooms": {"split", "count", "size"},
}


def open_dataset(
    kind: str, path: str | Path | None = None, options: DatasetOptions = DatasetOptions()
) -> DepthDataset:
    """Opens a data set; its files are read as samples are asked for.

    Args:
        kind: ``nyu`` (a folder with file lists, or the labelled ``.mat``), ``kitti``, ``folder``, ``frames``
            (a folder whose images, by name, are the frames of one clip), ``rooms``.
        path: Where it lies; ``rooms`` are rendered and lie nowhere.

    Raises:
        DatasetError: The data set is missing or damaged.
        InputError: The kind is unknown, or an option is not one of its own.
        MissingDependencyError: A ``.mat`` needs h5py, which is not installed.
    """
    if kind not in get_args(Kind):
        raise InputError(f"the data set kind is {kind!r}", expected=f"one of {', '.join(get_args(Kind))}")
    given = {name: value for name, value in vars(options).items() if value is not None}
    mat = kind == "nyu" and path is not None and Path(path).suffix.lower() == ".mat"
    allowed = _OPTIONS[kind] - ({"split"} if mat else {"as_released"})
    for name in given:
        if name not in allowed:
            what = "the labelled .mat" if mat else f"a {kind} data set"
            raise InputError(f"{what} has no option {name}", expected=f"only {', '.join(sorted(allowed))}")
    splits = ("train", "val", "test") if kind == "rooms" else ("train", "test")
    split = options.split or "test"
    if split not in splits:
        raise InputError(f"the split is {split!r}", expected=f"one of {', '.join(splits)}")
    if kind == "rooms":
        if path is not None:
            raise InputError(f"rooms came with the path {str(path)!r}", expected="none: they are rendered")
        from glpn_deploy.datasets.rooms import DEFAULT_EVAL_SIZE, RenderedRooms

        height, width = options.size or DEFAULT_EVAL_SIZE
        count = 500 if options.count is None else options.count
        return RenderedRooms(split, count, height=height, width=width)
    if path is None:
        raise DatasetError(f"the {kind} data set has no path", expected="the folder it lies in")
    if mat:
        return _open_mat(Path(path), given)
    if kind == "nyu":
        from glpn_deploy.datasets.nyu import NyuDepthV2

        return NyuDepthV2(path, **given)
    if kind == "kitti":
        from glpn_deploy.datasets.kitti import KittiEigen

        return KittiEigen(path, **given)
    from glpn_deploy.datasets.folder import DepthFolder

    return DepthFolder(path, consecutive=kind == "frames", **given)


def open_ground_truth(options: GroundTruthOptions) -> DepthDataset | None:
    """The data set to evaluate on, or None where none is asked for; raises as `open_dataset`."""
    if options.dataset is None:
        return None
    return open_dataset(options.dataset, options.path, DatasetOptions(count=options.count))


def _open_mat(path: Path, given: dict[str, Any]) -> DepthDataset:
    with needs(f"reading {path}", "train"):
        from glpn_deploy.datasets.nyu_mat import NyuLabelled
    return NyuLabelled(path, given.get("file_list"), as_released=given.get("as_released", False))
