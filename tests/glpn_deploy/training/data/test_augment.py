"""Vertical CutDepth against its formula worked out by hand, and the other augmentations."""

import numpy as np
import pytest
import torch

from glpn_deploy.errors import DatasetError
from glpn_deploy.training.data.augment import random_colour, random_crop, random_flip, vertical_cutdepth
from tests.refusals import refused

IMAGE = np.full((4, 10, 3), 7, np.uint8)
DEPTH = np.full((4, 10), 2.0, np.float32)


@pytest.mark.parametrize(
    ("a", "b", "columns"),
    [
        (0.35, 0.8, (3, 6)),  # (10 - 3.5) * 0.8 * 0.75 = 3.9 columns from 3.5
        (0.0, 1.0, (0, 7)),  # 10 * 0.75 = 7.5 columns, the widest there is
        (0.5, 0.0, (5, 6)),  # never less than one column
        (0.99, 0.999, (9, 10)),
    ],
)
def test_cutdepth_replaces_the_columns_of_the_formula(a, b, columns):
    result = vertical_cutdepth(IMAGE, DEPTH, a, b)
    left, right = columns
    assert (result[:, left:right] == 51).all()  # 2 m of 10 m in 255 steps
    assert (result[:, :left] == 7).all()
    assert (result[:, right:] == 7).all()


def test_cutdepth_leaves_the_given_image_as_it_was():
    vertical_cutdepth(IMAGE, DEPTH, 0.0, 1.0)
    assert (IMAGE == 7).all()


@pytest.mark.parametrize(("metres", "grey"), [(0.0, 0), (1.0, 26), (9.0, 230), (10.0, 255), (25.0, 255)])
def test_unit_scaling_goes_from_black_at_0_to_white_at_the_largest_depth(metres, grey):
    depth = np.full((4, 10), metres, np.float32)
    assert (vertical_cutdepth(IMAGE, depth, 0.0, 0.0, max_depth=10.0)[:, 0] == grey).all()


@pytest.mark.parametrize(("metres", "grey"), [(0.0, 0), (0.255, 255), (0.256, 0), (1.0, 232), (10.0, 16)])
def test_as_released_scaling_wraps_millimetres_at_256(metres, grey):
    depth = np.full((4, 10), metres, np.float32)
    assert (vertical_cutdepth(IMAGE, depth, 0.0, 0.0, scaling="as-released")[:, 0] == grey).all()


def test_crop_and_flip_move_image_and_depth_together():
    depth = np.arange(48, dtype=np.float32).reshape(6, 8)
    image = np.repeat(depth[:, :, None], 3, axis=2).astype(np.uint8)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        cut_image, cut_depth = random_flip(*random_crop(image, depth, (4, 5), rng), 0.5, rng)
        assert cut_depth.shape == (4, 5)
        np.testing.assert_array_equal(cut_image[:, :, 0], cut_depth)


def test_crops_reach_every_corner():
    depth = np.arange(12, dtype=np.float32).reshape(3, 4)
    image = np.zeros((3, 4, 3), np.uint8)
    rng = np.random.default_rng(0)
    corners = {float(random_crop(image, depth, (2, 2), rng)[1][0, 0]) for _ in range(200)}
    assert corners == {0.0, 1.0, 2.0, 4.0, 5.0, 6.0}


def test_flip_mirrors_all_or_none_at_the_ends():
    rng = np.random.default_rng(0)
    depth = np.arange(10, dtype=np.float32)[None].repeat(4, 0)
    assert (random_flip(IMAGE, depth, 1.0, rng)[1] == depth[:, ::-1]).all()
    assert random_flip(IMAGE, depth, 0.0, rng)[1] is depth


def test_crop_larger_than_the_image_is_refused_with_both_sizes():
    with refused(DatasetError, got="room-7 is 10x4", expected="at least the crop's 32x32", fix="--crop"):
        random_crop(IMAGE, DEPTH, (32, 32), np.random.default_rng(0), "room-7")


def test_colour_changes_a_share_of_the_batch_and_stays_in_range():
    images = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(random_colour(images.clone(), 0.0, np.random.default_rng(0)), images)
    changed = random_colour(images.clone(), 0.5, np.random.default_rng(0))
    share = (changed != images).flatten(1).any(1).float().mean()
    assert 0.75 < share < 1.0  # 1 - 0.5³ = 0.875
    assert 0.0 <= float(changed.min()) <= float(changed.max()) <= 1.0
    assert torch.equal(changed, random_colour(images.clone(), 0.5, np.random.default_rng(0)))
