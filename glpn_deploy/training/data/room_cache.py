"""Rendered rooms kept on disk, so that an epoch reads what the first one rendered."""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing
import os
import shutil
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from glpn_deploy import progress
from glpn_deploy.atomic import make_folder, replace_folder, staging_folder
from glpn_deploy.datasets.base import DepthSample
from glpn_deploy.datasets.rooms import RenderedRooms
from glpn_deploy.depth.metrics import Crop
from glpn_deploy.errors import DatasetError, WriteError

_IMAGES, _DEPTH = "images.npy", "depth.npy"
_CHUNK = 64  # rooms a worker renders before it reports


@dataclasses.dataclass
class CachedRooms:
    """Rooms read from memory-mapped arrays: RGB as rendered, depth [m] in float16 (error below 0.05 %).

    Attributes:
        folder: Holds ``images.npy`` (N, H, W, 3) uint8 and ``depth.npy`` (N, H, W) float16.
        count: How many of them, from the first, are used.
    """

    folder: Path
    count: int
    first_seed: int
    name: str
    max_depth: float
    crop: Crop | None

    def __len__(self) -> int:
        return min(self.count, len(self._arrays[0]))

    def __getitem__(self, index: int) -> DepthSample:
        images, depth = self._arrays
        return DepthSample(
            np.array(images[index]), depth[index].astype(np.float32), f"room-{self.first_seed + index}"
        )

    def __getstate__(self) -> dict[str, Any]:
        # A loader's worker process maps the files itself; pickling a map would copy it whole.
        return {name: value for name, value in self.__dict__.items() if name != "_arrays"}

    @functools.cached_property
    def _arrays(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16]]:
        try:
            return (
                np.load(self.folder / _IMAGES, mmap_mode="r"),
                np.load(self.folder / _DEPTH, mmap_mode="r"),
            )
        except (OSError, ValueError, EOFError) as error:
            raise DatasetError(
                f"the room cache {self.folder} cannot be read ({error})",
                fix=f"remove it: rm -r {self.folder}",
            ) from None


def cached_rooms(rooms: RenderedRooms, cache: Path, *, workers: int) -> CachedRooms:
    """Opens the rooms from a cache, rendering them into it first where it lacks them.

    Args:
        cache: Folder of caches, made where missing; each has its own folder by split, seeds and size.
        workers: Processes to render with; 0 or 1 renders in this one.
    """
    folder = _find(rooms, cache)
    if not folder.exists():
        make_folder(cache)
        _render_all(rooms, folder, max(workers, 1))
    first_seed = int(rooms[0].name.removeprefix("room-"))
    cached = CachedRooms(folder, rooms.count, first_seed, rooms.name, rooms.max_depth, rooms.crop)
    _check(cached, rooms)
    return cached


def _find(rooms: RenderedRooms, cache: Path) -> Path:
    """The folder of these rooms, or of more that begin with them."""
    before = f"rooms-{rooms.split}-{rooms.start}-"
    after = f"-{rooms.height}x{rooms.width}"
    for folder in sorted(cache.glob(f"{before}*{after}")):
        count = folder.name.removeprefix(before).removesuffix(after)
        if count.isdecimal() and int(count) >= rooms.count:
            return folder
    return cache / f"{before}{rooms.count}{after}"


def _render_all(rooms: RenderedRooms, folder: Path, workers: int) -> None:
    size = (rooms.count, rooms.height, rooms.width)
    chunks = [range(i, min(i + _CHUNK, rooms.count)) for i in range(0, rooms.count, _CHUNK)]
    with progress.step("Rendering rooms", len(chunks)) as step, staging_folder(folder) as staging:
        _need_room(staging, int(np.prod(size)) * 5)  # 3 bytes RGB, 2 bytes depth
        images = np.lib.format.open_memmap(staging / _IMAGES, "w+", np.uint8, (*size, 3))
        depth = np.lib.format.open_memmap(staging / _DEPTH, "w+", np.float16, size)
        del images, depth
        if workers == 1:
            for chunk in chunks:
                _render(rooms, chunk, staging)
                step.advance(f"{chunk.stop} of {rooms.count}")
        else:
            # Fresh processes: one forked beside torch's threads could hang.
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(workers, context, _live_with, (os.getpid(),)) as pool:
                try:
                    work = pool.map(functools.partial(_render, rooms, folder=staging), chunks)
                    for chunk, _ in zip(chunks, work, strict=True):
                        step.advance(f"{chunk.stop} of {rooms.count}")
                except BaseException:
                    pool.shutdown(wait=True, cancel_futures=True)
                    raise
        replace_folder(staging, folder)
        step.finish(f"{rooms.count} rooms of {rooms.width}x{rooms.height} in {folder}")


def _live_with(parent: int) -> None:
    """Starts a worker process: Ctrl-C is the parent's to answer, and a killed parent takes it along."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _render(rooms: RenderedRooms, chunk: range, folder: Path) -> None:
    images = np.load(folder / _IMAGES, mmap_mode="r+")
    depth = np.load(folder / _DEPTH, mmap_mode="r+")
    for index in chunk:
        sample = rooms[index]
        images[index], depth[index] = sample.image, sample.depth
    images.flush()
    depth.flush()


def _need_room(folder: Path, size: int) -> None:
    """Refuses before hours of rendering what would not fit; writing to a map of a full disk is a crash."""
    available = shutil.disk_usage(folder).free
    if available < size:
        raise WriteError(
            f"the rooms take {size / 1e9:.1f} GB and {folder.parent} has {available / 1e9:.1f} GB free",
            fix="choose another --cache folder, or fewer rooms",
        )


def _check(cached: CachedRooms, rooms: RenderedRooms) -> None:
    """Renders two rooms anew: a cache of an older renderer differs."""
    fits = len(cached) == rooms.count
    for index in (0, rooms.count - 1) if fits else ():
        kept, fresh = cached[index], rooms[index]
        fits = fits and np.array_equal(kept.image, fresh.image)
        fits = fits and np.array_equal(kept.depth, fresh.depth.astype(np.float16).astype(np.float32))
    if not fits:
        raise DatasetError(
            f"the room cache {cached.folder} does not hold what the renderer gives today",
            fix=f"remove it, and it is rendered anew: rm -r {cached.folder}",
        )
