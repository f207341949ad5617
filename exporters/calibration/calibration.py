"""Ranges of a network's inner tensors over real images, which pass through `GLPNImageProcessor` only."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from glpn_deploy import progress
from glpn_deploy.errors import ExportError, ImageError, InputError
from glpn_deploy.exporters.calibration.histogram import MagnitudeHistogram
from glpn_deploy.exporters.graph.graph_edit import load_graph
from glpn_deploy.exporters.graph.tensor_sizes import tensor_elements
from glpn_deploy.exporters.options import FEWEST_IMAGES, CalibrationOptions
from glpn_deploy.exporters.to_half import require_fp32
from glpn_deploy.images.files import find_images
from glpn_deploy.images.loading import ImageSource, load_image, shrink
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.optional import needs
from glpn_deploy.runtimes.memory import available_memory

ENOUGH_IMAGES = 16
MAX_HELD = 2 * 2**30
"""Inner tensors [bytes] held at once; an image that has more is run several times, some tensors each."""


@dataclasses.dataclass(frozen=True)
class Ranges:
    """What calibration found.

    Attributes:
        limits: Tensor name to its lower and upper limit, 0 within them.
        digest: SHA-256 over the images' pixels, the processor and the options.
    """

    limits: Mapping[str, tuple[float, float]]
    method: str
    images: int
    digest: str

    def to_dict(self) -> dict[str, Any]:
        """What the manifest says of it; the limits themselves are the scales in the graph."""
        return {"method": self.method, "images": self.images, "digest": self.digest}


def find_calibration_images(folder: Path) -> list[Path]:
    """All images of a folder, by name; none is read."""
    fix = f"give a folder of {ENOUGH_IMAGES} or more pictures of the kind the camera will see"
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"the calibration folder {folder} {what}", fix=fix)
    try:
        return find_images([str(folder)])
    except ImageError as error:
        expected = "photographs in the folder itself (sub-folders are not searched)"
        raise InputError(f"the calibration folder {error.got}", expected=expected, fix=fix) from None


def calibration_images(
    folder: Path, processor: GLPNImageProcessor, limit: int, long_side: int
) -> list[NDArray[np.uint8]]:
    """Reads up to ``limit`` images of a folder, spread evenly by name, and shrinks them to a long side [px].

    Raises:
        InputError: There is no such folder, or it has no image.
        ImageError: An image cannot be read or is smaller than 32 px; the message names the file.
    """
    found = find_calibration_images(folder)
    count = min(limit, len(found))
    images = []
    for path in (found[index * len(found) // count] for index in range(count)):
        image = load_image(path)
        try:
            processor.target_size(*image.shape[:2])
        except ImageError as error:
            raise ImageError(f"{path}: {error.got}", expected=error.expected, fix=error.fix) from None
        images.append(shrink(image, long_side, processor.size_divisor))
    return images


def check_image_count(count: int) -> None:
    """Refuses a single calibration image, and warns of fewer than sixteen."""
    fix = f"give {ENOUGH_IMAGES} or more pictures of the kind the camera will see"
    if count < FEWEST_IMAGES:
        what = "is one calibration image" if count else "are no calibration images"
        raise InputError(f"there {what}", expected=f"at least {FEWEST_IMAGES}", fix=fix)
    if count < ENOUGH_IMAGES:
        warnings.warn(
            f"There are {count} calibration images; ranges may be too narrow for other scenes. "
            f"{fix[0].upper()}{fix[1:]}.",
            stacklevel=2,
        )


def random_images(count: int, height: int, width: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Uniform noise as (height, width, 3) uint8: for trying out a build, never for one that is shipped.

    Noise gives ranges that real scenes do not have, and INT8 maps that are wrong on them.
    """
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]


def calibrate(
    source: Path,
    images: Sequence[ImageSource],
    processor: GLPNImageProcessor,
    tensors: Collection[str],
    options: CalibrationOptions = CalibrationOptions(),
) -> Ranges:
    """Runs an FP32 graph over images and finds the range of each of the tensors named.

    One image is alive at a time, at most `MAX_HELD` bytes of its inner tensors, and only histograms remain;
    onnxruntime.quantization's calibraters keep every inner tensor of every image (docs/decisions/int8.md).

    Args:
        tensors: Names of float tensors of the graph (`int8_tensors`, `fp8_tensors`).

    Raises:
        ExportError: The graph is quantized or not FP32, has no such tensor or gives NaN, or there is too
            little memory.
        InputError: There are fewer than two images.
        ImageError: An image cannot be read.
        MissingDependencyError: onnxruntime is not installed.
    """
    check_image_count(len(images))
    model = load_graph(source)
    require_fp32(model, source)
    run = _Probe(model, sorted(tensors))
    histograms = {name: MagnitudeHistogram(detailed=options.method == "percentile") for name in run.tensors}
    digest = hashlib.sha256(
        json.dumps([dataclasses.asdict(options), processor.to_dict()], sort_keys=True).encode()
    )
    with progress.step("calibrating", len(images)) as step:
        for number, image in enumerate(images, 1):
            rgb = load_image(image)
            digest.update(f"{rgb.shape}".encode() + rgb.tobytes())
            for name, values in run(processor.prepare(rgb)[None]):
                try:
                    histograms[name].add(values)
                except ValueError as error:
                    raise ExportError(
                        f"the FP32 network gives {error} at {name} for calibration image {number}",
                        fix="check the checkpoint: glpn-export without --int8 and glpn-verify",
                    ) from None
            step.advance(f"image {number}")
        step.finish(f"{len(histograms)} tensors over {len(images)} images, {options.method}")
    limits = {name: _limits(histogram, options) for name, histogram in histograms.items()}
    return Ranges(limits, options.method, len(images), digest.hexdigest())


def _limits(histogram: MagnitudeHistogram, options: CalibrationOptions) -> tuple[float, float]:
    limit = histogram.percentile(options.percentile) if options.method == "percentile" else histogram.largest
    return max(min(histogram.low, 0.0), -limit), min(max(histogram.high, 0.0), limit)


def require_memory(source: Path, images: Sequence[NDArray[np.uint8]], processor: GLPNImageProcessor) -> None:
    """Refuses calibration images for which there is too little memory, before anything is run."""
    sizes = (processor.target_size(*image.shape[:2]) for image in images)
    height, width = max(sizes, key=lambda size: size[0] * size[1])
    _memory(load_graph(source), (1, 3, height, width))


def _memory(model: onnx.ModelProto, shape: tuple[int, ...]) -> tuple[dict[str, int], int]:
    """Sizes of the inner tensors by name, and what may be held of them beside a run [bytes]."""
    sizes = {name: 4 * count for name, count in tensor_elements(model, shape).items()}
    weights = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    working = 3 * weights + 6 * max(sizes.values(), default=0)
    free = available_memory()
    if free is None:
        return sizes, MAX_HELD
    if working > free:
        raise ExportError(
            f"calibrating at {shape[3]}x{shape[2]} px takes about {working / 1e9:.1f} GB of memory",
            expected=f"at most the {free / 1e9:.1f} GB that are free",
            fix="close other programs, or make the calibration images smaller",
        )
    return sizes, min(MAX_HELD, free - working)


class _Probe:
    """A session over the graph that also gives inner tensors, a few at a time."""

    def __init__(self, model: onnx.ModelProto, tensors: Sequence[str]) -> None:
        with needs("calibration", "cpu"):
            from glpn_deploy.runtimes.ort_session import open_session
        self.model, self.tensors = model, list(tensors)
        self.input = model.graph.input[0].name
        made = {name for node in model.graph.node for name in node.output} | {self.input}
        unknown = [name for name in self.tensors if name not in made]
        if unknown:
            raise ExportError(f"the graph has no tensor {unknown[0]}", expected="names of this very graph")
        self._plans: dict[tuple[int, ...], list[list[str]]] = {}
        present = {value.name for value in model.graph.output}
        added = [name for name in self.tensors if name not in present and name != self.input]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in added)
        # Without the arena, in which images of many sizes would each leave their memory behind.
        self._session = open_session(model.SerializeToString(), arena=False)
        del model.graph.output[len(present) :]

    def __call__(self, pixels: NDArray[np.float32]) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Names and values of the tensors for one input (1, 3, H, W)."""
        if self.input in self.tensors:
            yield self.input, pixels
        if pixels.shape not in self._plans:
            self._plans[pixels.shape] = self._plan(pixels.shape)
        for names in self._plans[pixels.shape]:
            values = self._session.run(names, {self.input: pixels})
            while values:
                yield names[len(values) - 1], values.pop()

    def _plan(self, shape: tuple[int, ...]) -> list[list[str]]:
        """Parts of the tensors that fit into memory together."""
        sizes, budget = _memory(self.model, shape)
        parts: list[list[str]] = [[]]
        held = 0
        for name in self.tensors:
            if name == self.input:
                continue
            if parts[-1] and held + sizes[name] > budget:
                parts.append([])
                held = 0
            parts[-1].append(name)
            held += sizes[name]
        return [part for part in parts if part]
