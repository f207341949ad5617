"""The contract of every backend: one float32 batch in, one float32 batch of depths out."""

from __future__ import annotations

import abc
import dataclasses
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.bundle.engine_profile import Profile
from glpn_deploy.errors import BackendError, InputError
from glpn_deploy.precisions import PRECISIONS as PRECISIONS
from glpn_deploy.precisions import Precision as Precision

Device = Literal["auto", "cpu", "cuda"]
Mode = Literal["latency", "throughput"]
Provider = Literal["auto", "cuda", "tensorrt"]
Compile = Literal["no", "default", "max-autotune"]
Rest = Literal["fp32", "bf16"]


@dataclasses.dataclass(frozen=True)
class RuntimeOptions:
    """How a runtime shall run.

    Attributes:
        device: ``auto`` takes the GPU where the backend finds one.
        precision: Precision of the computation; the artefact's own for files.
        threads: Threads within one operator; None leaves the backend's default.
        mode: ``latency`` gives every run all threads; ``throughput`` splits them among runs that several
            threads of the program start at the same time. OpenVINO only; the others do the first.
        cache: Folder for compiled networks, for a faster second start; None keeps none. OpenVINO, and the
            engines of ONNX Runtime's TensorRT provider. Others must not be able to write to it.
        rest: What the layers of an INT8 graph that are not quantized compute in. OpenVINO only, the
            others take FP32.
        provider: Which of ONNX Runtime's execution providers runs on the GPU. ``auto`` is CUDA where there
            is one, else the CPU; ``tensorrt`` has to be asked for, since building its engines takes minutes.
        profile: The shapes that the TensorRT provider builds its engine for; without one it builds for
            the first shape it meets, and again, over the wider range, for every shape outside.
        compile: torch only: ``default`` and ``max-autotune`` are `torch.compile`'s modes, which compile at
            the first batch of a new shape.

    Raises:
        InputError: A value is none of these, or two contradict each other.
    """

    device: Device = "auto"
    precision: Precision = "fp32"
    threads: int | None = None
    mode: Mode = "latency"
    cache: Path | None = None
    rest: Rest = "fp32"
    provider: Provider = "auto"
    profile: Profile | None = None
    compile: Compile = "no"

    def __post_init__(self) -> None:
        if self.device not in get_args(Device):
            raise InputError(f"device {self.device!r}", expected=f"one of {', '.join(get_args(Device))}")
        if self.precision not in PRECISIONS:
            raise InputError(f"precision {self.precision!r}", expected=f"one of {', '.join(PRECISIONS)}")
        if self.threads is not None and self.threads < 1:
            raise InputError(f"{self.threads} threads", expected="at least 1")
        if self.mode not in get_args(Mode):
            raise InputError(f"mode {self.mode!r}", expected=f"one of {', '.join(get_args(Mode))}")
        if self.rest not in get_args(Rest):
            raise InputError(f"rest {self.rest!r}", expected=f"one of {', '.join(get_args(Rest))}")
        if self.provider not in get_args(Provider):
            raise InputError(
                f"provider {self.provider!r}", expected=f"one of {', '.join(get_args(Provider))}"
            )
        if self.provider != "auto" and self.device == "cpu":
            raise InputError(f"provider {self.provider} on device cpu", expected='device="auto" or "cuda"')
        if self.compile not in get_args(Compile):
            raise InputError(f"compile {self.compile!r}", expected=f"one of {', '.join(get_args(Compile))}")


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """The shapes a runtime takes.

    Attributes:
        channels: Channels of the image.
        size_multiple: Heights and widths are multiples of this [px].
        batch: Fixed batch size, or None.
        height: Fixed height [px], or None.
        width: Fixed width [px], or None.
        max_batch: Largest batch that every size may have, or None where there is no limit.
    """

    channels: int = 3
    size_multiple: int = 32
    batch: int | None = None
    height: int | None = None
    width: int | None = None
    max_batch: int | None = None

    def check(self, pixel_values: NDArray[Any]) -> NDArray[np.float32]:
        """Returns the batch as it is, contiguous.

        Raises:
            InputError: Not a float32 array ``(N, channels, H, W)`` of sizes this runtime takes.
        """
        expected = f"float32 (N, {self.channels}, H, W)"
        if not isinstance(pixel_values, np.ndarray):
            raise InputError(
                f"pixel_values is a {type(pixel_values).__name__}", expected=f"a numpy array {expected}"
            )
        if pixel_values.dtype != np.float32:
            raise InputError(f"pixel_values has dtype {pixel_values.dtype}", expected=expected)
        shape = pixel_values.shape
        if pixel_values.ndim != 4 or shape[1] != self.channels or shape[0] == 0:
            raise InputError(f"pixel_values has shape {shape}", expected=expected)
        for name, size in zip(("height", "width"), shape[2:], strict=True):
            if size == 0 or size % self.size_multiple:
                nearest = max(1, size // self.size_multiple) * self.size_multiple
                raise InputError(
                    f"the input's {name} is {size} px",
                    expected=f"a multiple of {self.size_multiple} px",
                    fix=f"resize it to {nearest} px, as GLPNImageProcessor does",
                )
        fixed = zip(
            ("batch", "height", "width"),
            (self.batch, self.height, self.width),
            (shape[0], *shape[2:]),
            strict=True,
        )
        for name, want, size in fixed:
            if want is not None and size != want:
                raise InputError(
                    f"the input's {name} is {size}", expected=f"{want}, the only one that this file takes"
                )
        return np.ascontiguousarray(pixel_values)


@dataclasses.dataclass(frozen=True)
class Reason:
    """Why something is not as it was asked for, or why ``auto`` took this.

    Attributes:
        text: A clause for people.
        of_choice: Whether it says why this backend was taken among several.
    """

    text: str
    of_choice: bool = False


class Runtime(abc.ABC):
    """One loaded network on one backend. Use it as a context manager, or call `close`.

    Attributes:
        backend: ``torch``, ``onnxruntime``, ``null`` and so on.
        device: What it runs on, as the backend calls it (``cpu``, ``cuda:0``).
        precision: What it computes in.
        spec: The shapes it takes.
        max_depth: The network's scale [m], or None where the artefact does not say.
        reasons: Why this backend was taken, or another precision than asked for; empty where it is as asked.
    """

    backend: str
    device: str
    precision: Precision
    spec: InputSpec
    max_depth: float | None = None
    reasons: tuple[Reason, ...] = ()
    _closed = False

    def run(self, pixel_values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Runs one batch.

        Args:
            pixel_values: ``(N, 3, H, W)`` float32, 0 to 1, sides multiples of ``spec.size_multiple``.

        Returns:
            ``(N, H, W)`` float32, metres; a new array that stays valid.

        Raises:
            InputError: The array is not one this runtime takes.
            BackendError: The backend failed, or is closed.
        """
        if self._closed:
            raise BackendError(f"the {self.backend} runtime is closed", fix="load it again")
        return self._infer(self.spec.check(pixel_values))

    @abc.abstractmethod
    def _infer(self, pixel_values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Runs a batch that has been checked."""

    def close(self) -> None:
        """Frees what the backend holds; the runtime cannot run afterwards."""
        if not self._closed:
            self._closed = True
            self._free()

    def _free(self) -> None:  # noqa: B027 - a backend without resources has nothing to free
        """Lets go of the backend's resources, once."""

    @property
    def why(self) -> str:
        """The reasons as one text; empty where there is none."""
        return "; ".join(reason.text for reason in self.reasons)

    def describe(self) -> dict[str, Any]:
        """Backend, device and precision, and why these where they were not asked for; for reports."""
        about = {"backend": self.backend, "device": self.device, "precision": self.precision}
        return about | ({"why": self.why} if self.why else {})

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
