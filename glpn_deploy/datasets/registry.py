"""The kinds of data set by name, each imported when it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from glpn_deploy.datasets.base import DepthDataset
from glpn_deploy.errors import DatasetError, InputError, MissingDependencyError

Kind = Literal["nyu", "kitti", "folder", "rooms"]

_OPTIONS = {
    "nyu": {"file_list", "split", "as_released"},
    "kitti": {"file_list", "split", "depth_root", "kb_crop"},
    "folder": {"depth_scale"},
    "rooms": {"split", "count", "size"},
}


def open_dataset(
    kind: str,
    path: str | Path | None = None,
    *,
    split: str | None = None,
    file_list: str | Path | None = None,
    depth_root: str | Path | None = None,
    depth_scale: float | None = None,
    kb_crop: bool | None = None,
    as_released: bool | None = None,
    count: int | None = None,
    size: tuple[int, int] | None = None,
) -> DepthDataset:
    """Opens a data set; its files are read as samples are asked for.

    Args:
        kind: ``nyu`` (a folder with file lists, or the labelled ``.mat``), ``kitti``, ``folder``, ``rooms``.
        path: Where it lies; ``rooms`` are rendered and lie nowhere.
        split: ``train`` or ``test`` (``rooms`` also ``val``); ``test`` where nothing is said.
        file_list: The list of a ``nyu`` or ``kitti`` folder, or the text file of indices for the ``.mat``.
        depth_root: ``kitti``: the folder that the depth paths start from, if another than ``path``.
        depth_scale: ``folder``: units per metre of depth PNGs.
        kb_crop: ``kitti``: cut to 352×1216, as by default.
        as_released: ``nyu`` as ``.mat``: depth and border as in the authors' test PNGs.
        count: ``rooms``: how many to render; 500 where nothing is said.
        size: ``rooms``: height and width [px]; ``rooms.DEFAULT_EVAL_SIZE`` where nothing is said.

    Raises:
        DatasetError: The data set is missing or damaged.
        InputError: The kind is unknown, or an option is not one of its own.
        MissingDependencyError: A ``.mat`` needs h5py, which is not installed.
    """
    if kind not in get_args(Kind):
        raise InputError(f"the data set kind is {kind!r}", expected=f"one of {', '.join(get_args(Kind))}")
    given: dict[str, Any] = {
        "split": split,
        "file_list": file_list,
        "depth_root": depth_root,
        "depth_scale": depth_scale,
        "kb_crop": kb_crop,
        "as_released": as_released,
        "count": count,
        "size": size,
    }
    given = {name: value for name, value in given.items() if value is not None}
    mat = kind == "nyu" and path is not None and Path(path).suffix.lower() == ".mat"
    allowed = _OPTIONS[kind] - ({"split"} if mat else {"as_released"})
    for name in given:
        if name not in allowed:
            what = "the labelled .mat" if mat else f"a {kind} data set"
            raise InputError(f"{what} has no option {name}", expected=f"only {', '.join(sorted(allowed))}")
    splits = ("train", "val", "test") if kind == "rooms" else ("train", "test")
    if split is not None and split not in splits:
        raise InputError(f"the split is {split!r}", expected=f"one of {', '.join(splits)}")
    if kind == "rooms":
        if path is not None:
            raise InputError(f"rooms came with the path {str(path)!r}", expected="none: they are rendered")
        from glpn_deploy.datasets.rooms import DEFAULT_EVAL_SIZE, RenderedRooms

        height, width = size or DEFAULT_EVAL_SIZE
        return RenderedRooms(split or "test", 500 if count is None else count, height=height, width=width)
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

    return DepthFolder(path, **given)


def _open_mat(path: Path, given: dict[str, Any]) -> DepthDataset:
    try:
        from glpn_deploy.datasets.nyu_mat import NyuLabelled
    except ImportError as error:
        raise MissingDependencyError(
            f"{path} is read with h5py, which is not installed ({error})",
            fix="pip install 'glpn-deploy[train]'",
        ) from None
    return NyuLabelled(path, given.get("file_list"), as_released=given.get("as_released", False))
