"""Options that several commands share, with their help."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

BackendOption = Annotated[
    str,
    typer.Option(
        help="onnxruntime, openvino, tensorrt, torch or null; auto takes what is expected to be the fastest "
        "of those that can run here, and says why."
    ),
]
MeasureOption = Annotated[
    bool,
    typer.Option("--measure", help="With --backend auto, time the backends on the first batch instead."),
]
CacheOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Keep compiled networks in this folder, for a faster second start (OpenVINO, up to 2 GiB; ONNX "
        "Runtime's TensorRT provider) [default: keep none].",
    ),
]
ProviderOption = Annotated[
    Literal["auto", "cuda", "tensorrt"],
    typer.Option(
        help="What ONNX Runtime runs with on a GPU. tensorrt builds engines of its own, which takes minutes: "
        "keep them with --cache, or use glpn-build and --backend tensorrt."
    ),
]
CompileOption = Annotated[
    Literal["no", "default", "max-autotune"],
    typer.Option(help="Run a checkpoint through torch.compile, which takes a while at every new size."),
]
RestOption = Annotated[
    Literal["fp32", "bf16"],
    typer.Option(
        help="With --precision int8: what the layers that are not quantised compute in; bf16 is faster on "
        "processors that have it (OpenVINO)."
    ),
]
PrecisionOption = Annotated[
    Literal["auto", "fp32", "fp16", "bf16", "int8", "fp8"],
    typer.Option(help="Precision to run in: the artefact's; OpenVINO needs none of its own for bf16, fp16."),
]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option(help="Where to run; auto takes the GPU where the backend finds one."),
]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="Threads within one operator [default: the backend's].")
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Use the hub's cache only.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object to standard output.")]


def parse_size(option: str, text: str) -> tuple[int, int]:
    """``HEIGHTxWIDTH`` as (height, width) [px].

    Raises:
        InputError: The text is something else.
    """
    from glpn_deploy.errors import InputError

    found = re.fullmatch(r"(\d{1,5})[xX×](\d{1,5})", text.strip())
    if not found:
        raise InputError(
            f"{option} {text!r}", expected="height x width in pixels", fix=f"write {option} 192x256"
        )
    return int(found[1]), int(found[2])
