"""DepthEstimator: an image in, metres out, over every backend."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.bundle.engine_sidecar import ENGINES, bundle_engines, read_sidecar
from glpn_deploy.bundle.manifest import MANIFEST
from glpn_deploy.bundle.source_files import SourceFiles, changed
from glpn_deploy.checkpoints.card import Origin, read_card
from glpn_deploy.checkpoints.hub import has_weights, is_demo, is_hub_id, resolve_checkpoint
from glpn_deploy.depth.depth_map import DepthMap
from glpn_deploy.errors import (
    BackendError,
    BundleError,
    ConfigError,
    EngineError,
    GlpnError,
    ImageError,
    InputError,
    UnavailableError,
)
from glpn_deploy.images.loading import ImageSource, load_image, resized, shrunk_size
from glpn_deploy.images.options import MAX_PIXELS, Channels, ImageOptions, InputSize
from glpn_deploy.images.processing import GLPNImageProcessor, load_processor
from glpn_deploy.images.resample import FAR, nearest_to, resize_bicubic, times_trained
from glpn_deploy.options import Auto, Device
from glpn_deploy.pipeline import ahead, grouped, in_order
from glpn_deploy.precisions import Precision
from glpn_deploy.runtimes import choose
from glpn_deploy.runtimes.base import Reason, Runtime, batch_shape
from glpn_deploy.runtimes.memory import attention_bytes, available_memory
from glpn_deploy.runtimes.onnx_file.artefact_file import load_artefact
from glpn_deploy.runtimes.onnx_file.foreign import find_onnx, open_onnx
from glpn_deploy.runtimes.onnx_file.header import read_header
from glpn_deploy.runtimes.options import BackendName, LoadOptions, Mixed, RuntimeKeywords, RuntimeOptions
from glpn_deploy.runtimes.registry import load_runtime, require_backend
from glpn_deploy.runtimes.remembered import recall

if TYPE_CHECKING:
    from typing_extensions import Unpack

Item = TypeVar("Item")
_ALLOW = "add --allow-fallback, or allow_fallback=True in Python"
_SMALL = 2**28  # bytes, for which nobody asks how much is free


_CAUGHT = (BackendError, ImageError, InputError, MemoryError)
"""What goes wrong with one image and leaves the others unharmed: unreadable, no room, no engine."""


@dataclasses.dataclass(eq=False)
class _Entry:
    """An image on its way: what it becomes, or why it cannot."""

    number: int
    item: Any
    source: ImageSource
    image: NDArray[np.uint8] | None = None
    pixels: NDArray[Any] | None = None  # what the network takes: (3, H, W) float32, or (H, W, 3) uint8
    raw: NDArray[np.float32] | None = None  # (H, W) [m]
    depth_map: DepthMap | None = None
    error: ImageError | None = None


def image_of(item: Any) -> ImageSource:
    """The image of a stream's item: its attribute ``image``, or itself."""
    image: ImageSource = getattr(item, "image", item)
    return image


@dataclasses.dataclass(frozen=True, eq=False)
class Streamed(Generic[Item]):
    """An item of a stream and what became of its image.

    Attributes:
        index: Its place in the stream, from 0.
        item: As it was given to `DepthEstimator.stream`.
        outcome: The image and its depth map, or why there is none.
    """

    index: int
    item: Item
    outcome: tuple[NDArray[np.uint8], DepthMap] | ImageError

    @property
    def error(self) -> ImageError | None:
        """Why the image could not be used, or None."""
        return self.outcome if isinstance(self.outcome, ImageError) else None

    @property
    def image(self) -> NDArray[np.uint8]:
        """The image, (H, W, 3) uint8 RGB; raises the error where there is one."""
        return self._used()[0]

    @property
    def depth_map(self) -> DepthMap:
        """Its depth; raises the error where there is one."""
        return self._used()[1]

    def _used(self) -> tuple[NDArray[np.uint8], DepthMap]:
        if isinstance(self.outcome, ImageError):
            raise self.outcome
        return self.outcome


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
        options = dataclasses.replace(options, backend=_implied_backend(options))
        try:
            estimator = cls._of(source, options)
        except (BackendError, EngineError) as error:
            nearest = _nearest(options)
            if not options.runtime.allow_fallback or nearest == options:
                raise
            estimator = cls._of(source, nearest)
            told = Reason(f"not as asked for: {error.got.rstrip('.')}", unmet=True)
            estimator.runtime.reasons = (told, *estimator.runtime.reasons)
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

    @classmethod
    def _of(cls, source: str | Path, options: LoadOptions) -> DepthEstimator:
        """The estimator of a source of any kind."""
        if is_demo(source) or is_hub_id(source):
            path = resolve_checkpoint(source, offline=options.offline)
        else:
            path = Path(source)
        bundle = (path / MANIFEST).is_file()
        onnx = None if bundle or has_weights(path) else find_onnx(path)
        if options.max_depth is not None and onnx is None:
            raise InputError(
                f"max_depth {options.max_depth:g} for {source}",
                expected="an .onnx file that does not say it; bundles and checkpoints do",
            )
        if bundle:
            files = SourceFiles(path, [path / MANIFEST])
            return cls._from_bundle(Bundle.open(path), options)._loaded_from(files)
        if path.suffix == ".engine":
            return cls._from_engine(path, options)._loaded_from(SourceFiles(path))
        if onnx is not None:
            files = SourceFiles(onnx, read_header(onnx).files)
            return cls._from_onnx(onnx, options)._loaded_from(files)
        if path.is_dir() and not (path / "config.json").is_file():
            raise BundleError(
                f"the folder {path} is neither a bundle (no {MANIFEST}) nor a checkpoint (no config.json)",
                fix="make a bundle with glpn-export CHECKPOINT OUT",
            )
        if not path.exists():
            return cls._from_checkpoint(source, options)  # says what is missing
        return cls._from_checkpoint(path, options)._loaded_from(SourceFiles(path))

    def _loaded_from(self, files: SourceFiles) -> DepthEstimator:
        self._files = files
        return self

    @classmethod
    def _from_bundle(cls, bundle: Bundle, asked: LoadOptions) -> DepthEstimator:
        known = recall(bundle, asked)
        backend, options = asked.backend, asked.resolved(known.precision if known else "fp32")
        have = [artefact.precision for artefact in bundle.manifest.artefacts if artefact.kind == "onnx"]
        scale, origin = bundle.manifest.config.max_depth, Origin.of_manifest(bundle.manifest.source)
        engines: list[str] = []
        if backend in choose.ENGINE_BACKENDS or (backend == "auto" and bundle_engines(bundle.folder)):
            from glpn_deploy.runtimes.engine.engine_set import (  # most machines need neither
                engines_of,
                open_engines,
            )

            if backend != "auto":
                runtime: Runtime = open_engines(
                    bundle.folder, options.precision, scale, options, backend=backend
                )
                return cls(runtime, bundle.processor, scale, origin)
            engines = [
                name for name in choose.ENGINE_BACKENDS if engines_of(bundle.folder, options.precision, name)
            ]
        found = choose.choices(backend, options.precision, have, options.device, "a bundle", engines)
        if not found:
            try:
                bundle.artefact(options.precision)
            except BundleError as error:
                raise UnavailableError(
                    error.got, expected=error.expected, fix=f"{error.fix}; to take what is nearest, {_ALLOW}"
                ) from None
        found = known.first(found, options.precision) if known else found

        def open_choice(choice: choose.Choice) -> Runtime:
            if choice.backend in choose.ENGINE_BACKENDS:
                rest = [other for other in found if other.backend not in choose.ENGINE_BACKENDS]
                fallback = (lambda: choose.load(rest, open_choice, False)) if rest else None
                return open_engines(
                    bundle.folder, options.precision, scale, options, fallback, choice.backend
                )
            return _as_asked(
                load_artefact(bundle, bundle.artefact(choice.file), choice.backend, options), asked
            )

        return cls(choose.load(found, open_choice, asked.measure), bundle.processor, scale, origin)

    @classmethod
    def _from_engine(cls, path: Path, asked: LoadOptions) -> DepthEstimator:
        sidecar = read_sidecar(path)
        if asked.precision not in ("auto", sidecar.precision):
            raise _lacking(asked.precision, str(path), [sidecar.precision])
        _only(sidecar.backend, asked.backend, "an engine of its kind" if sidecar.targets else "an engine")
        folder = path.parent.parent
        inside = path.parent.name == ENGINES and (folder / MANIFEST).is_file()
        processor = Bundle.open(folder).processor if inside else GLPNImageProcessor()
        from glpn_deploy.runtimes.engine.engine_set import load_engine  # as above; says what is missing

        return cls(load_engine(path, asked.resolved()), processor, sidecar.max_depth)

    @classmethod
    def _from_onnx(cls, path: Path, asked: LoadOptions) -> DepthEstimator:
        source = open_onnx(path, asked.max_depth)
        own = source.header.precision
        options = asked.resolved(own)
        wanted = options.precision
        found = choose.choices(asked.backend, wanted, [own], options.device, "an .onnx file")
        if not found:
            raise _lacking(asked.precision, str(path), [own])

        def open_choice(choice: choose.Choice) -> Runtime:
            runtime = _as_asked(load_runtime(choice.backend, path, options), asked)
            runtime.reasons += source.reasons
            return runtime

        return cls(choose.load(found, open_choice, asked.measure), source.processor, source.max_depth)

    @classmethod
    def _from_checkpoint(cls, source: str | Path, asked: LoadOptions) -> DepthEstimator:
        if asked.precision == "int8+bf16":  # else refused for the backend that it implies
            raise _lacking(asked.precision, f"the checkpoint {source}", ["fp32", "fp16", "bf16"])
        name = _only("torch", asked.backend, "a checkpoint")
        require_backend(name)
        path = resolve_checkpoint(source, offline=asked.offline)
        runtime = load_runtime(name, path, asked.resolved())
        assert runtime.max_depth is not None  # a checkpoint's config always says
        return cls(runtime, load_processor(path), runtime.max_depth, read_card(path))

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
        raw = self.runtime.warm_up(self._batch(image, pixels * min(batch, self._batch_limit(batch))))
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
        found = self._entries(
            images,
            lambda image: image,
            read_ahead=len(images) > 1,  # its threads would only add to the time of one
            batch_size=batch_size,
            caught=_CAUGHT if on_error == "skip" else (),
        )
        return [entry.error or _made(entry) for entry in found]

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
        """
        found = self._entries(items, image_of, read_ahead=read_ahead, batch_size=batch_size, caught=_CAUGHT)
        return (Streamed(entry.number, entry.item, _outcome(entry)) for entry in found)

    def _entries(
        self,
        items: Iterable[Item],
        image_of: Callable[[Item], ImageSource],
        *,
        read_ahead: bool,
        batch_size: int,
        caught: tuple[type[Exception], ...],
    ) -> Generator[_Entry, None, None]:
        """The work of `stream`; an error among ``caught`` becomes its image's own, others end it."""
        if not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(f"a batch size of {batch_size!r}", expected="a whole number, at least 1")
        limit = self._batch_limit(batch_size) if read_ahead else 1

        def read() -> Generator[_Entry, None, None]:
            try:
                for number, item in enumerate(items):
                    entry = _Entry(number, item, "")
                    try:
                        entry.source = image_of(item)
                        entry.image = image = self._load(entry.source)
                        entry.pixels = self._prepare(image)
                    except caught as error:
                        entry.error = _of_image(entry.source, error)
                    yield entry
            finally:
                if isinstance(items, Generator):
                    items.close()

        def compute(group: list[_Entry]) -> list[_Entry]:
            pixels = [entry.pixels for entry in group if entry.pixels is not None]
            if not pixels:
                return group
            try:
                raw = self.runtime.run(self._batch(group[0].source, pixels))
            except caught as error:
                if len(group) == 1:
                    group[0].error = _of_image(group[0].source, error)
                else:  # one of them may be to blame, or their number
                    group = [entry for one in group for entry in compute([one])]
                return group
            for entry, depth in zip(group, raw, strict=False):  # what filled a fixed batch is left over
                entry.raw, entry.pixels = depth, None
            return group

        def finish(group: list[_Entry]) -> list[_Entry]:
            for entry in group:
                if entry.image is None or entry.raw is None:
                    continue
                name = str(entry.source) if isinstance(entry.source, (str, Path)) else None
                try:
                    depth = resize_bicubic(entry.raw, entry.image.shape[:2])
                    entry.depth_map, entry.raw = DepthMap(depth, self.max_depth, name), None
                except caught as error:
                    entry.error = _of_image(entry.source, error)
            return group

        def size(entry: _Entry) -> tuple[int, ...] | None:
            return None if entry.pixels is None else entry.pixels.shape

        groups = grouped(read(), size, limit)
        if read_ahead:
            done = ahead(ahead(ahead(groups, lambda group: group), compute, self.runtime.at_once), finish)
        else:
            done = (finish(compute(group)) for group in groups)
        return in_order(done, lambda entry: entry.number)

    def _prepare(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        """One image as the network takes it: (3, H, W) float32, or (H, W, 3) uint8."""
        shown = resized(image, self._shown_size(*image.shape[:2]))
        if self.runtime.spec.dtype == "uint8":
            return self.processor.prepare_bytes(shown)
        return self.processor.prepare(shown)

    def _batch_limit(self, batch_size: int) -> int:
        spec = self.runtime.spec
        return spec.batch or min(batch_size, spec.max_batch or batch_size)

    def _batch(self, source: ImageSource, pixels: list[NDArray[Any]]) -> NDArray[Any]:
        """A batch of prepared images of one size; a fixed one is filled up with the first."""
        missing = (self.runtime.spec.batch or len(pixels)) - len(pixels)
        batch = _stack(pixels + pixels[:1] * missing)
        self._check_memory(source, batch_shape(batch))
        return batch

    def _check_memory(self, source: ImageSource, shape: tuple[int, int, int]) -> None:
        """Refuses a batch (N, H, W) that does not fit into memory, before the system ends the process."""
        if self.runtime.device != "cpu" or self.runtime.backend not in ("onnxruntime", "torch"):
            return
        needed = attention_bytes(*shape)
        free = available_memory() if needed > _SMALL else None
        if free is not None and needed > free:
            name = source if isinstance(source, (str, Path)) else "the image"
            raise ImageError(
                f"{name} enters the network as {shape[0]}x{shape[1]}x{shape[2]}, which takes about "
                f"{needed / 1e9:.1f} GB of memory",
                expected=f"at most the {free / 1e9:.1f} GB that are free",
                fix="shrink it for the network: --max-side 1280 (max_side=1280); OpenVINO takes less",
            )

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


def _made(entry: _Entry) -> DepthMap:
    assert entry.depth_map is not None  # where there is no error
    return entry.depth_map


def _outcome(entry: _Entry) -> tuple[NDArray[np.uint8], DepthMap] | ImageError:
    if entry.error is not None:
        return entry.error
    assert entry.image is not None
    return entry.image, _made(entry)


def _load_again(
    kind: type[DepthEstimator], source: Path, options: LoadOptions, digest: str, state: dict[str, Any]
) -> DepthEstimator:
    """What a copy of an estimator is made by, in whichever process.

    Raises:
        BundleError: The files are not there, or others.
        GlpnError: As `DepthEstimator.load`.
    """
    if not source.exists():
        raise changed(source)
    estimator = kind.open(source, options)
    if estimator._files is None or estimator._files.digest() != digest:
        estimator.close()
        raise changed(source)
    vars(estimator).update(state)
    return estimator


def _of_image(source: ImageSource, error: Exception) -> ImageError:
    """What went wrong with one image, as that image's error; the others may still succeed."""
    name = f"{source}: " if isinstance(source, (str, Path)) and str(source) else ""
    if isinstance(error, ImageError) and (not name or str(source) in error.got):
        return error
    if isinstance(error, GlpnError):
        found = ImageError(name + error.got, expected=error.expected, fix=error.fix)
    else:
        found = ImageError(f"{name}there is not enough memory for it", fix="shrink the image")
    found.__cause__ = error
    return found


def _stack(prepared: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return prepared[0][None] if len(prepared) == 1 else np.stack(prepared)


def _as_asked(runtime: Runtime, asked: LoadOptions) -> Runtime:
    """The runtime, where it computes in the precision that was asked for, or need not.

    Raises:
        UnavailableError: It computes in another one.
    """
    unmet = [reason.text for reason in runtime.reasons if reason.unmet]
    if not unmet or asked.precision == "auto" or asked.runtime.allow_fallback:
        return runtime
    runtime.close()
    raise UnavailableError(
        f"precision {asked.precision} was asked for, and cannot be had on {runtime.backend}: "
        f"{'; '.join(unmet)}",
        fix=f"ask for another precision; to take what is nearest, {_ALLOW}",
    )


def _lacking(precision: str, source: str, have: Sequence[str]) -> UnavailableError:
    """What is said where a source has no such precision."""
    return UnavailableError(
        f"precision {precision} was asked for, and {source} has none",
        expected=f"one of {', '.join(have)}",
        fix=f"to take what is nearest, {_ALLOW}",
    )


def _nearest(options: LoadOptions) -> LoadOptions:
    """The same with nothing asked for that a machine could lack."""
    device: Device = "cpu" if options.runtime.device == "cpu" else "auto"  # every machine has a CPU
    runtime = dataclasses.replace(
        options.runtime, device=device, provider="auto", compile="no", fallback_precision="fp32"
    )
    return dataclasses.replace(options, backend="auto", precision="auto", runtime=runtime)


def _implied_backend(options: LoadOptions) -> Auto | BackendName:
    """The backend asked for, or that which alone knows an option that was."""
    asked, runtime = options.backend, options.resolved()
    fallback = runtime.fallback_precision
    if runtime.provider != "auto":
        return _only("onnxruntime", asked, f"the provider {runtime.provider}")
    if runtime.compile != "no":
        return _only("torch", asked, "torch.compile")
    if fallback != "fp32":
        if runtime.precision != "int8":
            got = f"fallback_precision {fallback} with precision {runtime.precision}"
            raise InputError(got, expected="int8")
        return _only("openvino", asked, f"{fallback} beside INT8")
    return asked


def _only(name: BackendName, asked: str, what: str) -> BackendName:
    """The backend that runs this kind of source."""
    if asked not in ("auto", name):
        raise InputError(f"backend {asked!r} for {what}", expected=f"auto or {name}")
    return name
