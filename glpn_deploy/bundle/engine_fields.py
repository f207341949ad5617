"""What the fields of an engine's sidecar may hold: the file may come from anywhere, and is not trusted."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

from glpn_deploy.decoding import Valid, printable, within

EngineBackend = Literal["tensorrt", "tensorrt_rtx"]
Compatibility = Literal["none", "ampere_plus", "same_compute_capability"]
FORMAT = 1
DEFAULT_LEVEL = 3
"""TensorRT's own builder optimization level."""
MAX_WARNINGS = 256


def _inside(value: str) -> bool:
    pure = PurePosixPath(value)
    return bool(value) and not pure.is_absolute() and ".." not in pure.parts


Text = Annotated[str, printable()]
PathInBundle = Annotated[
    str, printable(r"[^\\:]+", "a path within the bundle"), Valid("a path within the bundle", _inside)
]
FileName = Annotated[str, printable(r"[^\\:/]+", "a file name"), Valid("a file name", _inside)]
Digest = Annotated[str, printable(r"[0-9a-f]{64}", "64 hexadecimal digits")]
TensorType = Annotated[str, printable(r"[a-z0-9]{1,16}", "a type such as fp32")]
TensorRTVersion = Annotated[str, printable(r"\d{1,4}(\.\d{1,6}){1,4}", "a version such as 10.3.0")]
Capability = Annotated[str, printable(r"\d{1,3}\.\d{1,2}", "a compute capability such as 8.7")]
TacticSource = Annotated[str, printable(r"[a-z0-9_]{1,64}", "a tactic source such as cublas")]
FileSize = Annotated[int, within(1, 1 << 40)]
MemorySize = Annotated[int, within(0, 1 << 50)]
Megabytes = Annotated[int, within(1, 1 << 20)]
Level = Annotated[int, within(0, 5)]
Seconds = Annotated[float, within(0, 1e9)]
Meters = Annotated[float, within(1e-6, 1e9)]
