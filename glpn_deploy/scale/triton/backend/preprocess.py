"""The Python model glpn_preprocess: an image file's bytes into the network's input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.images.loading import load_image, resized, shown_size
from glpn_deploy.images.processing import load_processor
from glpn_deploy.scale.triton.backend.tensors import Settings, answers, array_of, tensor_of
from glpn_deploy.scale.triton.names import IMAGE, PIXELS, SIZE


class TritonPythonModel:
    """As Triton wants it: see https://github.com/triton-inference-server/python_backend."""

    def initialize(self, args: dict[str, str]) -> None:
        """Reads the processor's settings, which lie beside model.py."""
        settings = Settings(args)
        self._images, self._type = settings.images, settings.output_type()
        self._processor = load_processor(settings.folder)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response a request."""
        return answers(requests, self._answer)

    def _answer(self, request: Any) -> list[Any]:
        options = self._images
        image = load_image(
            array_of(request, IMAGE).tobytes(), max_pixels=options.max_pixels, white_point=options.white_point
        )
        height, width = image.shape[:2]
        shown = shown_size(height, width, options, self._processor.size_divisor)
        image = resized(image, shown)
        if self._type == np.uint8:
            pixels: NDArray[Any] = self._processor.prepare_bytes(image)
        else:
            pixels = self._processor.prepare(image).astype(self._type, copy=False)
        return [tensor_of(PIXELS, pixels[None]), tensor_of(SIZE, np.array([height, width], np.int64))]
