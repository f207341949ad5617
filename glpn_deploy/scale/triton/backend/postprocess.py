"""The Python model glpn_postprocess: the network's depth at the image's own size, in metres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from glpn_deploy.images.resample import resize_bicubic
from glpn_deploy.scale.triton.backend.tensors import answers, array_of, tensor_of
from glpn_deploy.scale.triton.names import DEPTH, RAW_DEPTH, SIZE


class TritonPythonModel:
    """As Triton wants it: see https://github.com/triton-inference-server/python_backend."""

    def initialize(self, args: dict[str, str]) -> None:
        """There is nothing to read."""

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response a request."""
        return answers(requests, self._answer)

    def _answer(self, request: Any) -> list[Any]:
        (raw,) = array_of(request, RAW_DEPTH)
        height, width = array_of(request, SIZE)
        return [tensor_of(DEPTH, resize_bicubic(raw.astype(np.float32, copy=False), (height, width)))]
