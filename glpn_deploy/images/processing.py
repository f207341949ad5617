"""GLPNImageProcessor: RGB images into the network's input and its output back to the image's size."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glpn_deploy.errors import ConfigError, ImageError, InputError
from glpn_deploy.images.batch import ImageBatch, as_array, each_image
from glpn_deploy.images.loading import MIN_SIDE, ImageSource
from glpn_deploy.images.loading import load_image as load_image
from glpn_deploy.images.processor_base import CONFIG_NAME as CONFIG_NAME
from glpn_deploy.images.processor_base import ProcessorBase
from glpn_deploy.images.resample import resize_bicubic as resize_bicubic


@dataclasses.dataclass(init=False, repr=False)
class GLPNImageProcessor(ProcessorBase):
    """GLPN's image processor, bit-equal to HF transformers' PIL backend on RGB uint8 images.

    Unlike HF's it turns every kind of image into RGB first (see ``load_image``), takes floats from 0 to 1
    for what they are, and refuses an image that would shrink to nothing.

    Attributes can be set, and are checked when they are.
    """

    def target_size(self, height: int, width: int) -> tuple[int, int]:
        """The size (height, width) [px] at which an image of the given size enters the network.

        Raises:
            ImageError: A side is shorter than ``size_divisor``.
        """
        if not self.do_resize:
            return height, width
        if min(height, width) < self.size_divisor:
            raise ImageError(
                f"the image is {width} px wide and {height} px high",
                expected=f"at least {self.size_divisor} px on either side",
                fix="enlarge the image or choose a larger crop",
            )
        return height - height % self.size_divisor, width - width % self.size_divisor

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One image, as ``load_image`` gives it, as the network takes it.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            (3, H32, W32) float32, contiguous, where (H32, W32) is ``target_size(H, W)``.

        Raises:
            InputError: The array has another shape or dtype.
            ImageError: A side is shorter than ``size_divisor``.
        """
        image = self.prepare_bytes(image)
        pixels = np.empty((3, *image.shape[:2]), np.float32)
        table = _rescaled_bytes(self.rescale_factor if self.do_rescale else 1.0)
        # A byte cannot be out of range; mode "raise" would buffer the output, which doubles the time.
        return self._normalized(np.take(table, image.transpose(2, 0, 1), out=pixels, mode="clip"))

    def prepare_bytes(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The same before rescaling, which networks of ``glpn-export --io uint8`` do themselves.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            (H32, W32, 3) uint8, contiguous: the image itself where it has that size.

        Raises:
            InputError: The array has another shape or dtype.
            ImageError: A side is shorter than ``size_divisor``.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(
                f"the image is {image.dtype} of shape {image.shape}",
                expected="uint8 of shape (height, width, 3)",
                fix="pass it through load_image",
            )
        return np.ascontiguousarray(self._resized(image))

    def require_plain(self, what: str) -> None:
        """Refuses settings other than GLPN's 1/255 and nothing else, for what does that itself."""
        if not self.do_rescale or self.rescale_factor != 1 / 255 or self.do_normalize:
            raise ConfigError(
                f"{what}, and the image processor does more or less than that",
                expected="do_rescale with a rescale_factor of 1/255, and no do_normalize",
                fix="export without --io uint8",
            )

    def _resized(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = self.target_size(*image.shape[:2])
        if image.shape[:2] == (height, width):
            return image
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling(self.resample)))

    def _normalized(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """(3, H, W) less the mean, divided by the standard deviation, where that is asked for."""
        if not self.do_normalize:
            return pixels
        if self.image_mean is None or self.image_std is None:
            raise ConfigError("do_normalize without image_mean and image_std", expected="both")
        mean, std = (np.asarray(v, np.float32).reshape(-1, 1, 1) for v in (self.image_mean, self.image_std))
        return (pixels - mean) / std

    def _from_floats(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """(H, W, 3) from 0 to 1 at the network's size, otherwise as it is.

        As in HF, Pillow resizes 8 bits, to which values are rounded down.
        """
        if not self.do_resize:
            return self._normalized(np.ascontiguousarray(image.transpose(2, 0, 1)))
        bytes_ = (image.astype(np.float64) * 255).astype(np.float32).astype(np.uint8)
        return self.replace(do_rescale=True, rescale_factor=1 / 255).prepare(bytes_)

    def preprocess(
        self,
        images: ImageSource | Sequence[Any],
        *,
        do_resize: bool | None = None,
        size_divisor: int | None = None,
        resample: int | None = None,
        do_rescale: bool | None = None,
        rescale_factor: float | None = None,
        do_normalize: bool | None = None,
        image_mean: float | Sequence[float] | None = None,
        image_std: float | Sequence[float] | None = None,
        do_convert_rgb: bool | None = None,
        return_tensors: str | None = None,
        data_format: str | None = None,
        input_data_format: str | None = None,
        device: Any = None,
    ) -> ImageBatch:
        """Images as the network takes them, with HF's signature.

        Args:
            images: One image or several: paths, PIL images, arrays with the channels last or first, or lists
                of them. As in HF, only files are turned upright by their EXIF orientation, not PIL images.
            do_resize: Overrides the attribute for this call, as do the next seven keywords.
            do_convert_rgb: Has no effect: images become RGB in any case.
            return_tensors: ``np`` for numpy, ``pt`` for torch, None for a list of arrays, whose sizes may
                differ.
            data_format: ``channels_last`` gives (H, W, 3); ``channels_first`` is what the network takes.
            input_data_format: Where arrays have their channels; None finds out.
            device: Where torch tensors go.

        Returns:
            A dict whose ``pixel_values`` are (N, 3, H, W) float32; uint8 where 8-bit images are neither
            rescaled nor normalized.

        Raises:
            ImageError: An image cannot be read or is too small.
            InputError: No image, or images that come out at different sizes and are to be one tensor.
        """
        given = {
            "do_resize": do_resize,
            "size_divisor": size_divisor,
            "resample": resample,
            "do_rescale": do_rescale,
            "rescale_factor": rescale_factor,
            "do_normalize": do_normalize,
            "image_mean": image_mean,
            "image_std": image_std,
        }
        processor = self.replace(**{name: value for name, value in given.items() if value is not None})
        prepared = [processor._prepared(image, input_data_format) for image in each_image(images)]
        data_format = getattr(data_format, "value", data_format)
        if data_format == "channels_last":
            prepared = [pixels.transpose(1, 2, 0) for pixels in prepared]
        elif data_format not in {None, "channels_first"}:
            raise InputError(f"data_format is {data_format!r}", expected="channels_first or channels_last")
        batch = ImageBatch(pixel_values=prepared).convert_to_tensors(return_tensors)
        return batch if device is None else batch.to(device)

    __call__ = preprocess

    def _prepared(self, image: Any, input_data_format: str | None) -> NDArray[Any]:
        """One image of any kind as (3, H, W)."""
        array = as_array(
            image,
            input_data_format,
            min_side=MIN_SIDE if self.do_resize else 1,
            keep_floats=not self.do_rescale,
        )
        if array.dtype != np.uint8:
            return self._from_floats(array)
        if self.do_rescale or self.do_normalize:
            return self.prepare(array)
        return np.ascontiguousarray(self._resized(array).transpose(2, 0, 1))

    def post_process_depth_estimation(self, outputs: Any, target_sizes: Any = None) -> list[dict[str, Any]]:
        """Depth at the sizes asked for, one dict an image, as HF gives it.

        Args:
            outputs: An array or tensor (N, H, W), or what has one as its ``predicted_depth`` [m].
            target_sizes: Height and width of each image [px], as a list, array or tensor; without, and where
                one is None, the depth is returned as it is.

        Returns:
            For each image ``{"predicted_depth": (h, w)}`` [m], resized bicubically, unclamped: a tensor of
            the same type, device and graph where a tensor came, else a float32 array.

        Raises:
            InputError: The depth is not (N, H, W), or the sizes are not N.
        """
        depths = outputs["predicted_depth"] if isinstance(outputs, Mapping) else outputs
        depths = getattr(depths, "predicted_depth", depths)
        tensors = hasattr(depths, "detach")
        if not tensors:
            try:
                depths = np.asarray(depths, dtype=np.float32)
            except (TypeError, ValueError) as error:
                raise InputError(
                    f"the predicted depth is a {type(depths).__name__} that numpy cannot read ({error})"
                ) from None
        if depths.ndim != 3:
            raise InputError(
                f"the predicted depth has shape {tuple(depths.shape)}", expected="(N, height, width)"
            )
        sizes = [None] * len(depths) if target_sizes is None else list(target_sizes)
        if len(sizes) != len(depths):
            raise InputError(
                f"there are {len(sizes)} target sizes", expected=f"{len(depths)}, one a depth map"
            )
        resize = _resize_tensor if tensors else resize_bicubic
        return [
            {"predicted_depth": depth if size is None else resize(depth, size)}
            for depth, size in zip(depths, sizes, strict=True)
        ]


def _resize_tensor(depth: Any, size: Any) -> Any:
    """A torch tensor (H, W) at another size, within its graph."""
    try:
        height, width = (int(value) for value in size)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise InputError(f"the size to resize to is {size!r}", expected="(height, width) in whole pixels")
    functional = importlib.import_module("torch.nn.functional")
    return functional.interpolate(
        depth[None, None], size=(height, width), mode="bicubic", align_corners=False
    )[0, 0]


class GLPNFeatureExtractor(GLPNImageProcessor):
    """The name ``GLPNImageProcessor`` had in transformers 4; warns when it is made."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        warnings.warn(
            "GLPNFeatureExtractor is the old name; use GLPNImageProcessor.", FutureWarning, stacklevel=2
        )


def load_processor(checkpoint: str | Path) -> GLPNImageProcessor:
    """The image processor of a local checkpoint; the default one where it has no settings of its own.

    Raises:
        ConfigError: Its ``preprocessor_config.json`` is unusable.
    """
    path = Path(checkpoint)
    folder = path if path.is_dir() else path.parent
    has_settings = (folder / CONFIG_NAME).is_file()
    return GLPNImageProcessor.from_pretrained(folder) if has_settings else GLPNImageProcessor()


@functools.lru_cache(maxsize=8)
def _rescaled_bytes(factor: float) -> NDArray[np.float32]:
    """The 256 values a byte can take, rescaled in float64 and then rounded, which is how HF does it."""
    table = (np.arange(256, dtype=np.float64) * factor).astype(np.float32)
    table.flags.writeable = False  # shared through the cache
    return table
