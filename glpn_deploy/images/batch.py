"""The batch side of HF's ``preprocess``: what counts as images going in, and the dict coming out."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glpn_deploy.errors import InputError
from glpn_deploy.images.loading import ImageSource, load_image
from glpn_deploy.optional import needs


class ImageBatch(dict[str, Any]):
    """What ``preprocess`` returns: a dict, as the model takes it, whose entry is an attribute too."""

    @property
    def pixel_values(self) -> Any:
        """(N, 3, H, W) float32, from 0 to 1."""
        return self["pixel_values"]


def load_images(images: ImageSource | Sequence[ImageSource]) -> list[NDArray[np.uint8]]:
    """Loads one image or several as (H, W, 3) uint8 RGB, by HF's rules.

    Arrays may have their channels first, one array (N, ...) is N images, and what numpy can read (a torch
    tensor) is an array. A file is turned upright by its EXIF orientation, a PIL image is taken as it stands,
    so that ``image.size`` is still the size of its depth.

    Raises:
        ImageError: An image cannot be read or is too small.
        InputError: There is no image.
    """
    several = isinstance(images, (list, tuple)) or getattr(images, "ndim", 0) == 4
    loaded = [_load(image) for image in images] if several else [_load(images)]  # type: ignore[union-attr]
    if not loaded:
        raise InputError("the list of images is empty", expected="at least one image")
    return loaded


def collate(prepared: list[NDArray[np.float32]], return_tensors: str) -> ImageBatch:
    """Stacks prepared images (3, H, W) of one size into ``pixel_values`` (N, 3, H, W).

    Args:
        prepared: The images, at least one.
        return_tensors: ``np`` for numpy, ``pt`` for torch.

    Raises:
        InputError: The sizes differ, or ``return_tensors`` is neither.
        MissingDependencyError: torch is asked for and not installed.
    """
    sizes = sorted({pixels.shape[1:] for pixels in prepared})
    if len(sizes) > 1:
        raise InputError(
            f"the images come out at different sizes ({', '.join(f'{h} x {w}' for h, w in sizes)})",
            expected="one height x width for the whole batch",
            fix="process them size by size, or let DepthEstimator.predict do so",
        )
    batch = prepared[0][None] if len(prepared) == 1 else np.stack(prepared)
    return ImageBatch(pixel_values=_as_tensor(batch, return_tensors))


def _load(image: Any) -> NDArray[np.uint8]:
    if isinstance(image, Image.Image):
        return load_image(image, orient=False)
    if hasattr(image, "__array__"):
        array = np.asarray(image)
        channels_first = array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4)
        return load_image(array.transpose(1, 2, 0) if channels_first else array)
    return load_image(image)


def _as_tensor(batch: NDArray[np.float32], kind: str) -> Any:
    if kind == "np":
        return batch
    if kind != "pt":
        raise InputError(f"return_tensors is {kind!r}", expected="'np' or 'pt'")
    with needs("return_tensors='pt'", "export", instead='ask for return_tensors="np"'):
        torch = importlib.import_module("torch")
    return torch.from_numpy(batch)
