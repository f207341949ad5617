"""A folder of images as frames, in the order of their names."""

from __future__ import annotations

import math
from collections.abc import Generator
from fractions import Fraction

from glpn_deploy.errors import VideoError
from glpn_deploy.images.files import find_images
from glpn_deploy.images.loading import load_image
from glpn_deploy.video.frame import Frame, FrameSource
from glpn_deploy.video.options import FrameOptions

_RATE = 30.0  # frames a second, where nothing is said


class FolderFrames(FrameSource):
    """The images of a folder, as frames of one rate.

    Args:
        options: ``fps`` is the rate of the images; ``start`` and ``end`` are times at that rate.

    Raises:
        ImageError: The folder is missing or has no images.
        VideoError: No image lies between ``start`` and ``end``.
    """

    def __init__(self, folder: str, options: FrameOptions) -> None:
        self.name = folder
        paths = find_images([folder])
        self._time_base = 1 / Fraction(options.fps or _RATE).limit_denominator(1001)
        last = len(paths) if options.end is None else math.ceil(options.end / self._time_base)
        first = math.ceil(options.start / self._time_base)
        self._chosen = list(enumerate(paths))[first : last : options.every]
        if not self._chosen:
            raise VideoError(
                f"none of the {len(paths)} images in {folder} lies between --start and --end",
                expected=f"times from 0 to {float(len(paths) * self._time_base):g} s",
            )
        self.total = len(self._chosen)

    def __iter__(self) -> Generator[Frame, None, None]:
        for index, path in self._chosen:
            yield Frame(load_image(path), index, self._time_base, index)
