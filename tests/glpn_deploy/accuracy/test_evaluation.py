"""Accuracy of an estimator on a data set, against figures worked out by hand."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest

from glpn_deploy import DepthEstimator, GLPNImageProcessor
from glpn_deploy.accuracy.baselines import fit_baselines
from glpn_deploy.accuracy.evaluation import RangeWarning, evaluate
from glpn_deploy.accuracy.options import EvalOptions
from glpn_deploy.datasets.base import DepthSample
from glpn_deploy.depth.metrics import depth_metrics
from glpn_deploy.errors import DatasetError, InputError
from glpn_deploy.runtimes.base import InputSpec, Runtime
from glpn_deploy.runtimes.rt_null import NullRuntime
from tests.refusals import refused


class Samples:
    """A data set of given depth maps."""

    name = "folder"
    crop = None

    def __init__(self, *depths: np.ndarray, max_depth: float = 10.0, images: list | None = None) -> None:
        self.max_depth = max_depth
        rng = np.random.default_rng(0)
        self.depths = [np.asarray(depth, np.float32) for depth in depths]
        self.images = images or [rng.integers(0, 256, (*d.shape, 3), np.uint8) for d in self.depths]
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.depths)

    def __getitem__(self, index: int) -> DepthSample:
        self.read.append(index)
        return DepthSample(self.images[index], self.depths[index], f"s{index}")


class RedIsDepth(Runtime):
    """Gives the red channel, times ten, as depth."""

    backend, device, precision, max_depth = "null", "none", "fp32", 10.0
    spec = InputSpec()

    def __init__(self) -> None:
        self.batches: list[int] = []

    def _infer(self, pixel_values: np.ndarray) -> np.ndarray:
        self.batches.append(len(pixel_values))
        return 10 * pixel_values[:, 0]


def constant(depth_m: float, max_depth: float = 10.0) -> DepthEstimator:
    return DepthEstimator(NullRuntime(depth_m), GLPNImageProcessor(), max_depth)


def halves(left: float, right: float, shape: tuple[int, int] = (32, 64)) -> np.ndarray:
    depth = np.full(shape, right, np.float32)
    depth[:, : shape[1] // 2] = left
    return depth


def test_a_constant_by_hand() -> None:
    # 2 m everywhere. First image: half is 2 m, half 4 m. Second: all 1.6 m, ratio exactly 1.25, which is
    # not below 1.25; a 1 m patch counts for it alone.
    report = evaluate(constant(2.0), Samples(halves(2, 4), halves(1.6, 1.6)))
    expected = {
        "delta1": (0.5 + 0.0) / 2,
        "delta3": (0.5 + 1.0) / 2,
        "abs_rel": (0.25 + 0.25) / 2,
        "sq_rel": (0.5 * (4 / 4) + 0.16 / 1.6) / 2,
        "rmse": (math.sqrt(0.5 * 4) + 0.4) / 2,
        "rmse_log": (math.sqrt(0.5) * math.log(2) + math.log(1.25)) / 2,
    }
    assert {name: report.metrics[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert report.result["by_range"]["3-10"]["metrics"]["abs_rel"] == pytest.approx(0.5)
    assert report.result["by_range"]["1-3"]["pixels"] == 32 * 32 + 32 * 64


def test_a_perfect_predictor_at_sizes_that_need_no_resizing() -> None:
    rng = np.random.default_rng(1)
    images = [rng.integers(1, 255, (*shape, 3), np.uint8) for shape in ((64, 96), (32, 32), (64, 96))]
    truth = [image[:, :, 0].astype(np.float32) * np.float32(10 / 255) for image in images]
    runtime = RedIsDepth()
    data = Samples(*truth, images=images)
    report = evaluate(DepthEstimator(runtime, GLPNImageProcessor(), 10.0), data)
    assert report.metrics["delta1"] == 1
    assert report.metrics["abs_rel"] == pytest.approx(0, abs=1e-6)
    assert sorted(runtime.batches) == [1, 2], "images of one size share a batch"
    assert data.read == [0, 1, 2], "and each is read once"


def test_flip_averaging_is_the_mean_with_the_unflipped_mirror_image(
    tiny_checkpoint: Path,
) -> None:
    with DepthEstimator.load(tiny_checkpoint, threads=1) as estimator:
        data = Samples(halves(2, 4, (64, 96)), halves(1, 3, (70, 50)))
        plain = evaluate(estimator, data)
        report = evaluate(estimator, data, EvalOptions(flip=True))
        figures = []
        for image, gt in zip(data.images, data.depths, strict=True):
            mirrored = np.fliplr(estimator(np.ascontiguousarray(np.fliplr(image))).depth)
            mean = (estimator(image).depth.astype(np.float64) + mirrored) / 2
            figures.append(depth_metrics(mean, gt, gt > 0))
    for name in ("delta1", "abs_rel", "rmse", "silog_half"):
        assert report.metrics[name] == pytest.approx(np.mean([f[name] for f in figures]), rel=1e-4)
    assert report.metrics["rmse"] != plain.metrics["rmse"]
    assert report.to_dict()["options"]["flip"] is True


def test_median_scaling_is_named_with_its_factor() -> None:
    report = evaluate(constant(2.0), Samples(halves(4, 4), halves(8, 8)), EvalOptions(median_scaling=True))
    values = report.to_dict()
    assert values["metrics"]["delta1"] == 1
    assert values["median_scaling"] is True
    assert values["options"]["median_scaling"] is True
    assert values["median_scale"] == pytest.approx((2 + 4) / 2)
    assert "median_scale" not in evaluate(constant(2.0), Samples(halves(4, 4))).to_dict()


def test_the_report_is_json_and_says_everything() -> None:
    data = Samples(halves(2, 0), halves(0, 0), halves(2, 2))
    values = json.loads(json.dumps(evaluate(constant(2.0), data, split="test").to_dict(), allow_nan=False))
    assert (values["backend"], values["device"], values["precision"]) == ("null", "none", "fp32")
    assert values["dataset"] == {"name": "folder", "split": "test", "count": 3, "height": None, "width": None}
    assert (values["images"], values["skipped"], values["pixels"]) == (2, 1, 32 * 32 + 32 * 64)
    assert (values["max_depth"], values["crop"], values["network_max_depth"]) == (10, None, 10)
    assert values["metrics"]["delta1"] == 1
    assert values["images_per_s"] > 0
    assert values["bad_samples"] == []
    assert "baselines" not in values


def test_max_depth_and_crop_are_the_data_sets_unless_given() -> None:
    data = Samples(halves(2, 4, (480, 640)))
    data.crop = "nyu"  # type: ignore[assignment]
    assert evaluate(constant(2.0), data).result["pixels"] == (471 - 45) * (601 - 41)
    whole = evaluate(constant(2.0), data, EvalOptions(crop="none", max_depth=3.0))
    assert whole.result["pixels"] == 480 * 320
    assert whole.metrics["delta1"] == 1


def test_an_empty_prediction_set_and_bad_options_are_refused() -> None:
    with refused(InputError, got="none of 1 images has a valid pixel", fix="check the depth scale"):
        evaluate(constant(2.0), Samples(halves(0, 0)))
    with pytest.raises(InputError) as caught:
        EvalOptions(batch_size=0)
    assert caught.value.got == "the option batch is 0"
    with pytest.raises(InputError) as caught:
        EvalOptions(max_depth=-1)
    assert caught.value.got == "the option max_depth is -1"


@pytest.mark.parametrize(
    ("depth", "image", "crop", "says"),
    [
        (halves(1, 1, (20, 64)), None, None, "folder sample s1: the array is 64 px wide and 20 px high"),
        (
            halves(1, 1),
            np.zeros((32, 32, 3), np.uint8),
            None,
            r"folder sample s1: an image of shape \(32, 32",
        ),
        (halves(1, 1), None, "nyu", "folder sample s0: the nyu crop met a depth map of 32x64"),
    ],
)
def test_a_bad_sample_is_named(depth: np.ndarray, image: np.ndarray | None, crop: str, says: str) -> None:
    data = Samples(halves(1, 1), depth)
    if image is not None:
        data.images[1] = image
    with pytest.raises(DatasetError, match=says):
        evaluate(constant(1.0), data, EvalOptions(crop=crop))


def test_a_bad_sample_is_left_out_and_named_where_that_is_asked_for() -> None:
    data = Samples(halves(1, 1), halves(1, 1, (20, 64)), halves(1, 1))
    report = evaluate(constant(1.0), data, EvalOptions(skip_bad=True, batch_size=1))
    assert report.result["images"] == 2
    assert report.to_dict()["bad_samples"] == [
        "folder sample s1: the array is 64 px wide and 20 px high; expected at least 32 px on either side; "
        "enlarge the image or choose a larger crop."
    ]


def test_a_network_that_ends_before_the_protocol_is_warned_of() -> None:
    data = Samples(halves(2, 40), max_depth=80.0)
    data.name = "kitti"
    with pytest.warns(RangeWarning, match=r"ends at 10 m and kitti is judged up to 80 m.*--max-depth 80"):
        evaluate(constant(2.0), data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(constant(2.0), data, EvalOptions(median_scaling=True))
        evaluate(constant(2.0, max_depth=80.0), data)


def test_baselines_are_the_best_of_their_kind() -> None:
    rng = np.random.default_rng(3)
    train = Samples(*rng.uniform(0.5, 9.5, (5, 32, 40)), halves(0, 3, (32, 40)))
    fitted = {baseline.name: baseline for baseline in fit_baselines(train)}
    assert list(fitted) == ["constant_delta1", "constant_abs_rel", "row_mean"]

    def judged(depth: float) -> dict[str, float]:
        maps = [np.full(gt.shape, depth) for gt in train.depths]
        figures = [depth_metrics(p, gt, gt > 0) for p, gt in zip(maps, train.depths, strict=True)]
        return {name: float(np.mean([f[name] for f in figures])) for name in figures[0]}

    for candidate in np.arange(0.25, 10, 0.25):
        assert judged(candidate)["delta1"] <= judged(fitted["constant_delta1"].depth.item())["delta1"] + 2e-3
        best = judged(fitted["constant_abs_rel"].depth.item())["abs_rel"]
        assert judged(candidate)["abs_rel"] >= best - 1e-4
    rows = fitted["row_mean"].depth[:, 0]
    pixels = np.concatenate([depth[7][depth[7] > 0] for depth in train.depths])
    assert rows[7] == pytest.approx(pixels.mean(), rel=1e-5)
    with refused(InputError, got="per-row baseline of 32 rows met an image of 64"):
        fitted["row_mean"].predict(64, 40)


def test_baselines_are_judged_like_the_network() -> None:
    train = Samples(np.full((32, 64), 2.0))
    report = evaluate(constant(4.0), Samples(halves(2, 4)), baselines=fit_baselines(train))
    baselines = report.to_dict()["baselines"]
    assert baselines["row_mean"]["metrics"]["delta1"] == 0.5
    assert baselines["row_mean"]["metrics"]["abs_rel"] == pytest.approx(0.25)
    assert report.metrics["abs_rel"] == pytest.approx(0.5)
    assert "2.00 m everywhere" in baselines["constant_abs_rel"]["description"]


def test_baselines_need_ground_truth() -> None:
    with refused(InputError, got="no valid pixel"):
        fit_baselines(Samples(halves(0, 0)))
    with refused(InputError, got="s1 is 64 px high", expected="32 px, as the first image"):
        fit_baselines(Samples(halves(1, 1), halves(1, 1, (64, 64))))
