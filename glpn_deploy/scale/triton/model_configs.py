"""The config.pbtxt of every model: https://github.com/triton-inference-server/server, docs/user_guide."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from glpn_deploy.bundle.engine_profile import Profile
from glpn_deploy.scale.triton.config_text import Enum, parameters
from glpn_deploy.scale.triton.names import (
    DEPTH,
    IMAGE,
    NET,
    PIXELS,
    POSTPROCESS,
    PREPROCESS,
    RAW_DEPTH,
    SIZE,
)
from glpn_deploy.scale.triton.options import ServeOptions

Config = dict[str, Any]
ANY = -1
TYPES = {
    "fp32": ("TYPE_FP32", "TYPE_FP32"),
    "fp16": ("TYPE_FP16", "TYPE_FP16"),
    "half": ("TYPE_FP16", "TYPE_FP16"),
    "uint8": ("TYPE_UINT8", "TYPE_FP32"),
}
"""Triton's names of what artefacts and engines of an ``io`` take and give."""
_LATEST = {"latest": {"num_versions": 1}}


@dataclasses.dataclass(frozen=True)
class Network:
    """What glpn_net runs.

    Attributes:
        file: Name of the file: ``model.onnx`` or ``model.plan``.
        io: Type of its input and output, one of `TYPES`; ``uint8`` has the channels last.
        sides: Height and width [px] of its input; -1 for any.
        batch: Most images in one run.
        warm_up: Batch, height and width that it is warmed up at.
        accelerator: Options of ONNX Runtime's TensorRT provider, or none.
    """

    file: str
    io: str
    sides: tuple[int, int]
    batch: int
    warm_up: tuple[int, int, int]
    accelerator: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def shape(self, sides: tuple[int, int]) -> list[int]:
        """Of one image of these sides, as the network takes it."""
        return [*sides, 3] if self.io == "uint8" else [3, *sides]


def network(net: Network, options: ServeOptions, max_depth: float) -> Config:
    """glpn_net: what `Network` says in, raw depth ``(N, h, w)`` [m] out; Triton makes the batches."""
    takes, gives = TYPES[net.io]
    return _runs_file(
        NET,
        net,
        options,
        _tensor(PIXELS, takes, net.shape(net.sides)),
        _tensor(RAW_DEPTH, gives, [ANY, ANY]),
        _warm_up(PIXELS, takes, net.shape(net.warm_up[1:]), net.warm_up[0]),
        max_depth,
    )


def raw(net: Network, options: ServeOptions, max_depth: float, gives: tuple[int, int]) -> Config:
    """glpn_raw: 8-bit RGB ``(N, H, W, 3)`` of one size in, ``(N, h, w)`` [m] out, in batches too."""
    shape = (*net.sides, 3)
    return _runs_file(
        "glpn_raw",
        net,
        options,
        _tensor(IMAGE, "TYPE_UINT8", shape),
        _tensor(DEPTH, "TYPE_FP32", gives),
        _warm_up(IMAGE, "TYPE_UINT8", shape, 1),
        max_depth,
    )


def ensemble(max_depth: float) -> Config:
    """Glpn: an image file's bytes in, ``(H, W)`` [m] at the image's size out, by way of three models."""

    def step(model: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> Config:
        maps = (("input_map", inputs), ("output_map", outputs))
        pairs = {name: [{"key": k, "value": v} for k, v in found.items()] for name, found in maps}
        return {"model_name": model, "model_version": -1, **pairs}

    return {
        "name": "glpn",
        "platform": "ensemble",
        "max_batch_size": 0,
        "input": [_tensor(IMAGE, "TYPE_UINT8", [ANY])],
        "output": [_tensor(DEPTH, "TYPE_FP32", [ANY, ANY])],
        "ensemble_scheduling": {
            "step": [
                step(PREPROCESS, {IMAGE: IMAGE}, {PIXELS: PIXELS, SIZE: SIZE}),
                step(NET, {PIXELS: PIXELS}, {RAW_DEPTH: RAW_DEPTH}),
                step(POSTPROCESS, {RAW_DEPTH: RAW_DEPTH, SIZE: SIZE}, {DEPTH: DEPTH}),
            ]
        },
        "parameters": parameters(_scale(max_depth)),
    }


def preprocess(net: Network, options: ServeOptions) -> Config:
    """The first step of ``glpn``."""
    outputs = [
        _tensor(PIXELS, TYPES[net.io][0], [ANY, *net.shape((ANY, ANY))]),
        _tensor(SIZE, "TYPE_INT64", [2]),
    ]
    return _python(PREPROCESS, [_tensor(IMAGE, "TYPE_UINT8", [ANY])], outputs, options, _images(options))


def postprocess(net: Network, options: ServeOptions) -> Config:
    """The last step of ``glpn``."""
    inputs = [
        _tensor(RAW_DEPTH, TYPES[net.io][1], [ANY, ANY, ANY]),
        _tensor(SIZE, "TYPE_INT64", [2]),
    ]
    return _python(POSTPROCESS, inputs, [_tensor(DEPTH, "TYPE_FP32", [ANY, ANY])], options, {})


def estimator(options: ServeOptions, max_depth: float) -> Config:
    """glpn_python: an image file's bytes in, ``(H, W)`` [m] at the image's size out, one image at a time."""
    told = {
        **_scale(max_depth),
        **_images(options),
        "precision": options.precision,
        "threads": "1",
        "warm_up": "x".join(map(str, options.shape)),
    }
    inputs, outputs = [_tensor(IMAGE, "TYPE_UINT8", [ANY])], [_tensor(DEPTH, "TYPE_FP32", [ANY, ANY])]
    return _python("glpn_python", inputs, outputs, options, told)


def accelerator(options: Mapping[str, Any]) -> dict[str, str]:
    """ONNX Runtime's TensorRT options as Triton's backend reads them."""
    own = {name: value for name, value in options.items() if name != "device_id"}
    return {name: "1" if value is True else str(value) for name, value in own.items()}


def profile(options: ServeOptions) -> Profile:
    """The shapes that TensorRT compiles for, tuned for full batches."""
    return Profile((1, *options.shape), (options.batch, *options.shape), (options.batch, *options.shape))


def _runs_file(
    name: str,
    net: Network,
    options: ServeOptions,
    takes: Config,
    gives: Config,
    warm_up: Config,
    max_depth: float,
) -> Config:
    plan = net.file.endswith(".plan")
    sizes = [2**n for n in range(1, net.batch.bit_length()) if 2**n < net.batch]
    batching = {
        **({"preferred_batch_size": [*sizes, net.batch]} if net.batch > 1 else {}),
        "max_queue_delay_microseconds": round(options.queue_delay_ms * 1e3),
        **_queue(options),
    }
    told = [{"key": key, "value": value} for key, value in net.accelerator.items()]
    tensorrt = [{"name": "tensorrt", "parameters": told}]
    faster = {"optimization": {"execution_accelerators": {"gpu_execution_accelerator": tensorrt}}}
    return {
        "name": name,
        "backend": "tensorrt" if plan else "onnxruntime",
        "default_model_filename": net.file,
        "max_batch_size": net.batch,
        "input": [takes],
        "output": [gives],
        "version_policy": _LATEST,
        # one on every GPU; ONNX Runtime's on the processor where there is none
        "instance_group": [{"kind": Enum("KIND_GPU" if plan else "KIND_AUTO"), "count": 1}],
        "dynamic_batching": batching,
        **(faster if net.accelerator else {}),
        "model_warmup": [warm_up],
        "parameters": parameters(_scale(max_depth)),
    }


def _python(
    name: str,
    inputs: Sequence[Config],
    outputs: Sequence[Config],
    options: ServeOptions,
    told: Mapping[str, str],
) -> Config:
    return {
        "name": name,
        "backend": "python",
        "max_batch_size": 0,
        "input": inputs,
        "output": outputs,
        "version_policy": _LATEST,
        "instance_group": [{"kind": Enum("KIND_CPU"), "count": options.copies}],
        "dynamic_batching": _queue(options),  # makes no batches: max_batch_size is 0
        **({"parameters": parameters(told)} if told else {}),
    }


def _queue(options: ServeOptions) -> Config:
    """Who waits too long, or comes when too many wait, is told so."""
    policy = {
        "timeout_action": Enum("REJECT"),
        "default_timeout_microseconds": round(options.queue_seconds * 1e6),
        "allow_timeout_override": True,
        "max_queue_size": options.queue_size,
    }
    return {"default_queue_policy": policy}


def _tensor(name: str, kind: str, dims: Sequence[int]) -> Config:
    return {"name": name, "data_type": Enum(kind), "dims": list(dims)}


def _warm_up(name: str, kind: str, dims: Sequence[int], batch: int) -> Config:
    value = {"data_type": Enum(kind), "dims": list(dims), "random_data": True}
    return {"name": "profile", "batch_size": batch, "inputs": [{"key": name, "value": value}]}


def _scale(max_depth: float) -> dict[str, str]:
    return {"unit": "metres", "max_depth": f"{max_depth:g}"}


def _images(options: ServeOptions) -> dict[str, str]:
    told = {name: getattr(options.images, name) for name in ("max_side", "input_size", "white_point")}
    given = {name: value for name, value in told.items() if value is not None}
    return {"images": json.dumps({**given, "max_pixels": options.images.max_pixels})}
