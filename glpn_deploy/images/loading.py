"""Turning what a user calls an image (path, PIL image, array) into an RGB uint8 array, or saying why not."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glpn_deploy.errors import ImageError
from glpn_deploy.images.moving import refuse_moving
from glpn_deploy.images.opening import damaged, open_image, too_large
from glpn_deploy.images.options import MAX_PIXELS, Channels

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | NDArray[Any]"

_WHITE = 65535
MIN_SIDE = 32  # px; a shorter side would round down to nothing
_ORIENTATION_TAG = 0x0112
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_image(
    source: ImageSource,
    *,
    max_pixels: int = MAX_PIXELS,
    orient: bool = True,
    min_side: int = MIN_SIDE,
    white_point: float | None = None,
    channels: Channels = "rgb",
) -> NDArray[np.uint8]:
    """Reads an image into the one form the image processor takes.

    Alpha is dropped, as ``PIL.Image.convert("RGB")`` does: a transparent pixel keeps the colour stored
    under it. Grey is repeated three times. 16-bit values (modes ``I;16`` and ``I``, uint16 arrays) are
    divided by 256 and rounded down, as Pillow does with files of 16 bits a colour. Floats from 0 to 1 (mode
    ``F``, float arrays) are multiplied by 255 and rounded; whole numbers from 0 to 255 are 8-bit values in
    any other type, too. Of an animation the first picture is taken.

    Arrays are RGB. OpenCV's are BGR: pass ``channels="bgr"``, else the depth is wrong, and nothing says so.

    Args:
        source: A file's path, its bytes, a file object opened for bytes, a PIL image of any mode, or an
            array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of RGB in uint8, uint16, bool, floats from 0 to
            1, or whole numbers from 0 to 255.
        max_pixels: Larger files and PIL images are refused before they are decoded.
        orient: Turn the image upright by its EXIF orientation.
        min_side: The shortest side allowed [px].
        white_point: Value of white in 16-bit or float values, instead of 65535 and 1; 4095 for 12 bits.
        channels: ``bgr`` for arrays as OpenCV has them.

    Returns:
        (H, W, 3) uint8 RGB, to be read only: it may share its memory with ``source``.

    Raises:
        ImageError: There is no such file, it is not an image or is damaged, it is too large, a side is
            too short, or an array's shape, dtype or values are unusable.

    Warns:
        UserWarning: 16-bit values end far below 65535, and ``white_point`` does not say why.
    """
    if isinstance(source, (str, os.PathLike, int)):
        refuse_moving(source)
    if isinstance(source, (str, os.PathLike)):
        path, name = Path(source), f"the image {source}"
        if path.is_dir():
            raise ImageError(f"{path} is a folder", expected="an image file", fix="name a file inside it")
        rgb = _from_file(path, name, max_pixels, orient, white_point)
    elif isinstance(source, (bytes, bytearray, memoryview)) or hasattr(source, "read"):
        name = "the image"
        rgb = _from_file(source, name, max_pixels, orient, white_point)
    elif isinstance(source, Image.Image):
        name = "the PIL image"
        rgb = _from_pil(source, name, max_pixels, orient, white_point)
    elif isinstance(source, np.ndarray):
        name = "the array"
        rgb = _from_array(source, name, white_point)
        if channels == "bgr":
            rgb = np.ascontiguousarray(rgb[:, :, ::-1])
    else:
        raise ImageError(
            f"the image is a {type(source).__name__}",
            expected="a path, a file's bytes, a PIL image or a numpy array in RGB",
        )
    height, width = rgb.shape[:2]
    if min(height, width) < min_side:
        raise ImageError(
            f"{name} is {width} px wide and {height} px high",
            expected=f"at least {min_side} px on either side",
            fix="enlarge the image or choose a larger crop",
        )
    return rgb


def shrunk_size(height: int, width: int, long_side: int, short_side: int) -> tuple[int, int]:
    """Height and width [px] with the longer side at most ``long_side`` [px], if the shape allows that.

    The shorter side goes no further down than ``short_side`` [px]: a panorama stays longer.
    """
    scale = max(long_side / max(height, width), short_side / min(height, width))
    return (height, width) if scale >= 1 else (round(height * scale), round(width * scale))


def resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """An (H, W, 3) image at another height and width [px], averaged where it gets smaller."""
    return image if image.shape[:2] == size else np.asarray(Image.fromarray(image).resize(size[::-1]))


def shrink(image: NDArray[np.uint8], long_side: int, short_side: int) -> NDArray[np.uint8]:
    """An (H, W, 3) image at its `shrunk_size`."""
    height, width = image.shape[:2]
    return resized(image, shrunk_size(height, width, long_side, short_side))


def _from_file(
    source: Any, name: str, max_pixels: int, orient: bool, white_point: float | None
) -> NDArray[np.uint8]:
    """Of a path, of bytes, or of a file object, which is read from where it stands if it cannot seek."""
    if not isinstance(source, Path) and not (hasattr(source, "seekable") and source.seekable()):
        source = io.BytesIO(source.read() if hasattr(source, "read") else source)
    with open_image(source, max_pixels=max_pixels) as image:
        return _from_pil(image, name, max_pixels, orient, white_point)


def _from_pil(
    image: Image.Image, name: str, max_pixels: int, orient: bool, white_point: float | None
) -> NDArray[np.uint8]:
    width, height = image.size
    if width * height > max_pixels:
        raise too_large(name, f"{width} x {height} px", max_pixels)
    try:
        deep = image.mode in ("RGB", "RGBA") and any(
            "16" in str(tile[3]) for tile in getattr(image, "tile", ())
        )
        image.load()  # before the orientation is asked for: TIFF applies and clears its own on loading
        turn = _TO_UPRIGHT.get(image.getexif().get(_ORIENTATION_TAG, 1)) if orient else None
        if turn is not None:
            image = image.transpose(turn)
        mode = image.mode
        if mode in ("I", "F") or mode.startswith("I;16"):
            return _from_array(_deep_values(image, name), name, white_point)
        if deep:
            _check_deep_colours(np.asarray(image)[:, :, :3], name, white_point)
        if mode == "La":
            image = image.convert("LA")
        elif mode in ("P", "PA", "RGBa"):  # Pillow warns when a transparent palette goes straight to RGB
            image = image.convert("RGBA")
        return np.asarray(image.convert("RGB") if image.mode != "RGB" else image)
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, zlib.error ...
        raise damaged(name, error) from error


def _check_deep_colours(upper: NDArray[np.uint8], name: str, white_point: float | None) -> None:
    """16 bits a colour, of which Pillow gives the upper 8: enough unless white lies far below 65535.

    Warns:
        UserWarning: The values end far below 65535.
    """
    high = int(upper.max(initial=0))
    bits = next((bits for bits in (8, 10, 12, 14) if high < 2 ** (bits - 8)), 16)
    fix = "read it with cv2.imread(name, cv2.IMREAD_UNCHANGED)[:, :, ::-1] and give the array"
    if white_point is not None and white_point != _WHITE:
        raise ImageError(
            f"{name} has 16 bits a colour, of which Pillow reads the upper 8",
            expected=f"grey or an array for white_point {white_point:g}",
            fix=fix,
        )
    if bits < 16:
        warnings.warn(
            f"{name} has 16 bits a colour with values only up to about {(high + 1) * 256 - 1}, and is read "
            f"as nearly black; if it has {bits} bits, {fix} with white_point={2**bits - 1}; "
            f"white_point={_WHITE} if it is that dark.",
            stacklevel=5,
        )


def _deep_values(image: Image.Image, name: str) -> NDArray[Any]:
    """The pixels of a grey image with more than 8 bits, as uint16 or float32."""
    values = np.asarray(image)
    if image.mode != "I":
        return values
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if low < 0 or high > 65535:
        raise ImageError(
            f"{name} has 32-bit values from {low} to {high}",
            expected="16-bit values from 0 to 65535",
            fix="scale it to 8 or 16 bits first",
        )
    return values.astype(np.uint16)


def _from_array(array: NDArray[Any], name: str, white_point: float | None) -> NDArray[np.uint8]:
    shape = array.shape
    if array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (1, 3, 4)):
        chw = array.ndim == 3 and shape[0] in (1, 3, 4)
        raise ImageError(
            f"{name} has shape {shape}",
            expected="(height, width) or (height, width, channels) with 1, 3 or 4 channels",
            fix="put the channels last: array.transpose(1, 2, 0)" if chw else "",
        )
    if array.size == 0:
        raise ImageError(f"{name} is empty, its shape is {shape}", expected="at least 32 x 32 px")
    values = array[:, :, None] if array.ndim == 2 else array[:, :, :3]
    eight_bit = _to_eight_bit(values, name, white_point)
    return eight_bit if eight_bit.shape[2] == 3 else np.repeat(eight_bit, 3, axis=2)


def _to_eight_bit(values: NDArray[Any], name: str, white_point: float | None) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        black_white: NDArray[np.uint8] = values.astype(np.uint8) * np.uint8(255)
        return black_white
    if white_point is not None and values.dtype.kind in "fiu" and np.isfinite(values).all():
        share = np.clip(values.astype(np.float32) / np.float32(white_point), 0, 1)
        of_white: NDArray[np.uint8] = np.rint(share * np.float32(255)).astype(np.uint8)
        return of_white
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:  # of either byte order
        _warn_of_dark(values, name)
        shifted: NDArray[np.uint8] = (values >> 8).astype(np.uint8)
        return shifted
    expected = "uint8, uint16, bool, floats from 0 to 1, or whole numbers from 0 to 255"
    fix = "say --white-point 255 (white_point=255) if its values go from 0 to 255"
    if values.dtype.kind not in "fiu":
        raise ImageError(f"{name} has dtype {values.dtype}", expected=expected, fix=fix)
    if not np.isfinite(values).all():
        raise ImageError(f"{name} has NaN or infinite values", expected="floats from 0 to 1")
    low, high = float(values.min()), float(values.max())
    whole = values.dtype.kind != "f" or (high > 1 and bool(np.allclose(values, np.rint(values))))
    if low < 0 or high > (255 if whole else 1):
        raise ImageError(
            f"{name} has {values.dtype} values from {low:g} to {high:g}", expected=expected, fix=fix
        )
    if whole:
        levels: NDArray[np.uint8] = np.rint(values).astype(np.uint8)
        return levels
    scaled: NDArray[np.uint8] = np.rint(values.astype(np.float32) * np.float32(255)).astype(np.uint8)
    return scaled


def _warn_of_dark(values: NDArray[Any], name: str) -> None:
    """Cameras' 10, 12 and 14 bits come in 16-bit files, and would be nearly black."""
    high = int(values.max())
    bits = next((bits for bits in (8, 10, 12, 14) if high < 2**bits), 16)
    if high > 0 and bits < 16:
        warnings.warn(
            f"{name} has 16-bit values only up to {high}, and is read as nearly black; if it has {bits} "
            f"bits, say --white-point {2**bits - 1} (white_point={2**bits - 1}); 65535 if it is that dark.",
            stacklevel=5,
        )
