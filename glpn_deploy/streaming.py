"""Depth of images in order: reading, the network and enlarging, each in a thread of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.depth.depth_map import DepthMap
from glpn_deploy.errors import BackendError, GlpnError, ImageError, InputError
from glpn_deploy.images.loading import ImageSource
from glpn_deploy.images.resample import resize_bicubic
from glpn_deploy.pipeline import ahead, grouped, in_order

Item = TypeVar("Item")

OF_ONE_IMAGE = (BackendError, ImageError, InputError, MemoryError)
"""What goes wrong with one image and leaves the others unharmed: unreadable, no room, no engine."""


@dataclasses.dataclass(eq=False)
class Streamed(Generic[Item]):
    """An item of a stream and what became of its image.

    Attributes:
        index: Its place in the stream, from 0.
        item: As it was given to `DepthEstimator.stream`.
        error: Why the image could not be used, or None.
    """

    index: int
    item: Item
    error: ImageError | None = None
    _source: ImageSource = ""
    _image: NDArray[np.uint8] | None = None
    _pixels: NDArray[Any] | None = None  # what the network takes: (3, H, W) float32, or (H, W, 3) uint8
    _raw: NDArray[np.float32] | None = None  # (H, W) [m]
    _depth_map: DepthMap | None = None

    @property
    def image(self) -> NDArray[np.uint8]:
        """The image, (H, W, 3) uint8 RGB; raises the error where there is one."""
        if self.error is not None:
            raise self.error
        assert self._image is not None
        return self._image

    @property
    def depth_map(self) -> DepthMap:
        """Its depth; raises the error where there is one."""
        if self.error is not None:
            raise self.error
        assert self._depth_map is not None
        return self._depth_map

    def refuse(self, error: Exception) -> None:
        """Takes what went wrong with the image as the image's own error."""
        self.error = _of_image(self._source, error)


@dataclasses.dataclass(frozen=True)
class Stages:
    """What is done to every image of a stream.

    Attributes:
        load: Reads it: (H, W, 3) uint8 RGB.
        prepare: Makes what the network takes of it: (3, H, W) float32, or (H, W, 3) uint8.
        run: The network on prepared images of one size: (N, H, W) [m], N their number or more. The first
            argument is the first one's source, for messages.
        at_once: Runs of the network at the same time.
    """

    load: Callable[[ImageSource], NDArray[np.uint8]]
    prepare: Callable[[NDArray[np.uint8]], NDArray[Any]]
    run: Callable[[ImageSource, list[NDArray[Any]]], NDArray[np.float32]]
    max_depth: float
    at_once: int

    def stream(
        self,
        items: Iterable[Item],
        image_of: Callable[[Item], ImageSource],
        *,
        read_ahead: bool,
        limit: int,
        caught: tuple[type[Exception], ...],
    ) -> Generator[Streamed[Item], None, None]:
        """The work of `DepthEstimator.stream`.

        Args:
            read_ahead: Whether an item is taken before the one before it is done.
            limit: Most images that enter the network together.
            caught: Errors that become their image's own; others end the stream.
        """

        def read() -> Generator[Streamed[Item], None, None]:
            try:
                for number, item in enumerate(items):
                    entry = Streamed(number, item)
                    try:
                        entry._source = image_of(item)
                        entry._image = image = self.load(entry._source)
                        entry._pixels = self.prepare(image)
                    except caught as error:
                        entry.refuse(error)
                    yield entry
            finally:
                if isinstance(items, Generator):
                    items.close()

        def compute(group: list[Streamed[Item]]) -> list[Streamed[Item]]:
            pixels = [entry._pixels for entry in group if entry._pixels is not None]
            if not pixels:
                return group
            try:
                raw = self.run(group[0]._source, pixels)
            except caught as error:
                if len(group) == 1:
                    group[0].refuse(error)
                else:  # one of them may be to blame, or their number
                    group = [entry for one in group for entry in compute([one])]
                return group
            for entry, depth in zip(group, raw, strict=False):  # what filled a fixed batch is left over
                entry._raw, entry._pixels = depth, None
            return group

        def finish(group: list[Streamed[Item]]) -> list[Streamed[Item]]:
            for entry in group:
                if entry._image is None or entry._raw is None:
                    continue
                name = str(entry._source) if isinstance(entry._source, (str, Path)) else None
                try:
                    depth = resize_bicubic(entry._raw, entry._image.shape[:2])
                    entry._depth_map, entry._raw = DepthMap(depth, self.max_depth, name), None
                except caught as error:
                    entry.refuse(error)
            return group

        def size(entry: Streamed[Item]) -> tuple[int, ...] | None:
            return None if entry._pixels is None else entry._pixels.shape

        groups = grouped(read(), size, limit)
        if read_ahead:
            done = ahead(ahead(ahead(groups, lambda group: group), compute, self.at_once), finish)
        else:
            done = (finish(compute(group)) for group in groups)
        return in_order(done, lambda entry: entry.index)


def image_of(item: Any) -> ImageSource:
    """The image of a stream's item: its attribute ``image``, or itself."""
    image: ImageSource = getattr(item, "image", item)
    return image


def _of_image(source: ImageSource, error: Exception) -> ImageError:
    """What went wrong with one image, as that image's error; the others may still succeed."""
    name = f"{source}: " if isinstance(source, (str, Path)) and str(source) else ""
    if isinstance(error, ImageError) and (not name or str(source) in error.got):
        return error
    if isinstance(error, GlpnError):
        found = ImageError(name + error.got, expected=error.expected, fix=error.fix)
    else:
        found = ImageError(f"{name}there is not enough memory for it", fix="shrink the image")
    found.__cause__ = error
    return found
