"""What a Triton model repository is told. Light: commands read it for ``--help``."""

from __future__ import annotations

import dataclasses
import os
from functools import partial
from pathlib import Path
from typing import Annotated

from glpn_deploy.errors import InputError
from glpn_deploy.images.options import ImageOptions
from glpn_deploy.options import ADVANCED, SIZE, WORDS, Only, Option, check_options
from glpn_deploy.precisions import Precision
from glpn_deploy.scale.triton.names import MODELS, ModelName

_advanced = partial(Option, panel=ADVANCED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Which models a repository holds, and how Triton runs them.

    Raises:
        InputError: A value is out of range, or two contradict each other.
    """

    models: Annotated[
        tuple[ModelName, ...],
        Option(
            "Which, separated by commas: glpn (an image file in; an ensemble around glpn_net), glpn_raw "
            "(8-bit pixels of one size in), glpn_python (an image file in, for CPUs).",
            reader=WORDS,
        ),
    ] = MODELS
    precision: Annotated[Precision, Option("The bundle's artefact that runs.")] = "fp32"
    shape: Annotated[
        tuple[int, int],
        Option(
            "Size that models are warmed up at, and the only one of glpn_raw and for TensorRT.",
            names=("--size",),
            metavar="HxW",
            reader=SIZE,
        ),
    ] = (480, 640)
    batch: Annotated[int, Option("Most images in one run of the network.", least=1, most=256)] = 8
    instances: Annotated[
        int | None,
        Option(
            "Copies of glpn_python, of one thread each, and of the steps around glpn_net [default: the cores "
            "of this machine].",
            least=1,
            most=256,
        ),
    ] = None
    engine: Annotated[
        Path | None,
        Option("A TensorRT engine of the bundle, which runs in glpn_net instead of the ONNX file."),
    ] = None
    tensorrt_cache: Annotated[
        Path | None,
        Option(
            "Let ONNX Runtime compile the network with TensorRT, and keep the engines in this folder of the "
            "server, to which nobody else may write.",
            metavar="FOLDER",
        ),
    ] = None
    trust_engines: Annotated[
        bool,
        _advanced("Take an engine that was not built on this machine by you: only where you know who did."),
    ] = False
    queue_size: Annotated[
        int, _advanced("Requests that wait for a model; more are refused at once (UNAVAILABLE).", least=1)
    ] = 64
    queue_seconds: Annotated[
        float, _advanced("A request that has waited so long [s] is refused.", above=0)
    ] = 10.0
    queue_delay_ms: Annotated[
        float, _advanced("How long the network waits for a batch to fill [ms].", least=0)
    ] = 1.0
    images: Annotated[ImageOptions, Only(("max_side", "white_point", "max_pixels"))] = ImageOptions()

    def __post_init__(self) -> None:
        check_options(self)
        if not self.models:
            raise InputError("no model is asked for", expected=f"some of {', '.join(MODELS)}")
        if min(self.shape) < 32 or any(side % 32 for side in self.shape):
            raise InputError(
                f"the shape {self.shape[0]}x{self.shape[1]}",
                expected="multiples of 32 px, as the network takes",
            )
        if self.engine is not None and (self.tensorrt_cache is not None or "glpn" not in self.models):
            raise InputError(
                "an engine, and nothing that would run it", expected="the model glpn, without tensorrt_cache"
            )
        seen = self.images.input_size or self.shape
        if self.tensorrt_cache is not None and (self.images.max_side is not None or seen != self.shape):
            raise InputError(
                f"tensorrt_cache, and images that the network sees at other sizes than "
                f"{self.shape[0]}x{self.shape[1]}, for each of which TensorRT would compile anew",
                expected="one size",
                fix="say it with --size, and leave out --max-side",
            )

    @property
    def copies(self) -> int:
        """Instances of the Python models."""
        return self.instances or os.cpu_count() or 1
