"""GLPNImageProcessor: RGB images into the network's input and its output back to the image's size."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glpn_deploy.atomic import atomic_path
from glpn_deploy.errors import ConfigError, ImageError, InputError, WriteError
from glpn_deploy.images.batch import ImageBatch, collate, load_images
from glpn_deploy.images.loading import ImageSource
from glpn_deploy.images.loading import load_image as load_image
from glpn_deploy.images.resample import resize_bicubic as resize_bicubic

CONFIG_NAME = "preprocessor_config.json"

_TYPES = ("GLPNImageProcessor", "GLPNImageProcessorFast", "GLPNImageProcessorPil", "GLPNFeatureExtractor")
_Self = TypeVar("_Self", bound="GLPNImageProcessor")


@dataclasses.dataclass(frozen=True)
class GLPNImageProcessor:
    """GLPN's image processor, bit-equal to HF transformers' PIL backend on RGB uint8 images.

    Unlike HF's it turns every kind of image into RGB first (see ``load_image``), takes floats from 0 to 1
    for what they are, and refuses an image that would shrink to nothing.

    Attributes:
        do_resize: Stretch each side down to a multiple of ``size_divisor``.
        size_divisor: The multiple [px].
        resample: Pillow's resampling filter, by its number: 2 is bilinear.
        do_rescale: Multiply by ``rescale_factor``; without it the float32 values go from 0 to 255.
        rescale_factor: 1/255 brings 8-bit values to 0 .. 1.

    Raises:
        ConfigError: A value is of the wrong type or out of range.
    """

    do_resize: bool = True
    size_divisor: int = 32
    resample: int = 2
    do_rescale: bool = True
    rescale_factor: float = 1 / 255

    def __post_init__(self) -> None:
        for name in ("do_resize", "do_rescale"):
            if not isinstance(getattr(self, name), bool):
                raise _bad(name, getattr(self, name), "true or false")
        if not _is_int(self.size_divisor) or self.size_divisor < 1:
            raise _bad("size_divisor", self.size_divisor, "a whole number of at least 1")
        if not _is_int(self.resample) or int(self.resample) not in list(Image.Resampling):
            raise _bad("resample", self.resample, "the number of a Pillow filter, 0 to 5")
        factor = self.rescale_factor
        if not isinstance(factor, float | int) or isinstance(factor, bool) or not 0 < factor < math.inf:
            raise _bad("rescale_factor", factor, "a finite number above 0")
        object.__setattr__(self, "resample", int(self.resample))

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
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(
                f"the image is {image.dtype} of shape {image.shape}",
                expected="uint8 of shape (height, width, 3)",
                fix="pass it through load_image",
            )
        height, width = self.target_size(*image.shape[:2])
        if image.shape[:2] != (height, width):
            resample = Image.Resampling(self.resample)
            image = np.asarray(Image.fromarray(image).resize((width, height), resample))
        pixels = np.empty((3, height, width), np.float32)
        table = _rescaled_bytes(self.rescale_factor if self.do_rescale else 1.0)
        # A byte cannot be out of range; mode "raise" would buffer the output, which doubles the time.
        return np.take(table, image.transpose(2, 0, 1), out=pixels, mode="clip")

    def preprocess(
        self,
        images: ImageSource | Sequence[ImageSource],
        *,
        do_resize: bool | None = None,
        size_divisor: int | None = None,
        resample: int | None = None,
        do_rescale: bool | None = None,
        rescale_factor: float | None = None,
        return_tensors: Literal["np", "pt"] = "np",
    ) -> ImageBatch:
        """Images as the network takes them, with HF's signature.

        Args:
            images: One image or several: paths, PIL images, or arrays with the channels last or first.
                As in HF, only files are turned upright by their EXIF orientation, not PIL images.
            do_resize: Overrides the attribute for this call, as do the four that follow.
            size_divisor: See the class.
            resample: See the class.
            do_rescale: See the class.
            rescale_factor: See the class.
            return_tensors: ``np`` for numpy, ``pt`` for torch.

        Returns:
            A dict whose ``pixel_values`` are (N, 3, H, W) float32.

        Raises:
            ImageError: An image cannot be read or is too small.
            InputError: No image, or images that come out at different sizes.
        """
        overrides = {
            "do_resize": do_resize,
            "size_divisor": size_divisor,
            "resample": resample,
            "do_rescale": do_rescale,
            "rescale_factor": rescale_factor,
        }
        settings = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        settings.update({name: value for name, value in overrides.items() if value is not None})
        processor = GLPNImageProcessor(**settings)
        prepared = [processor.prepare(image) for image in load_images(images)]
        return collate(prepared, return_tensors)

    __call__ = preprocess

    def post_process_depth_estimation(
        self, outputs: Any, target_sizes: Sequence[tuple[int, int] | None] | None = None
    ) -> list[dict[str, NDArray[np.float32]]]:
        """Depth at the sizes asked for, one dict an image, as HF gives it but in numpy.

        Args:
            outputs: An array (N, H, W), or an object whose ``predicted_depth`` is one [m].
            target_sizes: Height and width of each image [px]; without, the depth is returned as it is.

        Returns:
            For each image ``{"predicted_depth": (h, w) float32}`` [m], resized bicubically, unclamped.

        Raises:
            InputError: The depth is not (N, H, W), or the sizes are not N.
        """
        predicted = getattr(outputs, "predicted_depth", outputs)
        try:
            depths = np.asarray(predicted, dtype=np.float32)
        except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a tensor that needs a gradient
            raise InputError(
                f"the predicted depth is a {type(predicted).__name__} that numpy cannot read ({error})",
                fix="for a torch tensor pass predicted_depth.detach().cpu()",
            ) from None
        if depths.ndim != 3:
            raise InputError(f"the predicted depth has shape {depths.shape}", expected="(N, height, width)")
        sizes = [None] * len(depths) if target_sizes is None else list(target_sizes)
        if len(sizes) != len(depths):
            raise InputError(
                f"there are {len(sizes)} target sizes", expected=f"{len(depths)}, one a depth map"
            )
        return [
            {"predicted_depth": depth if size is None else resize_bicubic(depth, size)}
            for depth, size in zip(depths, sizes, strict=True)
        ]

    @classmethod
    def from_dict(cls: type[_Self], values: dict[str, Any]) -> _Self:
        """Reads the content of HF's ``preprocessor_config.json``, old or new; other keys are left out.

        Raises:
            ConfigError: It is another model's, normalises (GLPN's does not), or a value is unusable.
        """
        if not isinstance(values, dict):
            raise ConfigError(f"the processor config is a {type(values).__name__}", expected="a JSON object")
        for key in ("image_processor_type", "feature_extractor_type"):
            if values.get(key) is not None and values[key] not in _TYPES:
                raise _bad(key, values[key], "one of " + ", ".join(_TYPES))
        if values.get("do_normalize"):
            raise _bad("do_normalize", values["do_normalize"], "false: GLPN was trained without mean and std")
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: values[name] for name in names if values.get(name) is not None})

    def to_dict(self) -> dict[str, Any]:
        """The content of HF's ``preprocessor_config.json``; transformers reads it back."""
        return {**dataclasses.asdict(self), "image_processor_type": "GLPNImageProcessor"}

    @classmethod
    def from_pretrained(cls: type[_Self], folder: str | Path) -> _Self:
        """Reads ``preprocessor_config.json`` in a checkpoint folder or a bundle.

        Raises:
            ConfigError: The file is missing, not JSON, or not a usable GLPN processor config.
        """
        path = Path(folder) / CONFIG_NAME
        expected = "a GLPN preprocessor_config.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise ConfigError(f"there is no file {path}", expected=expected) from None
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path} is not readable JSON ({error})", expected=expected) from None
        try:
            return cls.from_dict(values)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error.got}", expected=error.expected, fix=error.fix) from None

    def save_pretrained(self, folder: str | Path) -> Path:
        """Writes ``preprocessor_config.json`` into the folder, which is made where missing.

        Returns:
            The file's path.

        Raises:
            WriteError: The folder or the file cannot be written.
        """
        path = Path(folder) / CONFIG_NAME
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(f"the folder {path.parent} could not be made ({error.strerror})") from error
        with atomic_path(path) as temporary:
            text = json.dumps(self.to_dict(), indent=2, sort_keys=True)
            temporary.write_text(text + "\n", encoding="utf-8")
        return path


class GLPNFeatureExtractor(GLPNImageProcessor):
    """The name ``GLPNImageProcessor`` had in transformers 4; warns when it is made."""

    def __post_init__(self) -> None:
        super().__post_init__()
        warnings.warn(
            "GLPNFeatureExtractor is the old name; use GLPNImageProcessor.", FutureWarning, stacklevel=3
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


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _bad(name: str, value: object, expected: str) -> ConfigError:
    return ConfigError(f"processor config value {name} = {value!r}", expected=expected)
