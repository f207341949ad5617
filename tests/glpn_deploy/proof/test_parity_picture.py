"""The picture of the worst image: its panels show what they say, on scales in metres."""

from __future__ import annotations

import numpy as np

from glpn_deploy.proof.checks.budget import Budget
from glpn_deploy.proof.parity import compare
from glpn_deploy.proof.parity_picture import draw_worst_image
from glpn_deploy.proof.parity_report import ParityReport
from glpn_deploy.runtimes.rt_null import NullRuntime

PIXELS = np.random.default_rng(0).random((1, 3, 64, 96), np.float32)


def report(depth: float) -> ParityReport:
    return compare(NullRuntime(depth), NullRuntime(2.0), [("only", PIXELS)], Budget(max_abs_rel=0.01))


def has(picture: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((picture == np.array(color)).all(axis=-1).any())


def test_input_and_error_can_be_found_in_the_picture():
    found = report(2.5)
    picture = draw_worst_image(found, found.worst_image, 10.0)
    assert picture.dtype == np.uint8
    far = (5, 48, 97)  # the end of the scale, which is 0.5 m here
    assert picture.shape[1] > 2 * 96
    assert has(picture, far)
    right = report(2.0)
    white = (draw_worst_image(right, right.worst_image, 10.0) == 247).all(axis=-1)
    assert white.sum() >= 64 * 96, "where nothing is wrong the error is white"


def test_a_photograph_is_shown_rather_than_a_strip_unless_the_strip_failed():
    shapes = {"strip": (32, 320), "photograph": (96, 128), "tiny": (32, 32)}
    batches = [(name, np.zeros((1, 3, *shape), np.float32)) for name, shape in shapes.items()]
    for limit, shown in ((1.0, "photograph"), (0.3, "strip")):
        errors = iter((0.4, 0.1, 0.2))
        found = compare(Shifted(errors), NullRuntime(2.0), batches, Budget(max_abs_m=limit))
        assert found.worst.name == "strip"
        assert found.worst_image.case.name == shown


class Shifted(NullRuntime):
    """Depth 2 m and an error of its own at every run."""

    def __init__(self, errors):
        super().__init__(2.0)
        self.errors = errors

    def _infer(self, batch):
        return super()._infer(batch) + np.float32(next(self.errors))


def test_nan_is_black():
    for depth, black in ((2.5, False), (np.nan, True)):
        found = report(depth)
        assert has(draw_worst_image(found, found.worst_image, 10.0), (0, 0, 0)) is black
