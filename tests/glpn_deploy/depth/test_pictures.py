"""Panels side by side: colours that mean metres, sizes that fit, nothing drawn over."""

from __future__ import annotations

import numpy as np
import pytest

from glpn_deploy.depth.pictures import (
    color_error,
    compose,
    depth_panel,
    error_limit,
    error_map,
    error_panel,
    image_panel,
)
from glpn_deploy.errors import InputError
from tests.refusals import refused

WHITE = (247, 247, 247)


def test_the_error_map_is_white_where_right_red_where_near_blue_where_far() -> None:
    gt = np.array([[2, 2, 2, 2, 0, np.nan]], np.float32)
    pred = np.array([[2, 1, 3, 7, 1, 1]], np.float32)
    right, near, far, very_far, unknown, missing = error_map(pred, gt, limit_m=1.0)[0].tolist()
    assert tuple(right) == WHITE
    assert near == [103, 0, 31]
    assert far == very_far == [5, 48, 97], "the colours end at the limit"
    assert unknown == missing == [0, 0, 0]


def test_the_same_error_has_the_same_colour_in_every_map() -> None:
    error = np.linspace(-1, 1, 101, dtype=np.float32)[None]
    whole = color_error(error, 1.0)
    assert (whole[0, :1] == color_error(error[:, :1], 1.0)[0]).all()
    red, blue = whole[0, :, 0].astype(int), whole[0, :, 2].astype(int)
    assert (np.argmax(whole.sum(-1)[0]), tuple(whole[0, 50])) == (50, WHITE)
    assert (red[:50] >= blue[:50]).all()
    assert (blue[51:] >= red[51:]).all()


def test_a_prediction_that_is_not_finite_does_not_pass_for_right() -> None:
    gt = np.full((1, 3), 2, np.float32)
    colors = error_map(np.array([[np.nan, np.inf, -np.inf]], np.float32), gt)
    assert colors[0].tolist() == [[0, 0, 0], [5, 48, 97], [103, 0, 31]]


@pytest.mark.parametrize("limit", [0, -1, np.nan, np.inf])
def test_an_error_scale_needs_a_limit(limit: float) -> None:
    with refused(InputError, got="the error scale ends at"):
        color_error(np.zeros((2, 2), np.float32), limit)


def test_shapes_that_differ_are_refused() -> None:
    with refused(InputError, got="(2, 2) and the ground truth (2, 3)"):
        error_map(np.ones((2, 2), np.float32), np.ones((2, 3), np.float32))
    with refused(InputError, got="panels of 2 sizes"):
        compose([image_panel("a", picture(8, 8)), image_panel("b", picture(8, 9))])
    with refused(InputError, got="panels of 0 sizes"):
        compose([])


@pytest.mark.parametrize(
    ("error_m", "limit_m"),
    [(0.0, 1e-6), (0.0009, 0.001), (0.02, 0.02), (0.021, 0.05), (-3, 5), (40, 50), (np.nan, 1)],
)
def test_the_error_scale_ends_at_a_round_number_that_holds_the_error(error_m: float, limit_m: float) -> None:
    gt = np.full((20, 20), 2.0, np.float32)
    gt[0, 0] = 0  # not known
    pred = gt + np.float32(error_m)
    pred[-1, :7] = 900  # fewer than 2 % of the pixels
    if np.isnan(error_m):
        pred[:] = np.nan
    assert error_limit(pred, gt) == limit_m


@pytest.mark.parametrize(
    ("count", "size", "grid"),
    [(4, (60, 80), (2, 2)), (3, (60, 80), (3, 1)), (2, (60, 80), (2, 1)), (3, (70, 240), (1, 3))],
)
def test_panels_stand_where_a_screen_shows_them_largest(
    count: int, size: tuple[int, int], grid: tuple
) -> None:
    green = picture(*size)
    sheet = compose([image_panel("", green)] * count)
    columns, rows = ((sheet == green[0, 0]).all(axis=-1).any(axis=axis).astype(int) for axis in (0, 1))
    assert ((np.diff(columns) == 1).sum(), (np.diff(rows) == 1).sum()) == grid


def picture(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), (10, 200, 30), np.uint8)


@pytest.mark.parametrize("size", [(192, 256), (290, 170), (32, 320), (600, 40)])
def test_every_pixel_of_every_panel_is_there_and_nothing_is_drawn_over_it(size: tuple[int, int]) -> None:
    height, width = size
    green = picture(height, width)
    row = compose(
        [image_panel("x" * 60, green, "y" * 200), image_panel("second", green, "note")],
        heading="heading " * 20,
        footer="a footer that has to be broken into several lines " * 3,
    )
    factor = max(1, round(440 / (height * width) ** 0.5))
    assert int((row == green[0, 0]).all(axis=-1).sum()) == 2 * height * width * factor**2
    border = np.concatenate([row[0], row[-1], row[:, 0], row[:, -1]])
    assert (border == 255).all(), "text stays inside"


def test_scales_show_the_panels_own_colours() -> None:
    depth = np.full((192, 256), 5, np.float32)
    row = compose([depth_panel("depth", depth, 10.0), error_panel("error", depth, depth, 1.0)])
    colors = np.unique(row.reshape(-1, 3), axis=0).astype(int)
    wanted = [depth_panel("", np.full((1, 1), value, np.float32), 10.0).picture for value in (0.5, 2.5, 9.9)]
    wanted += [color_error(np.full((1, 1), error, np.float32), 1.0) for error in (-1, -0.5, 0.5, 1)]
    for color in wanted:
        assert np.abs(colors - color[0, 0]).max(axis=1).min() <= 3


def test_depth_panels_share_one_fixed_scale() -> None:
    near = depth_panel("", np.full((4, 4), 2, np.float32), 10.0).picture
    mixed = depth_panel("", np.array([[2, 9]], np.float32), 10.0).picture
    assert (near[0, 0] == mixed[0, 0]).all()
