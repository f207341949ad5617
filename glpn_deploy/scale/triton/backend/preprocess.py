"""The Python model glpn_preprocess: an image file's bytes into the network's input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.checkpoints.card import Origin
from glpn_deploy.estimator import DepthEstimator
from glpn_deploy.images.loading import resized
from glpn_deploy.runtimes.rt_null import NullRuntime
from glpn_deploy.scale.triton.backend.tensors import Settings, answers, array_of, tensor_of
from glpn_deploy.scale.triton.names import BUNDLE, IMAGE, PIXELS, SIZE


class TritonPythonModel:
    """As Triton wants it: see https://github.com/triton-inference-server/python_backend."""

    def initialize(self, args: dict[str, str]) -> None:
        """Reads the bundle's settings, which lie beside model.py, for an estimator without a network."""
        settings = Settings(args)
        self._type = settings.output_type()
        bundle = Bundle.open(settings.folder / BUNDLE)
        manifest = bundle.manifest
        self._estimator = DepthEstimator(
            NullRuntime(), bundle.processor, manifest.config.max_depth, Origin.of_manifest(manifest.source)
        )
        self._estimator.images = settings.images

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response a request."""
        return answers(requests, self._answer)

    def _answer(self, request: Any) -> list[Any]:
        estimator = self._estimator
        image = estimator._load(array_of(request, IMAGE).tobytes())
        height, width = image.shape[:2]
        image = resized(image, estimator._shown_size(height, width))
        if self._type == np.uint8:
            pixels: NDArray[Any] = estimator.processor.prepare_bytes(image)
        else:
            pixels = estimator.processor.prepare(image).astype(self._type, copy=False)
        return [tensor_of(PIXELS, pixels[None]), tensor_of(SIZE, np.array([height, width], np.int64))]
