"""DepthEstimator: an image in, metres out, over every backend."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.bundle.source_files import SourceFiles, changed
from glpn_deploy.checkpoints.card import Origin
from glpn_deploy.depth.depth_map import DepthMap
from glpn_deploy.errors import ConfigError, ImageError, InputError
from glpn_deploy.images.loading import ImageSource, load_image, resized, shrunk_size
from glpn_deploy.images.options import MAX_PIXELS, Channels, ImageOptions, InputSize
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.images.resample import FAR, nearest_to, resize_bicubic, times_trained
from glpn_deploy.options import Auto, Device
from glpn_deploy.precisions import Precision
from glpn_deploy.runtimes.base import Runtime, batch_shape
from glpn_deploy.runtimes.memory import Room
from glpn_deploy.runtimes.options import BackendName, LoadOptions, Mixed, RuntimeKeywords, RuntimeOptions
from glpn_deploy.runtimes.sources import load_source
from glpn_deploy.streaming import OF_ONE_IMAGE, Stages, Streamed, image_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

Item = TypeVar("Item")


class DepthEstimator:
    """Image processor, runtime and post-processing as one callable.

    Usually made by `load`. Use it as a context manager, or call `close`.

    Args:
        runtime: The loaded network.
        processor: Turns images into its input.
        max_depth: The network's scale [m].
        origin: What is known of where the network comes from.

    Attributes:
        images: How images are read and shown to the network.
    """

    images = ImageOptions()
    _files: SourceFiles | None = None
    _options = LoadOptions()
    _told_of_size = False

    def __init__(
        self,
        runtime: Runtime,
        processor: GLPNImageProcessor,
        max_depth: float,
        origin: Origin = Origin(),  # noqa: B008 - frozen
    ) -> None:
        multiple = runtime.spec.size_multiple
        if processor.size_divisor % multiple:
            raise ConfigError(
                f"the image processor's size_divisor is {processor.size_divisor}",
                expected=f"a multiple of {multiple}, which the network's sides must be",
            )
        if runtime.spec.dtype == "uint8":
            processor.require_plain("the network divides 8-bit images by 255 itself")
        if runtime.spec.channels != 3:
            raise ConfigError(f"the network takes {runtime.spec.channels} channels", expected="3 (RGB)")
        self.runtime, self.processor, self.max_depth, self.origin = runtime, processor, max_depth, origin
        self._room = Room(runtime)

    @classmethod
    def load(
        cls,
        source: str | Path,
        backend: Auto | BackendName = "auto",
        precision: Auto | Precision | Mixed = "auto",
        device: Device = "auto",
        *,
        offline: bool = False,
        measure: bool = False,
        cache: str | Path | None = None,
        max_depth: float | None = None,
        max_side: int | None = None,
        input_size: InputSize | None = None,
        white_point: float | None = None,
        max_pixels: int = MAX_PIXELS,
        channels: Channels = "rgb",
        **runtime: Unpack[RuntimeKeywords],
    ) -> DepthEstimator:
        """Loads anything that holds a GLPN network.

        Args:
            source: Bundle folder, ``.onnx`` or ``.engine`` file, checkpoint folder, ``.ckpt``, a folder with
                ``model.onnx`` or ``onnx/model.onnx`` beside its ``config.json``, hub id of any of these, or
                ``"demo"`` for the small checkpoint that comes with the package (a folder of that name is
                ``./demo``).
            backend: ``onnxruntime``, ``openvino``, ``tensorrt`` or ``torch``; ``auto`` takes torch
                for checkpoints, TensorRT for engines, and for bundles and ``.onnx`` files what
                `glpn_deploy.runtimes.choose` expects to be the fastest of those installed: a bundle's
                engines where they were built for this GPU, with an ONNX runtime for the shapes that none of
                them takes. With ``tensorrt`` such shapes are refused. What ``glpn-bench --remember`` found of
                a bundle's network here comes first. ``runtime.why`` says why.
            precision: ``fp32`` and so on; ``auto`` takes FP32, the reference's, for bundles (or what
                ``glpn-bench --remember --within`` found for this one) and the file's own for ``.onnx`` and
                ``.engine`` files. OpenVINO runs bf16 and fp16 from the FP32 file, and ``int8+bf16``, where
                BF16 is what INT8 leaves. What cannot be had by name is refused, without
                ``allow_fallback=True``.
            device: ``cpu``, ``cuda``, or ``auto`` for the GPU where the backend finds one.
            offline: Use the hub's cache only.
            measure: With backend ``auto``, time the installed backends on the first batch and keep the
                fastest for as long as the estimator lives.
            cache: Folder for compiled networks, for a faster second start; None keeps none.
            max_depth: The network's scale [m], for an ``.onnx`` file of other software that does not say it;
                without, the ``config.json`` beside the file (or beside its folder ``onnx``) has to.
            max_side: Shrink larger images to this longer side [px] for the network; depth has their own size.
            input_size: Show the network every image at this height and width [px], instead; ``auto`` near the
                size that it was trained at, in the image's shape, ``own`` at the image's. None: ``auto`` for
                networks that were trained on one kind of image (``origin.trained_on``), else ``own``.
            white_point: Value of white in 16-bit or float images, as 4095 for 12 bits.
            max_pixels: Larger images are refused.
            channels: Order of the channels of numpy arrays; ``bgr`` for OpenCV's.
            runtime: ``threads``, ``provider`` and so on: see `RuntimeOptions`.

        Raises:
            GlpnError: The source is nothing that can be loaded, is damaged, or cannot run here.
        """
        folder = None if cache is None else Path(cache)
        options = LoadOptions(
            backend=backend,
            precision=precision,
            runtime=RuntimeOptions(device=device, cache=folder, **runtime),
            measure=measure,
            offline=offline,
            max_depth=max_depth,
            images=ImageOptions(
                max_side=max_side,
                input_size=input_size,
                white_point=white_point,
                max_pixels=max_pixels,
                channels=channels,
            ),
        )
        return cls.open(source, options)

    @classmethod
    def open(cls, source: str | Path, options: LoadOptions) -> DepthEstimator:
        """`load` with all options in one object.

        Raises:
            GlpnError: As `load`.
        """
        loaded = load_source(source, options)
        estimator = cls(loaded.runtime, loaded.processor, loaded.max_depth, loaded.origin)
        estimator._files = loaded.files
        estimator.images = options.images
        estimator._options = options
        if options.images.input_size == "auto":
            estimator.network_size(480, 640)  # says what is not known, before the work
        return estimator

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle, spawned processes and `copy.deepcopy`: the copy loads the same files anew.

        Raises:
            InputError: It was not made by `load`, so that nobody knows from what.
            BundleError: Its files were changed since.
        """
        if self._files is None:
            raise InputError(
                "an estimator that was put together by hand cannot be pickled or copied",
                expected="one that DepthEstimator.load made, which a copy can load anew",
            )
        state = {"images": self.images, "processor": self.processor}
        return _load_again, (type(self), self._files.source, self._options, self._files.digest(), state)

    def warmup(self, height: int, width: int, batch: int = 1) -> None:
        """Does beforehand what the first images of a size would pay for, from compiling to CUDA graphs.

        After it the first call with images of this size compiles nothing.

        Args:
            height: Of the images to come [px].
            width: Of the images to come [px].
            batch: How many of them enter the network at once: 1 for calls and streams, `predict`'s
                ``batch_size``; a network of a fixed or largest batch size keeps to its own.

        Raises:
            InputError: A size is below 1, or one that the network does not take.
            BackendError: The backend failed, or is closed.
        """
        if min(height, width, batch) < 1:
            raise InputError(
                f"a warm-up for {batch} images of {height}x{width}", expected="at least 1 of each"
            )
        image = np.full((height, width, 3), 128, np.uint8)
        pixels = [self._prepare(image)]
        pixel_values = self._batch(pixels * min(batch, self._batch_limit(batch)))
        with self._room.of_run(batch_shape(pixel_values), image):
            raw = self.runtime.warm_up(pixel_values)
        resize_bicubic(raw[0], (height, width))

    def __call__(self, image: ImageSource) -> DepthMap:
        """Depth of one image (path, a file's bytes, PIL image or RGB array) at its own size, in metres."""
        return self.predict([image])[0]

    def __repr__(self) -> str:
        run = self.runtime
        return f"DepthEstimator({run.backend} in {run.precision} on {run.device}, to {self.max_depth:g} m)"

    @overload
    def predict(
        self,
        images: Sequence[ImageSource],
        batch_size: int | None = None,
        *,
        on_error: Literal["raise"] = ...,
    ) -> list[DepthMap]: ...

    @overload
    def predict(
        self, images: Sequence[ImageSource], batch_size: int | None = None, *, on_error: Literal["skip"]
    ) -> list[DepthMap | ImageError]: ...

    def predict(
        self,
        images: Sequence[ImageSource],
        batch_size: int | None = None,
        *,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> Sequence[DepthMap | ImageError]:
        """Depth of several images, each at its own size, in metres, in the order given.

        All maps are in memory in the end; `stream` hands them out as they come.

        Args:
            images: Paths, files' bytes, PIL images or numpy arrays ``(H, W, 3)`` / ``(H, W)``; sizes may
                differ. Arrays are RGB; for OpenCV's BGR load with ``channels="bgr"``.
            batch_size: As in `stream`; 4 on a GPU where left out, 1 on a CPU, which gains nothing by more.
            on_error: ``skip`` gives the error of an image that cannot be used in its map's place.

        Raises:
            ImageError: An image cannot be used; says which.
            InputError: ``images`` is one image, or the batch size is below 1.
        """
        if isinstance(images, (str, Path, bytes, np.ndarray)) or not isinstance(images, Sequence):
            raise InputError(f"predict was given a {type(images).__name__}", expected="a list of images")
        if on_error not in ("raise", "skip"):
            raise InputError(f"on_error is {on_error!r}", expected="raise or skip")
        if batch_size is None:
            batch_size = 1 if self.runtime.device == "cpu" else 4
        found = self._stages().stream(
            images,
            lambda image: image,
            read_ahead=len(images) > 1,  # its threads would only add to the time of one
            limit=self._batch_limit(batch_size),
            caught=OF_ONE_IMAGE if on_error == "skip" else (),
        )
        return [result.error or result.depth_map for result in found]

    def stream(
        self,
        items: Iterable[Item],
        image_of: Callable[[Item], ImageSource] = image_of,
        *,
        read_ahead: bool = True,
        batch_size: int = 1,
    ) -> Generator[Streamed[Item], None, None]:
        """Depth of one image after the other, in order, while the caller works on the ones before.

        Reading, the network and enlarging each have a thread: while the caller has one image, the next is
        enlarged, one is in the network and one is read; at most four (or batches) are in memory. With
        ``mode="throughput"`` as many are in the network as it has threads.

        Args:
            items: Images (paths, PIL images, numpy arrays), or objects with an image in their attribute
                ``image`` and anything else beside it (a `glpn_deploy.video` frame, say).
            image_of: Finds an item's image elsewhere.
            read_ahead: False takes an item only when the one before is done: for a camera, whose frames
                get old while they wait. Batches are then of one image.
            batch_size: Most images that enter the network together, which pays on a GPU. Those of equal size
                there share a batch and still come in order. A network of a fixed or largest batch size keeps
                to its own.

        Yields:
            Every item with its image and depth map, or with the error of an image that cannot be used, be it
            that the backend fails on it.

        Raises:
            InputError: The batch size is below 1.
            Exception: What the items' own iterator raises; images that were read by then are not handed out.
        """
        limit = self._batch_limit(batch_size)
        return self._stages().stream(
            items, image_of, read_ahead=read_ahead, limit=limit if read_ahead else 1, caught=OF_ONE_IMAGE
        )

    def _stages(self) -> Stages:
        return Stages(self._load, self._prepare, self._run, self.max_depth, self.runtime.at_once)

    def _prepare(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        """One image as the network takes it: (3, H, W) float32, or (H, W, 3) uint8."""
        shown = resized(image, self._shown_size(*image.shape[:2]))
        if self.runtime.spec.dtype == "uint8":
            return self.processor.prepare_bytes(shown)
        return self.processor.prepare(shown)

    def _batch_limit(self, batch_size: int) -> int:
        """Most images that enter the network together, where a caller asks for ``batch_size``."""
        if not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(f"a batch size of {batch_size!r}", expected="a whole number, at least 1")
        spec = self.runtime.spec
        return spec.batch or min(batch_size, spec.max_batch or batch_size)

    def _run(self, source: ImageSource, pixels: list[NDArray[Any]]) -> NDArray[np.float32]:
        batch = self._batch(pixels)
        with self._room.of_run(batch_shape(batch), source):
            return self.runtime.run(batch)

    def _batch(self, pixels: list[NDArray[Any]]) -> NDArray[Any]:
        """A batch of prepared images of one size; a fixed one is filled up with the first."""
        missing = (self.runtime.spec.batch or len(pixels)) - len(pixels)
        prepared = pixels + pixels[:1] * missing
        return prepared[0][None] if len(prepared) == 1 else np.stack(prepared)

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width [px] at which the network sees an image of a height and width [px]."""
        return self.processor.target_size(*self._shown_size(height, width))

    def _shown_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width [px] at which an image is shown to the processor."""
        asked, trained, divisor = self.images, self.origin.train_size, self.processor.size_divisor
        if asked.max_side is not None:
            return shrunk_size(height, width, asked.max_side, divisor)
        if isinstance(asked.input_size, tuple):
            return asked.input_size
        spec = self.runtime.spec
        by_choice = asked.input_size == "auto"
        if trained is None or asked.input_size == "own" or not (spec.height is None and spec.width is None):
            if by_choice:
                raise InputError(
                    "input_size auto, and nothing says at which size this network was trained"
                    if trained is None
                    else "input_size auto for a network of one size",
                    expected="a size such as 480x640, or own",
                    fix="--size 480x640 (input_size=(480, 640))",
                )
            return height, width
        if by_choice or self.origin.trained_on is not None:
            return nearest_to(trained, height, width, divisor)
        times = times_trained(trained, height, width)
        if not 1 / FAR <= times <= FAR and not self._told_of_size:
            self._told_of_size = True
            warnings.warn(
                f"An image of {height}x{width} px has {times:.2g} times the sides that the network was "
                f"trained at ({trained[0]}x{trained[1]}), and depth changes with size: --size auto "
                "(input_size='auto') shows it near that size, --size own as it is.",
                stacklevel=2,
            )
        return height, width

    def _load(self, source: ImageSource) -> NDArray[np.uint8]:
        asked = self.images
        return load_image(
            source, max_pixels=asked.max_pixels, white_point=asked.white_point, channels=asked.channels
        )

    def close(self) -> None:
        """Frees what the backend holds."""
        self.runtime.close()

    def __enter__(self) -> DepthEstimator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _load_again(
    kind: type[DepthEstimator], source: Path, options: LoadOptions, digest: str, state: dict[str, Any]
) -> DepthEstimator:
    """What a copy of an estimator is made by, in whichever process."""
    if not source.exists():
        raise changed(source)
    estimator = kind.open(source, options)
    if estimator._files is None or estimator._files.digest() != digest:
        estimator.close()
        raise changed(source)
    vars(estimator).update(state)
    return estimator
