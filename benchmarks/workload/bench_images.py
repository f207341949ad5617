"""The images of a benchmark: real ones, cut and resized to each shape, the same for every case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps

from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.errors import InputError
from glpn_deploy.images.loading import load_image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MOST_IMAGES = 8


def find_images(bundle: Bundle, folder: Path | None = None) -> list[Path]:
    """Up to `MOST_IMAGES` images of a folder, or the bundle's goldens where none is given.

    Raises:
        InputError: There are none.
    """
    if folder is not None:
        return images_of(folder)[:MOST_IMAGES]
    found = [bundle.path(golden.image) for golden in bundle.manifest.goldens]
    if not found:
        raise InputError("the bundle has no goldens", fix="pass a folder of photographs with --images DIR")
    return found[:MOST_IMAGES]


def images_of(folder: Path) -> list[Path]:
    """The images of a folder.

    Raises:
        InputError: There are none.
    """
    if not folder.is_dir():
        raise InputError(f"--images {folder} is not a folder", expected="a folder of photographs")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError(f"{folder} holds no images", expected=f"files that end in {', '.join(SUFFIXES)}")
    return found


def cut_images(images: Sequence[Path], height: int, width: int, folder: Path) -> tuple[str, ...]:
    """Writes each image as PNG at one size, its middle cut to that size's aspect ratio.

    Returns:
        The files, in the order of ``images``.

    Raises:
        ImageError: An image cannot be read.
    """
    files = []
    for number, path in enumerate(images):
        picture = ImageOps.fit(Image.fromarray(load_image(path)), (width, height), Image.Resampling.LANCZOS)
        target = folder / f"{number}-{height}x{width}.png"
        picture.save(target)
        files.append(str(target))
    return tuple(files)
