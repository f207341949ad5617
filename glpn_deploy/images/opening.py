"""Opening an image file: of a plain format, not too large, and every refusal an `ImageError`."""

from __future__ import annotations

import contextlib
import functools
import importlib
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

from glpn_deploy.errors import GlpnError, ImageError
from glpn_deploy.images.options import MAX_PIXELS
from glpn_deploy.optional import install_line
from glpn_deploy.reading import check_regular

DEPTH_FORMATS = ("PNG", "TIFF")
"""What depth is kept in."""

_FORMATS = (
    *("JPEG", "MPO", "JPEG2000", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "DIB"),
    *("GIF", "PPM", "TGA", "PCX", "ICO", "ICNS", "SGI", "DDS"),
    "HEIF",  # of phones; by pillow-heif
)
HEIF_SUFFIXES = (".heic", ".heif", ".hif")
_pillow_limit_lock = threading.Lock()


@functools.cache
def readable_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read: photographs', none that runs a program (EPS).

    HEIF is among them where pillow-heif is installed.
    """
    Image.init()
    with contextlib.suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@contextlib.contextmanager
def open_image(
    source: Path | IO[bytes], formats: tuple[str, ...] | None = None, max_pixels: int = MAX_PIXELS
) -> Iterator[Image.Image]:
    """Opens an image file for the block, in which it is decoded; whatever Pillow raises there is said.

    Args:
        source: The file's path, or a file object that can seek, which stays open.
        formats: Pillow's names of the formats that are tried; `readable_formats` where left out.
        max_pixels: Larger images are refused before they are decoded.

    Raises:
        ImageError: There is no such file, it is no image of these formats, is damaged or too large; what
            Pillow raised is its cause.
    """
    path = source if isinstance(source, Path) else Path()
    name = f"the image {path}" if path.name else "the image"
    try:
        if isinstance(source, Path):
            check_regular(source)
        # Pillow's limit is a module variable. Only the header is read while it holds ours.
        with _pillow_limit_lock, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            pillow_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
            try:
                image = Image.open(source, formats=readable_formats() if formats is None else formats)
            finally:
                Image.MAX_IMAGE_PIXELS = pillow_limit
        with image:
            yield image
    except (GlpnError, KeyboardInterrupt):
        raise
    except FileNotFoundError as error:
        raise ImageError(f"there is no file {path}", expected="an image file") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_large(name, str(error), max_pixels) from error
    except UnidentifiedImageError as error:
        heif = path.suffix.lower() in HEIF_SUFFIXES and "HEIF" not in readable_formats()
        raise ImageError(
            f"{path if path.name else 'the file'} is not an image that Pillow can read"
            + (" without pillow-heif" if heif else ""),
            expected="a JPEG, PNG, TIFF, WebP or the like" if formats is None else " or ".join(formats),
            fix=install_line("heif") if heif else f"look at what it is (file {path})" if path.name else "",
        ) from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, zlib.error ...
        if isinstance(error, OSError) and error.strerror:
            fix = "check its permissions"
            raise ImageError(f"{name} could not be read ({error.strerror})", fix=fix) from error
        raise damaged(name, error) from error


def too_large(name: str, size: str, max_pixels: int) -> ImageError:
    """The refusal of an image of too many pixels."""
    return ImageError(
        f"{name} is too large ({size})",
        expected=f"at most {max_pixels} pixels",
        fix="make it smaller, or allow more if you trust it: --max-pixels N (max_pixels=N)",
    )


def damaged(name: str, error: Exception) -> ImageError:
    """The refusal of an image that does not decode."""
    return ImageError(
        f"{name} cannot be decoded, it is damaged, truncated or of an unusual kind ({error})",
        fix="copy it again from its source, or save it as an 8-bit RGB PNG",
    )
