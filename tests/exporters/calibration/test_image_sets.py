"""Images to calibrate on and to judge by: none is in both parts, and noise is never taken unasked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glpn_deploy import GLPNImageProcessor
from glpn_deploy.datasets.rooms import DEFAULT_EVAL_SIZE
from glpn_deploy.errors import InputError
from glpn_deploy.exporters.calibration.image_sets import CHECK_IMAGES, ImageSet, check_images, choose_images
from tests.refusals import refused

PROCESSOR = GLPNImageProcessor()


def photographs(folder: Path, count: int, size: tuple[int, int] = (64, 48)) -> Path:
    """Pictures of one grey each, so that each can be told by its first pixel."""
    folder.mkdir()
    for i in range(count):
        Image.new("L", size, i).save(folder / f"{i:03}.png")
    return folder


def greys(images: tuple[np.ndarray, ...]) -> list[int]:
    return [int(image[0, 0, 0]) for image in images]


@pytest.mark.parametrize(("count", "checked"), [(3, 1), (4, 1), (10, 2), (40, 8), (200, CHECK_IMAGES)])
def test_every_fifth_photograph_checked_and_the_others_calibrate(
    tmp_path: Path, count: int, checked: int
) -> None:
    chosen = choose_images(photographs(tmp_path / "photos", count), PROCESSOR, ranges=128, demo=False)
    assert len(chosen.checking) == checked
    assert len(chosen.calibration) == min(count, 128 + CHECK_IMAGES) - checked
    assert not set(greys(chosen.checking)) & set(greys(chosen.calibration))
    assert chosen.source == "photographs of photos"


@pytest.mark.parametrize("asked", [2, 4, 100])
def test_as_many_photographs_calibrate_as_were_asked_for(tmp_path: Path, asked: int) -> None:
    chosen = choose_images(photographs(tmp_path / "photos", 200), PROCESSOR, ranges=asked, demo=False)
    found = greys(chosen.calibration)
    assert len(set(found)) == asked
    assert max(found) - min(found) >= 200 * (asked - 1) // asked - 25  # spread over the folder


def test_too_few_photographs_for_ranges_are_refused_at_once(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "photos", 2)
    with refused(InputError, got="2 photographs", expected="at least 3: one to check on"):
        choose_images(folder, PROCESSOR, ranges=128, demo=False)


def test_what_cannot_be_used_is_refused_without_reading_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photographs(tmp_path / "photos", 3)
    monkeypatch.setattr(Image, "open", lambda *a, **k: pytest.fail("a picture was read"))
    check_images(folder, ranges=128, demo=False)
    check_images(None, ranges=0, demo=False)
    check_images("random", ranges=128, demo=False)
    (folder / "000.png").unlink()
    check_images(folder, ranges=0, demo=False)
    for where, message in (
        (folder, "2 photographs"),
        (tmp_path / "none", "does not exist"),
        (None, "need real"),
    ):
        with pytest.raises(InputError, match=message):
            check_images(where, ranges=128, demo=False)


def test_without_ranges_every_photograph_checked(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "photos", 5)
    chosen = choose_images(folder, PROCESSOR, ranges=0, demo=False)
    assert greys(chosen.checking) == [0, 1, 2, 3, 4]
    assert chosen.calibration == ()


def test_large_photographs_are_shrunk(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "photos", 2, (4000, 2000))
    chosen = choose_images(folder, PROCESSOR, ranges=0, demo=False)
    assert {image.shape for image in chosen.checking} == {(320, 640, 3)}


def test_ranges_need_named_images_except_for_the_demo_network() -> None:
    with refused(InputError, got="need real images", expected="--calibration FOLDER", fix="random noise"):
        choose_images(None, PROCESSOR, ranges=8, demo=False)
    chosen = choose_images(None, PROCESSOR, ranges=8, demo=True)
    assert [image.shape for image in chosen.calibration] == [(480, 640, 3)] + 7 * [(*DEFAULT_EVAL_SIZE, 3)]
    assert all(image.shape == (*DEFAULT_EVAL_SIZE, 3) for image in chosen.checking)
    assert no_image_twice(chosen)


def test_noise_is_calibrated_on_only_where_it_is_asked_for_and_never_checked() -> None:
    chosen = choose_images("random", PROCESSOR, ranges=4, demo=True)
    assert "noise" in chosen.source
    assert min(np.unique(image).size for image in chosen.calibration) == 256
    neighbours = [np.abs(np.diff(image.astype(int), axis=1)).mean() for image in chosen.checking]
    assert max(neighbours) < 40 < np.abs(np.diff(chosen.calibration[0].astype(int), axis=1)).mean()


def no_image_twice(chosen: ImageSet) -> bool:
    pixels = [image.tobytes() for image in chosen.calibration + chosen.checking]
    return len(set(pixels)) == len(pixels)
