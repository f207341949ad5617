"""Accuracy of any backend and precision on a data set, by the data set's own protocol."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy import progress
from glpn_deploy.accuracy.baselines import Baseline
from glpn_deploy.accuracy.frames import SteadinessJudge
from glpn_deploy.accuracy.options import EvalOptions
from glpn_deploy.datasets.base import DepthDataset, DepthSample
from glpn_deploy.depth.metrics import Crop, DepthMetrics, crop_window
from glpn_deploy.errors import DatasetError, GlpnError, ImageError
from glpn_deploy.estimator import DepthEstimator
from glpn_deploy.images.loading import load_image


class RangeWarning(UserWarning):
    """A network whose depth ends before the protocol's does."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """What an evaluation found.

    Attributes:
        network_max_depth: Where the network's depth ends [m].
        dataset: Name, split, count of samples, and height and width where all are of one size.
        options: `EvalOptions` as used; crop and range as used are in ``result``.
        result: `DepthMetrics.compute`'s dictionary.
        baselines: By name: description and ``metrics`` on the same images.
        steadiness: Of a clip's frames: what `SteadinessJudge.compute` gives; None for other data sets.
        predict_s: Time spent in predictions, image processing and post-processing included, reading and
            judging not; the first prediction may carry a backend's warm-up [s].
    """

    runtime: dict[str, Any]
    network_max_depth: float
    dataset: dict[str, Any]
    options: EvalOptions
    result: dict[str, Any]
    baselines: dict[str, Any]
    steadiness: dict[str, Any] | None
    bad_samples: tuple[str, ...]
    predict_s: float

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics, averaged over images; names as in `glpn_deploy.depth.metrics.depth_metrics`."""
        metrics: dict[str, float] = self.result["metrics"]
        return metrics

    @property
    def images_per_s(self) -> float:
        """Images a second over ``predict_s``."""
        return float(self.result["images"] + self.result["skipped"]) / max(self.predict_s, 1e-9)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: ``metrics.delta1`` and so on, with all it takes to run the same again."""
        options = dataclasses.asdict(self.options)
        named = {name: options[name] for name in ("flip", "median_scaling", "batch_size", "skip_bad")}
        values: dict[str, Any] = {
            **self.runtime,
            "network_max_depth": self.network_max_depth,
            "dataset": self.dataset,
            "options": named,
            **self.result,
            "predict_s": round(self.predict_s, 3),
            "images_per_s": round(self.images_per_s, 2),
            "bad_samples": list(self.bad_samples),
        }
        if self.baselines:
            values["baselines"] = self.baselines
        if self.steadiness is not None:
            values["steadiness"] = self.steadiness
        return values


def evaluate(
    estimator: DepthEstimator,
    dataset: DepthDataset,
    options: EvalOptions = EvalOptions(),
    *,
    split: str | None = None,
    baselines: Sequence[Baseline] = (),
) -> EvaluationReport:
    """Judges a network on a data set.

    Args:
        dataset: The samples; its ``max_depth`` and ``crop`` are the protocol.
        split: Name of the split for the report, where the data set does not say it itself.

    Raises:
        DatasetError: A sample cannot be read or judged (unless ``skip_bad``).
        InputError: An option is out of range, or no sample has a valid pixel.

    Warns:
        RangeWarning: The network's depth ends before the protocol's, and nothing scales it.
    """
    crop = dataset.crop if options.crop is None else None if options.crop == "none" else options.crop
    max_depth = dataset.max_depth if options.max_depth is None else options.max_depth

    def judge(scaling: bool) -> DepthMetrics:
        return DepthMetrics(max_depth, crop=crop, median_scaling=scaling)

    metrics = judge(options.median_scaling)
    steadiness = (
        SteadinessJudge(judge(options.median_scaling)) if getattr(dataset, "consecutive", False) else None
    )
    others = [(baseline, judge(options.median_scaling)) for baseline in baselines]
    if not options.median_scaling:
        _warn_of_range(estimator.max_depth, max_depth, dataset.name)
    bad: list[str] = []
    seconds = 0.0
    with progress.step("evaluate", len(dataset)) as step:
        for start in range(0, len(dataset), options.batch_size):
            samples = []
            for index in range(start, min(start + options.batch_size, len(dataset))):
                try:
                    samples.append(_read(dataset, index, crop))
                except (DatasetError, ImageError) as error:
                    if not options.skip_bad:
                        raise
                    bad.append(str(error))
                    step.advance("skipped")
            begin = time.perf_counter()
            depths = _predict(estimator, [sample.image for sample in samples], options)
            seconds += time.perf_counter() - begin
            for sample, depth in zip(samples, depths, strict=True):
                metrics.update(depth, sample.depth)
                if steadiness is not None:
                    steadiness.update(depth, sample.depth)
                for baseline, other in others:
                    other.update(baseline.predict(*sample.depth.shape), sample.depth)
                step.advance(sample.name)
        result = metrics.compute()
        step.finish(f"{result['images']} images, {result['images'] / max(seconds, 1e-9):.1f} images/s")
    return EvaluationReport(
        runtime=estimator.runtime.describe(),
        network_max_depth=float(estimator.max_depth),
        dataset={
            "name": dataset.name,
            "split": getattr(dataset, "split", split),
            "count": len(dataset),
            "height": getattr(dataset, "height", None),
            "width": getattr(dataset, "width", None),
        },
        options=options,
        result=result,
        baselines={
            baseline.name: {"description": baseline.description, "metrics": other.compute()["metrics"]}
            for baseline, other in others
        },
        steadiness=None if steadiness is None else steadiness.compute(),
        bad_samples=tuple(bad),
        predict_s=seconds,
    )


def _predict(
    estimator: DepthEstimator, images: list[NDArray[np.uint8]], options: EvalOptions
) -> list[NDArray[np.float32]]:
    """Depth of a chunk of images, averaged with the mirrored images' where that is asked for."""
    depths = [depth_map.depth for depth_map in estimator.predict(images, options.batch_size)]
    if not options.flip:
        return depths
    mirrored = [np.ascontiguousarray(image[:, ::-1]) for image in images]
    flipped = estimator.predict(mirrored, options.batch_size)
    return [
        (depth + other.depth[:, ::-1]) / np.float32(2) for depth, other in zip(depths, flipped, strict=True)
    ]


def _read(dataset: DepthDataset, index: int, crop: Crop | None) -> DepthSample:
    """A sample that can be predicted and judged; otherwise an error that names it."""
    sample = dataset[index]
    try:
        load_image(sample.image)
        crop_window(crop, *sample.depth.shape)
    except GlpnError as error:
        raise DatasetError(
            f"{dataset.name} sample {sample.name}: {error.got}", expected=error.expected, fix=error.fix
        ) from None
    if sample.image.shape[:2] != sample.depth.shape:
        raise DatasetError(
            f"{dataset.name} sample {sample.name}: an image of shape {sample.image.shape} and a depth map "
            f"of shape {sample.depth.shape}",
            expected="the same height and width",
        )
    return sample


def _warn_of_range(network: float, protocol: float, name: str) -> None:
    if network >= 0.9 * protocol:
        return
    hint = (
        "; if these are the authors' KITTI weights as converted for the hub, which say 10 m by mistake, "
        "export them with --max-depth 80"
        if name == "kitti" and network == 10
        else "; --median-scaling or a smaller --max-depth judges what it can see"
    )
    warnings.warn(
        f"the network's depth ends at {network:g} m and {name} is judged up to {protocol:g} m: whatever is "
        f"farther counts as an error{hint}.",
        RangeWarning,
        stacklevel=3,
    )
