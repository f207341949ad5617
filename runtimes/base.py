"""The contract of every backend: one float32 batch in, one float32 batch of depths out."""

from __future__ import annotations

import abc
import dataclasses
import os
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.errors import BackendError, InputError
from glpn_deploy.options import Device
from glpn_deploy.precisions import PRECISIONS, Precision
from glpn_deploy.runtimes.options import Compile, FallbackPrecision, Mode, Provider, RuntimeOptions

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "PRECISIONS",
    "Compile",
    "Device",
    "FallbackPrecision",
    "InputSpec",
    "Mode",
    "Precision",
    "Provider",
    "Reason",
    "Runtime",
    "RuntimeOptions",
]
InputType = Literal["float32", "uint8"]
_BYTE_ROUNDING = 1e-3
"""How far 255 x may be from a whole number for x to be a byte's share of white; float32 rounds by 3e-5."""
_ROUNDING = 0.01  # of max_depth; coarser than what FP16, BF16 and INT8 round a sigmoid's ends by
_FAR = 1e6  # m, where the file does not say its scale


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputSpec:
    """The shapes a runtime takes.

    Attributes:
        channels: Channels of the image.
        size_multiple: Heights and widths are multiples of this [px].
        batch: Fixed batch size, or None.
        height: Fixed height [px], or None.
        width: Fixed width [px], or None.
        max_batch: Largest batch that every size may have, or None where there is no limit.
        dtype: What the file takes: ``float32``, ``(N, channels, H, W)`` from 0 to 1 (float16 files are given
            it, too), or ``uint8``, images as they are, ``(N, H, W, channels)``.
    """

    channels: int = 3
    size_multiple: int = 32
    batch: int | None = None
    height: int | None = None
    width: int | None = None
    max_batch: int | None = None
    dtype: InputType = "float32"

    def check(self, pixel_values: NDArray[Any]) -> NDArray[Any]:
        """Returns the batch as the file takes it, contiguous.

        A file that takes bytes is given float32 batches as well, where these are bytes divided by 255: so
        that one batch can be shown to several files. Turning them back takes longer than bytes save.

        Raises:
            InputError: Not such an array, or not of sizes this runtime takes.
        """
        taken = self._typed(pixel_values)
        self._check_sizes(batch_shape(taken))
        return np.ascontiguousarray(taken)

    def _typed(self, pixel_values: NDArray[Any]) -> NDArray[Any]:
        """The batch in the file's type and layout.

        Raises:
            InputError: It is in none that the file takes.
        """
        floats, images = f"float32 (N, {self.channels}, H, W)", f"uint8 (N, H, W, {self.channels})"
        expected = floats if self.dtype == "float32" else f"{images}, or {floats}"
        if not isinstance(pixel_values, np.ndarray):
            raise InputError(
                f"pixel_values is a {type(pixel_values).__name__}", expected=f"a numpy array {expected}"
            )
        if pixel_values.dtype not in (np.float32, self.dtype):
            raise InputError(f"pixel_values has dtype {pixel_values.dtype}", expected=expected)
        shape, axis = pixel_values.shape, 3 if pixel_values.dtype == np.uint8 else 1
        if pixel_values.ndim != 4 or shape[axis] != self.channels or shape[0] == 0:
            raise InputError(f"pixel_values has shape {shape}", expected=expected)
        return pixel_values if pixel_values.dtype == self.dtype else _as_bytes(pixel_values)

    def _check_sizes(self, shape: tuple[int, int, int]) -> None:
        for name, size in zip(("height", "width"), shape[1:], strict=True):
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
            shape,
            strict=True,
        )
        for name, want, size in fixed:
            if want is not None and size != want:
                raise InputError(
                    f"the input's {name} is {size}", expected=f"{want}, the only one that this file takes"
                )

    def images_shape(self, shape: tuple[int, ...]) -> tuple[int, int, int] | None:
        """Images, height and width of an input tensor of this shape; None where it is no batch of images."""
        axis = 3 if self.dtype == "uint8" else 1
        if len(shape) != 4 or shape[axis] != self.channels:
            return None
        batch, height, width = (*shape[:axis], *shape[axis + 1 :])
        return batch, height, width

    def tensor_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int, int]:
        """The input tensor's shape for images, height and width."""
        batch, height, width = shape
        if self.dtype == "uint8":
            return batch, height, width, self.channels
        return batch, self.channels, height, width


def batch_shape(pixel_values: NDArray[Any]) -> tuple[int, int, int]:
    """Images, height and width of a batch: bytes have their channels last."""
    shape = pixel_values.shape
    height, width = shape[1:3] if pixel_values.dtype == np.uint8 else shape[2:]
    return shape[0], height, width


def _as_bytes(pixel_values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """``(N, 3, H, W)`` from 0 to 1 as the bytes ``(N, H, W, 3)`` that it was made of.

    Raises:
        InputError: It was made of something else.
    """
    scaled = pixel_values.transpose(0, 2, 3, 1) * np.float32(255)
    images = np.rint(np.clip(scaled, 0, 255))
    if not float(np.abs(scaled - images).max()) <= _BYTE_ROUNDING:  # NaN is caught as well
        raise InputError(
            "pixel_values is float32 and no 8-bit image divided by 255, and the file takes 8-bit images",
            expected="uint8 (N, H, W, 3)",
        )
    taken: NDArray[np.uint8] = images.astype(np.uint8)
    return taken


@dataclasses.dataclass(frozen=True)
class Reason:
    """Why something is not as it was asked for, or why ``auto`` took this.

    Attributes:
        text: A clause for people.
        of_choice: Whether it says why this backend was taken among several.
        unmet: Whether it says that another precision is computed in than the artefact or the options name.
    """

    text: str
    of_choice: bool = False
    unmet: bool = False


class Runtime(abc.ABC):
    """One loaded network on one backend. Use it as a context manager, or call `close`.

    Attributes:
        backend: ``torch``, ``onnxruntime``, ``null`` and so on.
        device: What it runs on, as the backend calls it (``cpu``, ``cuda:0``).
        precision: What it computes in.
        spec: The shapes it takes.
        max_depth: The network's scale [m], or None where the artefact does not say.
        reasons: Why this backend was taken, or another precision than asked for; empty where it is as asked.
        at_once: Runs that several threads had best start at the same time; more than 1 in
            ``mode="throughput"``.
    """

    backend: str
    device: str
    precision: Precision
    spec: InputSpec
    max_depth: float | None = None
    reasons: tuple[Reason, ...] = ()
    at_once = 1
    _closed = False
    _process: int

    def __new__(cls, *arguments: Any, **keywords: Any) -> Any:
        """Takes note of the process it is made in."""
        runtime = super().__new__(cls)
        runtime._process = os.getpid()
        return runtime

    @property
    def forked(self) -> bool:
        """Whether this process was forked from the one that loaded it, as gunicorn's --preload does."""
        return self._process != os.getpid()

    def run(self, pixel_values: NDArray[Any]) -> NDArray[np.float32]:
        """Runs one batch.

        Args:
            pixel_values: ``(N, 3, H, W)`` float32, 0 to 1, sides multiples of ``spec.size_multiple``; where
                ``spec.dtype`` is ``uint8``, images as they are, ``(N, H, W, 3)`` uint8.

        Returns:
            ``(N, H, W)`` float32, metres; a new array that stays valid.

        Raises:
            InputError: The array is not one this runtime takes.
            BackendError: The backend failed, or is closed, or gave something else than a depth for every
                pixel.
        """
        depth = self.run_unchecked(pixel_values)
        self._check_depth(depth, batch_shape(pixel_values))
        return depth

    def run_unchecked(self, pixel_values: NDArray[Any]) -> NDArray[np.float32]:
        """As `run`, but whatever comes out is returned: for those who measure how wrong it is."""
        return self._infer(self._checked(pixel_values))

    def _checked(self, pixel_values: NDArray[Any]) -> NDArray[Any]:
        """A batch that this runtime takes now, in the file's type."""
        if self._closed:
            raise BackendError(f"the {self.backend} runtime is closed", fix="load it again")
        if self.forked and self.device != "cpu":
            raise BackendError(
                f"the {self.backend} runtime was loaded on {self.device} before this process was forked, "
                "which CUDA does not survive",
                fix="load it in each worker, after the fork (gunicorn: without --preload, or in post_fork)",
            )
        return self.spec.check(pixel_values)

    def warm_up(self, pixel_values: NDArray[Any]) -> NDArray[np.float32]:
        """As `run_unchecked`, and does beforehand all that the first runs of a shape otherwise pay for.

        After it nothing is compiled, captured or measured for this shape as long as others do not displace
        it.
        """
        return self.run_unchecked(pixel_values)

    def _check_depth(self, depth: NDArray[np.float32], shape: tuple[int, ...]) -> None:
        """Refuses what is no depth: GLPN's is a sigmoid times ``max_depth``, so from 0 to ``max_depth``."""
        fix = "do not use this file; glpn-verify compares a bundle with its reference"
        if depth.shape != shape:
            raise BackendError(
                f"the network gave an output of shape {depth.shape} on {self.backend}",
                expected=f"one depth a pixel, {shape}",
                fix=fix,
            )
        low, high = float(depth.min()), float(depth.max())  # NaN where any pixel is NaN
        most = _FAR if self.max_depth is None else self.max_depth
        slack = _ROUNDING * most
        if not (-slack <= low and high <= most + slack):
            raise BackendError(
                f"the network gave depths from {low:g} to {high:g} m on {self.backend} ({self.precision})",
                expected=f"finite ones from 0 to {most:g} m",
                fix=fix,
            )

    @abc.abstractmethod
    def _infer(self, pixel_values: NDArray[Any]) -> NDArray[np.float32]:
        """Runs a batch that has been checked, in the file's type."""

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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
