import json
import math
import time

import numpy as np
import pytest
import torch
import torchmetrics
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from glpn_deploy.depth.metrics import DepthMetrics, crop_window, depth_metrics
from glpn_deploy.errors import InputError
from tests.refusals import refused


def naive(pred, gt):
    """The textbook formulas, pixel by pixel in Python floats."""
    pairs = [(float(p), float(g)) for p, g in zip(np.ravel(pred), np.ravel(gt), strict=True)]
    n = len(pairs)
    logs = [math.log(p) - math.log(g) for p, g in pairs]
    worst = [max(p / g, g / p) for p, g in pairs]
    mean_log, mean_log2 = sum(logs) / n, sum(d * d for d in logs) / n
    return {
        "delta1": sum(w < 1.25 for w in worst) / n,
        "delta2": sum(w < 1.25**2 for w in worst) / n,
        "delta3": sum(w < 1.25**3 for w in worst) / n,
        "abs_rel": sum(abs(p - g) / g for p, g in pairs) / n,
        "sq_rel": sum((p - g) ** 2 / g for p, g in pairs) / n,
        "rmse": math.sqrt(sum((p - g) ** 2 for p, g in pairs) / n),
        "rmse_log": math.sqrt(mean_log2),
        "log10": sum(abs(math.log10(p) - math.log10(g)) for p, g in pairs) / n,
        "silog_half": math.sqrt(mean_log2 - 0.5 * mean_log**2),
        "silog_kitti": 100 * math.sqrt(sum((d - mean_log) ** 2 for d in logs) / n),
    }


def scene(seed=0, shape=(48, 64), low=0.4, high=9.5, noise=0.2):
    rng = np.random.default_rng(seed)
    gt = rng.uniform(low, high, shape).astype(np.float32)
    pred = (gt * np.exp(noise * rng.normal(size=shape))).astype(np.float32)
    return np.clip(pred, 1e-3, 9.99).astype(np.float32), gt


def everywhere(gt):
    return np.ones(gt.shape, dtype=bool)


def test_two_by_two_by_hand():
    gt = np.array([[1.0, 2.0], [4.0, 8.0]])
    pred = np.array([[1.0, 4.0], [2.0, 8.0]])  # right, twice, half, right: d = 0, ln 2, -ln 2, 0
    got = depth_metrics(pred, gt, everywhere(gt))
    ln2 = math.log(2)
    assert got == pytest.approx(
        {
            "delta1": 0.5,
            "delta2": 0.5,
            "delta3": 0.5,
            "abs_rel": (1 + 0.5) / 4,
            "sq_rel": (4 / 2 + 4 / 4) / 4,
            "rmse": math.sqrt((4 + 4) / 4),
            "rmse_log": ln2 / math.sqrt(2),
            "log10": math.log10(2) / 2,
            "silog_half": ln2 / math.sqrt(2),
            "silog_kitti": 100 * ln2 / math.sqrt(2),
        }
    )


def test_the_two_scale_invariant_errors_differ_for_a_wrong_scale():
    gt = np.array([[1.0, 2.0], [4.0, 8.0]], dtype=np.float32)
    got = depth_metrics(3 * gt, gt, everywhere(gt))
    assert got["silog_kitti"] == pytest.approx(0, abs=1e-4)
    assert got["silog_half"] == pytest.approx(math.log(3) / math.sqrt(2))


def test_deltas_are_strict_at_their_thresholds():
    gt = np.array([[1.0, 1.0], [1.25, 1.0]])
    pred = np.array([[1.25, 1.2499], [1.0, 1.5625]])
    got = depth_metrics(pred, gt, everywhere(gt))
    assert (got["delta1"], got["delta2"], got["delta3"]) == (0.25, 0.75, 1.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_agrees_with_plain_loops(dtype):
    pred, gt = (values.astype(dtype) for values in scene(shape=(150, 160)))  # more than one block
    assert depth_metrics(pred, gt, everywhere(gt)) == pytest.approx(naive(pred, gt), rel=1e-5, abs=1e-6)


def test_agrees_with_torchmetrics():
    pred, gt = scene(1)
    got = depth_metrics(pred, gt, everywhere(gt))
    p, g = torch.from_numpy(pred).double().flatten(), torch.from_numpy(gt).double().flatten()
    expected = {
        "abs_rel": torchmetrics.MeanAbsolutePercentageError()(p, g),
        "rmse": torchmetrics.MeanSquaredError(squared=False)(p, g),
        # its log(1 + x) is our log(x) for values shifted by one
        "rmse_log": torchmetrics.MeanSquaredLogError()(p - 1, g - 1).sqrt(),
        "log10": torchmetrics.MeanAbsoluteError()(p.log10(), g.log10()),
        "silog_kitti": 100 * torch.std(p.log() - g.log(), correction=0),
    }
    for name, value in expected.items():
        assert got[name] == pytest.approx(float(value), rel=1e-5), name


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_agrees_with_plain_loops_for_any_depth(data):
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=6))
    pred, gt = (data.draw(hnp.arrays(np.float64, shape, elements=st.floats(0.01, 80))) for _ in range(2))
    got, expected = depth_metrics(pred, gt, everywhere(gt)), naive(pred, gt)
    # 100 times the root of a difference: what float64 leaves of it where the true value is 0
    assert got.pop("silog_kitti") == pytest.approx(expected.pop("silog_kitti"), rel=1e-5, abs=1e-3)
    assert got == pytest.approx(expected, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_depth_metrics_refuses_values_without_a_logarithm(value):
    pred, gt = scene(shape=(4, 4))
    pred[1, 2] = value
    with refused(InputError, got="1 of 16 masked prediction values"):
        depth_metrics(pred, gt, everywhere(gt))
    mask = everywhere(gt)
    mask[1, 2] = False
    depth_metrics(pred, gt, mask)
    with refused(InputError, got="no pixel"):
        depth_metrics(pred, gt, ~everywhere(gt))
    with refused(InputError, expected="one shape"):
        depth_metrics(pred[:2], gt, mask)


def test_ground_truth_at_either_limit_does_not_count():
    gt = np.array([[0, 1e-3, 0.5], [9.999, 10, np.nan]], dtype=np.float32)
    metrics = DepthMetrics(10)
    metrics.update(np.ones_like(gt), gt)
    assert metrics.compute()["pixels"] == 2


@pytest.mark.parametrize(
    ("crop", "shape", "rows", "columns"),
    [  # worked out by hand: 352 and 1216 times the fractions, cut to whole pixels
        ("nyu", (480, 640), (45, 471), (41, 601)),
        ("garg", (352, 1216), (143, 349), (43, 1172)),
        ("eigen", (352, 1216), (117, 321), (43, 1172)),
        ("garg", (375, 1242), (153, 371), (44, 1197)),
    ],
)
def test_crops_are_the_protocols(crop, shape, rows, columns):
    assert crop_window(crop, *shape) == (slice(*rows), slice(*columns))


def test_crops_that_do_not_fit_are_refused():
    with refused(InputError, expected="480x640"):
        crop_window("nyu", 352, 1216)
    with refused(InputError, expected="one of nyu, eigen, garg"):
        DepthMetrics(10, crop="centre")
    with refused(InputError, got="max_depth is 0 m"):
        DepthMetrics(0)


def test_averages_by_image_and_not_by_pixel():
    metrics = DepthMetrics(10)
    full, sparse = np.full((2, 2), 2.0), np.array([[2.0, 0.0], [0.0, 0.0]])
    metrics.update(full * 1.1, full)
    metrics.update(np.full((2, 2), 3.0), sparse)  # one pixel, off by half
    result = metrics.compute()
    assert result["metrics"]["abs_rel"] == pytest.approx((0.1 + 0.5) / 2)
    assert result["metrics"]["rmse"] == pytest.approx((0.2 + 1.0) / 2)
    assert (result["images"], result["pixels"], result["skipped"]) == (2, 5, 0)


@pytest.mark.parametrize("crop", [None, "nyu"])
def test_streaming_agrees_with_loops_over_masked_pixels(crop):
    metrics, expected = DepthMetrics(10, crop=crop), []
    for seed in range(2):
        pred, gt = scene(seed, shape=(480, 640), high=11)
        window = crop_window(crop, *gt.shape)
        counts = (gt[window] > 1e-3) & (gt[window] < 10)
        expected.append(naive(pred[window][counts], gt[window][counts]))
        assert metrics.update(pred, gt) == pytest.approx(expected[-1], rel=1e-5, abs=1e-6)
    means = {name: (expected[0][name] + expected[1][name]) / 2 for name in expected[0]}
    assert metrics.compute()["metrics"] == pytest.approx(means, rel=1e-5, abs=1e-6)


def test_ranges_are_those_of_the_ground_truth():
    near, far = np.array([[0.5, 1.0, 2.0, 3.0]]), np.array([[12.0, 79.0, 1.5, 0.0]])
    metrics = DepthMetrics(80)
    metrics.update(near * np.array([[1.1, 1.2, 1.4, 1.0]]), near)
    metrics.update(far * np.array([[1.0, 0.9, 2.0, 1.0]]) + np.array([[0, 0, 0, 1.0]]), far)
    ranges = metrics.compute()["by_range"]
    assert {name: (part["images"], part["pixels"]) for name, part in ranges.items()} == {
        "0-1": (1, 1),
        "1-3": (2, 3),
        "3-10": (1, 1),
        "10-80": (1, 2),
    }
    assert ranges["0-1"]["metrics"]["abs_rel"] == pytest.approx(0.1)
    assert ranges["1-3"]["metrics"]["abs_rel"] == pytest.approx(((0.2 + 0.4) / 2 + 1.0) / 2)
    assert ranges["3-10"]["metrics"]["delta1"] == 1
    assert ranges["10-80"]["metrics"]["abs_rel"] == pytest.approx((0 + 0.1) / 2)


def test_pixels_beyond_the_last_range_still_count_overall():
    metrics = DepthMetrics(200)
    metrics.update(np.array([[100.0, 1.0]]), np.array([[150.0, 1.0]]))
    result = metrics.compute()
    assert result["metrics"]["abs_rel"] == pytest.approx(1 / 6)
    assert result["by_range"]["10-80"] == {"metrics": None, "images": 0, "pixels": 0}


def test_predictions_are_clipped_as_the_protocol_does():
    metrics = DepthMetrics(10)
    metrics.update(np.array([[50.0, -2.0]]), np.array([[5.0, 1.0]]))
    assert metrics.compute()["metrics"]["abs_rel"] == pytest.approx((1.0 + 0.999) / 2)
    assert metrics.compute()["invalid_predictions"] == 0


def test_an_invalid_prediction_costs_accuracy_and_is_counted():
    gt = np.array([[2.0, 2.0], [2.0, 0.0]])
    pred = np.array([[np.nan, np.inf], [2.0, np.nan]])  # the last has no ground truth
    given_pred = pred.copy()
    metrics = DepthMetrics(10)
    metrics.update(pred, gt)
    result = metrics.compute()
    assert result["invalid_predictions"] == 2
    assert result["metrics"]["abs_rel"] == pytest.approx((1.999 / 2 + 8 / 2 + 0) / 3)
    assert result["metrics"]["delta1"] == pytest.approx(1 / 3)
    np.testing.assert_array_equal(pred, given_pred)  # the caller's array is left alone


def test_an_image_without_ground_truth_is_skipped_and_counted():
    metrics = DepthMetrics(10)
    with refused(InputError, got="none of 0 images"):
        metrics.compute()
    assert metrics.update(np.ones((2, 2)), np.zeros((2, 2))) is None
    with refused(InputError, got="none of 1 images has a valid pixel", fix="depth scale"):
        metrics.compute()
    metrics.update(np.ones((2, 2)), np.ones((2, 2)))
    result = metrics.compute()
    assert (result["images"], result["skipped"]) == (1, 1)
    assert result["metrics"]["delta1"] == 1
    with refused(InputError, expected="same"):
        metrics.update(np.ones((2, 3)), np.ones((2, 2)))


def test_median_scaling_is_named_and_undoes_a_wrong_scale():
    pred, gt = scene(high=6)
    plain, scaled = DepthMetrics(10), DepthMetrics(10, median_scaling=True)
    plain.update(gt / 4, gt)
    scaled.update(gt / 4, gt)
    assert plain.compute()["median_scaling"] is False
    assert "median_scale" not in plain.compute()
    result = scaled.compute()
    assert result["median_scaling"] is True
    assert result["median_scale"] == pytest.approx(4)
    assert result["metrics"]["abs_rel"] == pytest.approx(0, abs=1e-6)
    broken = DepthMetrics(10, median_scaling=True)
    broken.update(np.full_like(pred, np.nan), gt)
    assert broken.compute()["invalid_predictions"] == gt.size
    assert broken.compute()["metrics"]["delta1"] == 0


def test_the_result_is_json():
    metrics = DepthMetrics(10, crop="nyu")
    metrics.update(*scene(shape=(480, 640)))
    result = metrics.compute()
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert (result["crop"], result["max_depth"], result["min_depth"]) == ("nyu", 10, 1e-3)


def test_a_hundred_images_a_second():
    gt = np.tile(np.geomspace(0.4, 9.9, 480, dtype=np.float32)[:, None], (1, 640))
    pred = gt * np.float32(1.1)
    metrics, times = DepthMetrics(10), []
    for _ in range(15):
        start = time.perf_counter()
        metrics.update(pred, gt)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.01  # the best of many, as other work may share the core
