"""What a worker measures: a loaded network with its inputs, or the matrix product that calibrates rounds."""

from __future__ import annotations

import dataclasses
import itertools
import time
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.benchmarks.workload.cases import CALIBRATION, PEERS, VARIANTS, Case, Variant
from glpn_deploy.benchmarks.workload.ceilings import Product
from glpn_deploy.depth.depth_map import DepthMap
from glpn_deploy.errors import BackendError, UnavailableError
from glpn_deploy.images.loading import load_image
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.images.resample import resize_bicubic
from glpn_deploy.runtimes.base import Runtime, batch_shape
from glpn_deploy.runtimes.options import LoadOptions, RuntimeOptions
from glpn_deploy.runtimes.registry import load_runtime

_MOST_OPERATORS = 12


@runtime_checkable
class TimedRuntime(Protocol):
    """A runtime that can tell its copies to and from the device apart from its computation."""

    def run_timed(self, pixel_values: NDArray[Any]) -> tuple[NDArray[np.float32], dict[str, float]]:
        """As ``run``, with ``host_to_device``, ``compute`` and ``device_to_host`` [ms]."""


@runtime_checkable
class ToldOperators(Protocol):
    """A runtime that can tell where the time of a run goes."""

    def operator_times(self, pixel_values: NDArray[np.float32]) -> dict[str, float]:
        """Time of a run by type of operator [ms]."""


@runtime_checkable
class Graphs(Protocol):
    """A runtime that can do without its CUDA graphs."""

    graphs: bool


class Network:
    """A loaded runtime and the batches it takes in turns.

    Attributes:
        case: What was asked for.
        runtime: The loaded network.
        load_s: Importing the backend and loading [s].
        first_call_s: The first run [s].

    Raises:
        BackendError: The backend cannot run it, or computes in another precision than asked for.
        GlpnError: The artefact or an image cannot be used.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.processor: GLPNImageProcessor = GLPNImageProcessor.from_dict(case.processor)
        images = [load_image(path) for path in case.images]
        begin = time.perf_counter()
        options = RuntimeOptions(device=case.device, threads=case.threads, mode=case.mode)
        options = LoadOptions(precision=case.precision, runtime=options).resolved()
        self.runtime = _load(case, options)
        self.load_s = time.perf_counter() - begin
        if self.runtime.precision != options.precision:
            gave = self.runtime.precision
            self.runtime.close()
            raise BackendError(f"{case.backend} gives {gave} from this file, not {case.precision}")
        unmet = [reason.text for reason in self.runtime.reasons if reason.unmet]
        if unmet and (case.strict or case.precision == "int8+bf16"):
            self.runtime.close()
            raise UnavailableError(f"{case.backend} does not give {case.precision}: {'; '.join(unmet)}")
        prepared = [self._prepare(image) for image in images]
        self.batches = [
            np.stack([prepared[(start + offset) % len(prepared)] for offset in range(case.batch)])
            for start in range(len(prepared))
        ]
        begin = time.perf_counter()
        self._raw = self.runtime.run(self.batches[0])
        self.first_call_s = time.perf_counter() - begin

    def _prepare(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        """One image as the file takes it."""
        if self.runtime.spec.dtype == "uint8":
            return self.processor.prepare_bytes(image)
        return self.processor.prepare(image)

    def call(self, turn: int) -> object:
        """Runs one batch."""
        return self.runtime.run(self.batches[turn % len(self.batches)])

    def outputs(self) -> NDArray[np.float32]:
        """Raw depth of every image once, ``(images, H, W)`` [m], in their order, at the case's batch size."""
        count = len(self.batches)
        depth = [self.runtime.run(self.batches[start]) for start in range(0, count, self.case.batch)]
        return np.concatenate(depth)[:count]

    def operators(self) -> dict[str, float]:
        """Time of a run by type of operator [ms], the longest first; empty where it is not told."""
        told = self.runtime.operator_times(self.batches[0]) if isinstance(self.runtime, ToldOperators) else {}
        return dict(sorted(told.items(), key=lambda item: -item[1])[:_MOST_OPERATORS])

    def stages(self, turn: int) -> dict[str, float]:
        """What a run needs from image files to depth at the images' own size, as `DepthEstimator` does it.

        Returns:
            Milliseconds by stage. The network itself, with its copies to and from the device, only where the
            runtime tells these apart: elsewhere `call` has taken its time.
        """
        files = [self.case.images[(turn + i) % len(self.case.images)] for i in range(self.case.batch)]
        marks = [time.perf_counter()]
        images = [load_image(path) for path in files]
        marks.append(time.perf_counter())
        prepared = [self._prepare(image) for image in images]
        batch = prepared[0][None] if len(prepared) == 1 else np.stack(prepared)
        marks.append(time.perf_counter())
        device: dict[str, float] = {}
        if isinstance(self.runtime, TimedRuntime):
            self._raw, device = self.runtime.run_timed(batch)
        begin = time.perf_counter()
        for depth, image in zip(self._raw, images, strict=True):
            DepthMap(resize_bicubic(depth, image.shape[:2]), self.case.max_depth)
        postprocess = time.perf_counter() - begin
        decode, preprocess = ((b - a) * 1e3 for a, b in itertools.pairwise(marks))
        return {"decode": decode, "preprocess": preprocess, "postprocess": postprocess * 1e3, **device}


def load_workload(case: Case) -> Network | Product:
    """Loads what a case names."""
    return Product(case.device, case.threads) if case.backend == CALIBRATION else Network(case)


def _load(case: Case, options: RuntimeOptions) -> Runtime:
    variant = VARIANTS.get(case.backend, Variant(of=case.backend))
    options = dataclasses.replace(options, compile=variant.compile)
    path = None if case.path is None else Path(case.path)
    if case.backend in PEERS:
        assert path is not None  # plan_runners lets no peer through without a checkpoint
        from glpn_deploy.benchmarks.workload.peers import load_peer

        return load_peer(case.backend, path, options)
    if path is not None and path.suffix == ".xml":
        from glpn_deploy.benchmarks.workload.openvino_file import OpenVINOFile

        return OpenVINOFile(path, options)
    if case.backend == "null":
        from glpn_deploy.runtimes.rt_null import NullRuntime

        return NullRuntime(delay_ms=case.delay_ms, precision=options.precision)
    runtime = load_runtime(variant.of, path, options)
    if not variant.graphs:
        assert isinstance(runtime, Graphs)  # a variant of a backend without graphs would be none
        runtime.graphs = False
    return runtime


def describe(workload: Network | Product) -> dict[str, Any]:
    """Device, precision and cold start, for the reply to ``load``."""
    if isinstance(workload, Product):
        return {"device": workload.device, "precision": "fp32", "by": workload.by, "flops": workload.flops}
    _, height, width = batch_shape(workload.batches[0])
    return {
        "device": workload.runtime.device,
        "precision": workload.runtime.precision,
        "network_size": [height, width],
        "load_s": workload.load_s,
        "first_call_s": workload.first_call_s,
    }
