"""The batch side of HF's ``preprocess``: what counts as images going in, and the dict coming out."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glpn_deploy.errors import InputError
from glpn_deploy.images.loading import MIN_SIDE, load_image
from glpn_deploy.optional import needs

_Batch = TypeVar("_Batch", bound="ImageBatch")


class ImageBatch(dict[str, Any]):
    """What ``preprocess`` returns: a dict, as the model takes it, whose entries are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the batch has no {name!r}, only {', '.join(self)}") from None

    @property
    def data(self) -> dict[str, Any]:
        """The entries, under HF's name for them."""
        return self

    def to(self: _Batch, *args: Any, **kwargs: Any) -> _Batch:
        """Moves torch tensors to a device or a floating type, as ``Tensor.to``; gives the batch itself.

        Numbers that are not floating keep their type.
        """
        for name, value in self.items():
            if hasattr(value, "to"):
                dtypes = [v for v in (*args, *kwargs.values()) if type(v).__name__ == "dtype"]
                if not dtypes or value.is_floating_point():
                    self[name] = value.to(*args, **kwargs)
        return self

    def convert_to_tensors(self: _Batch, tensor_type: str | None = None) -> _Batch:
        """Stacks the images: ``np`` for numpy, ``pt`` for torch, None leaves them; gives the batch itself.

        Raises:
            InputError: The sizes differ, or the type is neither.
            MissingDependencyError: torch is asked for and not installed.
        """
        for name, value in self.items():
            if tensor_type is not None:
                self[name] = _stacked(value, str(getattr(tensor_type, "value", tensor_type)))
        return self


def each_image(images: Any) -> Iterator[Any]:
    """Single images of what HF takes as images: one, a list, lists in a list, arrays (N, ...)."""
    if isinstance(images, (list, tuple)) or getattr(images, "ndim", 0) == 4:
        if len(images) == 0:
            raise InputError("the list of images is empty", expected="at least one image")
        for image in images:
            yield from each_image(image)
    else:
        yield images


def as_array(
    image: Any, input_data_format: Any = None, *, min_side: int = MIN_SIDE, keep_floats: bool = False
) -> NDArray[Any]:
    """One image by HF's rules as (H, W, 3) uint8 RGB, or as float32 from 0 to 1.

    Arrays may have their channels first, and what numpy can read (a torch tensor) is an array. A file is
    turned upright by its EXIF orientation, a PIL image is taken as it stands, so that ``image.size`` is still
    the size of its depth.

    Args:
        input_data_format: ``channels_first`` or ``channels_last``; None finds out.
        min_side: The shortest side allowed [px].
        keep_floats: Leave float arrays from 0 to 1 as they are.
    """
    if isinstance(image, Image.Image):
        return load_image(image, orient=False, min_side=min_side)
    if not hasattr(image, "__array__"):
        return load_image(image, min_side=min_side)
    if hasattr(image, "detach"):  # a torch tensor, which numpy reads only so
        image = image.detach().cpu()
    array = np.asarray(image)
    if array.ndim == 3 and _channels_first(array, input_data_format):
        array = array.transpose(1, 2, 0)
    rgb = load_image(array, min_side=min_side)
    if keep_floats and array.dtype.kind == "f" and array.max() <= 1:
        floats = np.asarray(array.reshape(*rgb.shape[:2], -1)[:, :, :3], np.float32)
        return np.broadcast_to(floats, rgb.shape)
    return rgb


def _channels_first(array: NDArray[Any], given: Any) -> bool:
    given = getattr(given, "value", given)
    if given is None:
        return array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4)
    if given not in {"channels_first", "channels_last"}:
        raise InputError(f"input_data_format is {given!r}", expected="channels_first or channels_last")
    return bool(given == "channels_first")


def _stacked(values: Any, kind: str) -> Any:
    """Images (3, H, W) of one size as one batch (N, 3, H, W) of numpy or torch."""
    if kind not in {"np", "pt"}:
        raise InputError(f"return_tensors is {kind!r}", expected="'np', 'pt' or None")
    if isinstance(values, list):
        sizes = sorted({pixels.shape for pixels in values})
        if len(sizes) > 1:
            raise InputError(
                f"the images come out at different sizes ({', '.join(f'{h} x {w}' for _, h, w in sizes)})",
                expected="one height x width for the whole batch",
                fix="process them size by size, take them as a list (return_tensors=None), or let "
                "DepthEstimator.predict do so",
            )
        values = values[0][None] if len(values) == 1 else np.stack(values)
    if kind == "np":
        return np.asarray(values)
    with needs("return_tensors='pt'", "export", instead='ask for return_tensors="np"'):
        torch = importlib.import_module("torch")
    return torch.as_tensor(values)
