"""DepthEstimator: an image in, metres out, over every backend."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.bundle.engine_sidecar import ENGINES, bundle_engines, read_sidecar
from glpn_deploy.bundle.manifest import MANIFEST
from glpn_deploy.checkpoints.card import Origin, read_card
from glpn_deploy.checkpoints.hub import is_demo, resolve_checkpoint
from glpn_deploy.depth.depth_map import DepthMap
from glpn_deploy.errors import BackendError, BundleError, ConfigError, GlpnError, ImageError, InputError
from glpn_deploy.images.loading import ImageSource, load_image, resized, shrunk_size
from glpn_deploy.images.options import MAX_PIXELS, Channels, ImageOptions
from glpn_deploy.images.processing import GLPNImageProcessor, load_processor
from glpn_deploy.images.resample import resize_bicubic
from glpn_deploy.model.config import CONFIG_NAME, GLPNConfig
from glpn_deploy.options import Auto, Device
from glpn_deploy.pipeline import ahead
from glpn_deploy.precisions import Precision
from glpn_deploy.runtimes import choose
from glpn_deploy.runtimes.base import Runtime
from glpn_deploy.runtimes.memory import attention_bytes, available_memory
from glpn_deploy.runtimes.onnx_file.artefact_file import load_artefact
from glpn_deploy.runtimes.onnx_file.header import read_header
from glpn_deploy.runtimes.options import BackendName, LoadOptions, RuntimeKeywords, RuntimeOptions
from glpn_deploy.runtimes.registry import load_runtime, require_backend

if TYPE_CHECKING:
    from typing_extensions import Unpack

Item = TypeVar("Item")
_SMALL = 2**28  # bytes, for which nobody asks how much is free


class _Prepared(NamedTuple):
    """Images of one network size: their names, uint8 pixels and the batch made of them."""

    sources: list[ImageSource]
    images: list[NDArray[np.uint8]]
    batch: NDArray[np.float32]


_Computed = tuple[_Prepared, NDArray[np.float32]]


def image_of(item: Any) -> ImageSource:
    """The image of a stream's item: its attribute ``image``, or itself."""
    image: ImageSource = getattr(item, "image", item)
    return image


@dataclasses.dataclass(frozen=True, eq=False)
class Streamed(Generic[Item]):
    """An item of a stream and what became of its image.

    Attributes:
        item: As it was given to `DepthEstimator.stream`.
        outcome: The image and its depth map, or why there is none.
    """

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
        if runtime.spec.channels != 3:
            raise ConfigError(f"the network takes {runtime.spec.channels} channels", expected="3 (RGB)")
        self.runtime, self.processor, self.max_depth, self.origin = runtime, processor, max_depth, origin

    @classmethod
    def load(
        cls,
        source: str | Path,
        backend: Auto | BackendName = "auto",
        precision: Auto | Precision = "auto",
        device: Device = "auto",
        *,
        offline: bool = False,
        measure: bool = False,
        cache: str | Path | None = None,
        max_depth: float | None = None,
        max_side: int | None = None,
        input_size: tuple[int, int] | None = None,
        white_point: float | None = None,
        max_pixels: int = MAX_PIXELS,
        channels: Channels = "rgb",
        **runtime: Unpack[RuntimeKeywords],
    ) -> DepthEstimator:
        """Loads anything that holds a GLPN network.

        Args:
            source: Bundle folder, ``.onnx`` or ``.engine`` file, checkpoint folder, ``.ckpt``, hub id, or
                ``"demo"`` for the small checkpoint that comes with the package (a folder of that name is
                ``./demo``).
            backend: ``onnxruntime``, ``openvino``, ``tensorrt`` or ``torch``; ``auto`` takes torch
                for checkpoints, TensorRT for engines, and for bundles and ``.onnx`` files what
                `glpn_deploy.runtimes.choose` expects to be the fastest of those installed: a bundle's
                engines where they were built for this GPU, with an ONNX runtime for the shapes that none of
                them takes. With ``tensorrt`` such shapes are refused. ``runtime.why`` says why.
            precision: ``fp32`` and so on; ``auto`` takes FP32, the reference's, for bundles and the file's
                own for ``.onnx`` and ``.engine`` files. OpenVINO runs bf16 and fp16 from the FP32 file.
            device: ``cpu``, ``cuda``, or ``auto`` for the GPU where the backend finds one.
            offline: Use the hub's cache only.
            measure: With backend ``auto``, time the installed backends on the first batch and keep the
                fastest for as long as the estimator lives.
            cache: Folder for compiled networks, for a faster second start; None keeps none.
            max_depth: The network's scale [m], for an ``.onnx`` file of other software that does not say it;
                without, the ``config.json`` beside the file (or beside its folder ``onnx``) has to.
            max_side: Shrink larger images to this longer side [px] for the network; depth has their own size.
            input_size: Show the network every image at this height and width [px], instead.
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
        if options.max_depth is not None and Path(source).suffix != ".onnx":
            raise InputError(
                f"max_depth {options.max_depth:g} for {source}",
                expected="an .onnx file that does not say it; bundles and checkpoints do",
            )
        estimator = cls._of(source, options)
        estimator.images = options.images
        return estimator

    @classmethod
    def _of(cls, source: str | Path, options: LoadOptions) -> DepthEstimator:
        """The estimator of a source of any kind."""
        path = Path(source)
        if is_demo(source):
            return cls._from_checkpoint(source, options)
        if (path / MANIFEST).is_file():
            return cls._from_bundle(Bundle.open(path), options)
        if path.suffix == ".engine":
            return cls._from_engine(path, options)
        if path.suffix == ".onnx":
            return cls._from_onnx(path, options)
        if path.is_dir() and not (path / "config.json").is_file():
            raise BundleError(
                f"the folder {path} is neither a bundle (no {MANIFEST}) nor a checkpoint (no config.json)",
                fix="make a bundle with glpn-export CHECKPOINT OUT",
            )
        return cls._from_checkpoint(source, options)

    @classmethod
    def _from_bundle(cls, bundle: Bundle, asked: LoadOptions) -> DepthEstimator:
        backend, options = asked.backend, asked.resolved()
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
            bundle.artefact(options.precision)  # says which it has

        def open_choice(choice: choose.Choice) -> Runtime:
            if choice.backend in choose.ENGINE_BACKENDS:
                rest = [other for other in found if other.backend not in choose.ENGINE_BACKENDS]
                fallback = (lambda: choose.load(rest, open_choice, False)) if rest else None
                return open_engines(
                    bundle.folder, options.precision, scale, options, fallback, choice.backend
                )
            return load_artefact(bundle, bundle.artefact(choice.file), choice.backend, options)

        return cls(choose.load(found, open_choice, asked.measure), bundle.processor, scale, origin)

    @classmethod
    def _from_engine(cls, path: Path, asked: LoadOptions) -> DepthEstimator:
        sidecar = read_sidecar(path)
        _only(sidecar.backend, asked.backend, "an engine of its kind" if sidecar.targets else "an engine")
        if asked.precision not in ("auto", sidecar.precision):
            expected = f"auto or {sidecar.precision}, which the engine has"
            raise InputError(f"precision {asked.precision} for {path}", expected=expected)
        folder = path.parent.parent
        inside = path.parent.name == ENGINES and (folder / MANIFEST).is_file()
        processor = Bundle.open(folder).processor if inside else GLPNImageProcessor()
        from glpn_deploy.runtimes.engine.engine_set import load_engine  # as above; says what is missing

        return cls(load_engine(path, asked.resolved()), processor, sidecar.max_depth)

    @classmethod
    def _from_onnx(cls, path: Path, asked: LoadOptions) -> DepthEstimator:
        header = read_header(path)
        own: Precision = header.precision or ("fp16" if header.input_type == "float16" else "fp32")
        options = asked.resolved(own)
        wanted = options.precision
        found = choose.choices(asked.backend, wanted, [own], options.device, "an .onnx file")
        if not found:
            raise InputError(f"precision {wanted} for {path}", expected=f"auto or {own}, which the file has")
        scale = _scale(path, header.max_depth, asked.max_depth)
        processor = load_processor(path) if header.max_depth is None else GLPNImageProcessor()
        runtime = choose.load(
            found, lambda choice: load_runtime(choice.backend, path, options), asked.measure
        )
        return cls(runtime, processor, scale)

    @classmethod
    def _from_checkpoint(cls, source: str | Path, asked: LoadOptions) -> DepthEstimator:
        name = _only("torch", asked.backend, "a checkpoint")
        require_backend(name)
        path = resolve_checkpoint(source, offline=asked.offline)
        runtime = load_runtime(name, path, asked.resolved())
        assert runtime.max_depth is not None  # a checkpoint's config always says
        return cls(runtime, load_processor(path), runtime.max_depth, read_card(path))

    def __call__(self, image: ImageSource) -> DepthMap:
        """Depth of one image (path, PIL image or RGB array) at its own size, in metres."""
        return self.predict([image])[0]

    def predict(self, images: Sequence[ImageSource], batch_size: int = 4) -> list[DepthMap]:
        """Depth of several images, each at its own size, in metres, in the order given.

        Args:
            images: Paths, PIL images or numpy arrays ``(H, W, 3)`` / ``(H, W)``; sizes may differ. Arrays are
                RGB; for OpenCV's BGR load with ``channels="bgr"``.
                Images that enter the network at the same size share a batch. While one batch is in the
                network, the next one is read and the one before enlarged.
            batch_size: Most images in one batch; a network of a fixed or largest batch size keeps to its own.

        Raises:
            ImageError: An image cannot be used; says which.
            InputError: ``images`` is one image, or the batch size is below 1.
        """
        if isinstance(images, (str, Path, np.ndarray)) or not isinstance(images, Sequence):
            raise InputError(f"predict was given a {type(images).__name__}", expected="a list of images")
        if batch_size < 1:
            raise InputError(f"a batch size of {batch_size}", expected="at least 1")
        if len(images) == 1:  # threads would only add to its time
            return self._finish(self._compute(self._prepare(list(images), [self._load(images[0])])))
        spec = self.runtime.spec
        limit = spec.batch or min(batch_size, spec.max_batch or batch_size)
        order: list[int] = []
        batches = self._batches(images, limit, order)
        computed = ahead(ahead(ahead(batches, lambda batch: batch), self._compute), self._finish)
        finished = [map_ for maps in computed for map_ in maps]
        return [map_ for _, map_ in sorted(zip(order, finished, strict=True), key=lambda pair: pair[0])]

    def _batches(self, images: Sequence[ImageSource], limit: int, order: list[int]) -> Iterator[_Prepared]:
        """Reads the images one after the other; gives a batch when it is full, and in the end what is left.

        The numbers of the images are written into ``order`` as their batches are given.
        """
        groups: dict[tuple[int, int], dict[int, NDArray[np.uint8]]] = {}

        def batch(group: dict[int, NDArray[np.uint8]]) -> _Prepared:
            order.extend(group)
            return self._prepare([images[index] for index in group], list(group.values()))

        for index, source in enumerate(images):
            image = self._load(source)
            size = self.processor.target_size(*self._size_of(image))
            group = groups.setdefault(size, {})
            group[index] = image
            if len(group) == limit:
                yield batch(groups.pop(size))
        yield from map(batch, groups.values())

    def stream(
        self,
        items: Iterable[Item],
        image_of: Callable[[Item], ImageSource] = image_of,
        *,
        read_ahead: bool = True,
    ) -> Generator[Streamed[Item], None, None]:
        """Depth of one image after the other, in order, while the caller works on the ones before.

        Reading, the network and enlarging each have a thread: while the caller has one image, the next is
        enlarged, one is in the network and one is read; at most four are in memory.

        Args:
            items: Images (paths, PIL images, numpy arrays), or objects with an image in their attribute
                ``image`` and anything else beside it (a `glpn_deploy.video` frame, say).
            image_of: Finds an item's image elsewhere.
            read_ahead: False takes an item only when the one before is done: for a camera, whose frames
                get old while they wait.

        Yields:
            Every item with its image and depth map, or with the error of an image that cannot be used, be it
            that the backend fails on it.
        """

        def prepare(item: Item) -> tuple[Item, _Prepared | ImageError]:
            try:
                image = image_of(item)
                return item, self._prepare([image], [self._load(image)])
            except ImageError as error:
                return item, error
            except MemoryError as error:
                return item, _of_image(image, error)

        def compute(pair: tuple[Item, _Prepared | ImageError]) -> tuple[Item, _Computed | ImageError]:
            item, prepared = pair
            if isinstance(prepared, ImageError):
                return item, prepared
            try:
                return item, self._compute(prepared)
            except (
                BackendError,
                InputError,
                MemoryError,
            ) as error:  # no room, no engine
                return item, _of_image(prepared.sources[0], error)

        def finish(pair: tuple[Item, _Computed | ImageError]) -> Streamed[Item]:
            item, computed = pair
            if isinstance(computed, ImageError):
                return Streamed(item, computed)
            try:
                return Streamed(item, (computed[0].images[0], self._finish(computed)[0]))
            except MemoryError as error:
                return Streamed(item, _of_image(computed[0].sources[0], error))

        if not read_ahead:
            return ahead(items, lambda item: finish(compute(prepare(item))))
        return ahead(ahead(ahead(items, prepare), compute), finish)

    def _prepare(self, sources: list[ImageSource], images: list[NDArray[np.uint8]]) -> _Prepared:
        """The batch of images of one network size; a fixed batch is filled up with the first of them."""
        prepared = [self.processor.prepare(resized(image, self._size_of(image))) for image in images]
        missing = (self.runtime.spec.batch or len(images)) - len(images)
        self._check_memory(sources[0], (len(images) + missing, *prepared[0].shape[1:]))
        return _Prepared(sources, images, _stack(prepared + prepared[:1] * missing))

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

    def _size_of(self, image: NDArray[np.uint8]) -> tuple[int, int]:
        """Height and width [px] at which an image is shown to the processor."""
        height, width = image.shape[:2]
        if self.images.max_side is not None:
            return shrunk_size(height, width, self.images.max_side, self.processor.size_divisor)
        return self.images.input_size or (height, width)

    def _load(self, source: ImageSource) -> NDArray[np.uint8]:
        asked = self.images
        return load_image(
            source, max_pixels=asked.max_pixels, white_point=asked.white_point, channels=asked.channels
        )

    def _compute(self, prepared: _Prepared) -> _Computed:
        return prepared, self.runtime.run(prepared.batch)

    def _finish(self, computed: _Computed) -> list[DepthMap]:
        """Depth maps at the images' own sizes; what filled a fixed batch is left over."""
        (sources, images, _), raw = computed
        return [
            DepthMap(
                resize_bicubic(depth, image.shape[:2]),
                self.max_depth,
                str(source) if isinstance(source, (str, Path)) else None,
            )
            for source, image, depth in zip(sources, images, raw, strict=False)
        ]

    def close(self) -> None:
        """Frees what the backend holds."""
        self.runtime.close()

    def __enter__(self) -> DepthEstimator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _of_image(source: ImageSource, error: Exception) -> ImageError:
    """What went wrong with one image, as that image's error; the others may still succeed."""
    name = f"{source}: " if isinstance(source, (str, Path)) else ""
    if isinstance(error, GlpnError):
        found = ImageError(name + error.got, expected=error.expected, fix=error.fix)
    else:
        found = ImageError(f"{name}there is not enough memory for it", fix="shrink the image")
    found.__cause__ = error
    return found


def _stack(prepared: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    return prepared[0][None] if len(prepared) == 1 else np.stack(prepared)


def _scale(path: Path, own: float | None, given: float | None) -> float:
    """The scale [m] of an ``.onnx`` file: its own, the one given, or that of the ``config.json`` beside it.

    Raises:
        BundleError: Nothing says it.
        InputError: The one given is no scale, or contradicts the file's own.
    """
    if given is not None:
        if not 0 < given < float("inf") or own not in (None, given):
            raise InputError(
                f"max_depth {given:g} for {path}", expected="metres above 0" if own is None else f"{own:g}"
            )
        return given
    if own is not None:
        return own
    places = [path.parent, path.parent.parent] if path.parent.name == "onnx" else [path.parent]
    for folder in places:
        if (folder / CONFIG_NAME).is_file():
            return float(GLPNConfig.from_json_file(folder / CONFIG_NAME).max_depth)
    raise BundleError(
        f"{path} does not say what depth it gives: it was not made by glpn-export",
        expected="max_depth in metres, or its config.json beside it",
        fix="pass 10 for NYU or 80 for KITTI (--max-depth 10)",
    )


def _implied_backend(options: LoadOptions) -> Auto | BackendName:
    """The backend asked for, or that which alone knows an option that was."""
    asked, runtime, fallback = options.backend, options.runtime, options.runtime.fallback_precision
    if runtime.provider != "auto":
        return _only("onnxruntime", asked, f"the provider {runtime.provider}")
    if runtime.compile != "no":
        return _only("torch", asked, "torch.compile")
    if fallback != "fp32":
        if options.precision != "int8":
            wanted = options.resolved().precision
            raise InputError(f"fallback_precision {fallback} with precision {wanted}", expected="int8")
        return _only("openvino", asked, f"{fallback} beside INT8")
    return asked


def _only(name: BackendName, asked: str, what: str) -> BackendName:
    """The backend that runs this kind of source."""
    if asked not in ("auto", name):
        raise InputError(f"backend {asked!r} for {what}", expected=f"auto or {name}")
    return name
