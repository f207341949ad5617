"""The Python model glpn_python: an image file's bytes into metres, by a `DepthEstimator` of one thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from glpn_deploy.estimator import DepthEstimator
from glpn_deploy.options import parse_size
from glpn_deploy.precisions import Precision
from glpn_deploy.runtimes.options import BackendName, LoadOptions, RuntimeOptions
from glpn_deploy.scale.triton.backend.tensors import Settings, answers, array_of, log, tensor_of
from glpn_deploy.scale.triton.names import BUNDLE, DEPTH, IMAGE


class TritonPythonModel:
    """As Triton wants it: see https://github.com/triton-inference-server/python_backend."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the bundle beside model.py, and runs it once at the size that is expected."""
        settings = Settings(args)
        options = LoadOptions(
            backend=cast("BackendName", settings.parameter("backend", "auto")),
            precision=cast("Precision", settings.parameter("precision", "fp32")),
            runtime=RuntimeOptions(
                device="cpu",
                mode="worker",
                threads=int(settings.parameter("threads", "1")),
                allow_fallback=True,  # of a precision that this processor has not; the log says so
            ),
            images=settings.images,
        )
        self._estimator = DepthEstimator.open(settings.folder / BUNDLE, options)
        log(f"{settings.name}: {self._estimator.runtime.describe()}")
        self._estimator.warmup(*parse_size("warm_up", settings.parameter("warm_up", "480x640")))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response a request."""
        return answers(requests, self._answer)

    def _answer(self, request: Any) -> list[Any]:
        return [tensor_of(DEPTH, self._estimator(array_of(request, IMAGE).tobytes()).depth)]

    def finalize(self) -> None:
        """Frees what the backend holds."""
        self._estimator.close()
