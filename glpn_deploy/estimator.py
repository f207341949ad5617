"""DepthEstimator: an image in, metres out, over every backend."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.bundle.engine_sidecar import ENGINES, bundle_engines, read_sidecar
from glpn_deploy.bundle.manifest import MANIFEST
from glpn_deploy.checkpoints.hub import is_demo, resolve_checkpoint
from glpn_deploy.depth.depth_map import DepthMap
from glpn_deploy.errors import BundleError, ConfigError, ImageError, InputError
from glpn_deploy.images.loading import ImageSource, load_image
from glpn_deploy.images.processing import GLPNImageProcessor, load_processor
from glpn_deploy.images.resample import resize_bicubic
from glpn_deploy.pipeline import pipelined
from glpn_deploy.runtimes import choose
from glpn_deploy.runtimes.base import (
    PRECISIONS,
    Compile,
    Device,
    Mode,
    Precision,
    Provider,
    Rest,
    Runtime,
    RuntimeOptions,
)
from glpn_deploy.runtimes.onnx_file.header import read_header
from glpn_deploy.runtimes.registry import load_runtime, require_backend

Auto = Literal["auto"]
Result = TypeVar("Result")


class _Prepared(NamedTuple):
    """Images of one network size: their names, uint8 pixels and the batch made of them."""

    sources: list[ImageSource]
    images: list[NDArray[np.uint8]]
    batch: NDArray[np.float32]


class DepthEstimator:
    """Image processor, runtime and post-processing as one callable.

    Usually made by `load`. Use it as a context manager, or call `close`.

    Args:
        runtime: The loaded network.
        processor: Turns images into its input.
        max_depth: The network's scale [m].
    """

    def __init__(self, runtime: Runtime, processor: GLPNImageProcessor, max_depth: float) -> None:
        multiple = runtime.spec.size_multiple
        if processor.size_divisor % multiple:
            raise ConfigError(
                f"the image processor's size_divisor is {processor.size_divisor}",
                expected=f"a multiple of {multiple}, which the network's sides must be",
            )
        if runtime.spec.channels != 3:
            raise ConfigError(f"the network takes {runtime.spec.channels} channels", expected="3 (RGB)")
        self.runtime, self.processor, self.max_depth = runtime, processor, max_depth

    @classmethod
    def load(
        cls,
        source: str | Path,
        backend: str = "auto",
        precision: Precision | Auto = "auto",
        device: Device = "auto",
        *,
        threads: int | None = None,
        offline: bool = False,
        measure: bool = False,
        mode: Mode = "latency",
        cache: str | Path | None = None,
        provider: Provider = "auto",
        compile: Compile = "no",
        rest: Rest = "fp32",
    ) -> DepthEstimator:
        """Loads anything that holds a GLPN network.

        Args:
            source: Bundle folder, ``.onnx`` or ``.engine`` file, checkpoint folder, ``.ckpt``, hub id, or
                ``"demo"`` for the small checkpoint that comes with the package (a folder of that name is
                ``./demo``).
            backend: ``onnxruntime``, ``openvino``, ``tensorrt``, ``torch`` or ``null``; ``auto`` takes torch
                for checkpoints, TensorRT for engines, and for bundles and ``.onnx`` files what
                `glpn_deploy.runtimes.choose` expects to be the fastest of those installed: a bundle's
                engines where they were built for this GPU, with an ONNX runtime for the shapes that none of
                them takes. With ``tensorrt`` such shapes are refused. ``runtime.why`` says why.
            precision: ``fp32`` and so on; ``auto`` takes FP32, the reference's, for bundles and the file's
                own for ``.onnx`` and ``.engine`` files. OpenVINO runs bf16 and fp16 from the FP32 file.
            device: ``cpu``, ``cuda``, or ``auto`` for the GPU where the backend finds one.
            threads: Threads within one operator; None leaves the backend's default.
            offline: Use the hub's cache only.
            measure: With backend ``auto``, time the installed backends on the first batch and keep the
                fastest for as long as the estimator lives.
            mode: ``throughput`` for programs that call this estimator from several threads (OpenVINO).
            cache: Folder for compiled networks, for a faster second start (OpenVINO, ONNX Runtime's TensorRT
                provider); None keeps none.
            provider: What ONNX Runtime runs with on a GPU: ``cuda`` or ``tensorrt``, which builds engines of
                its own and takes minutes; ``auto`` is CUDA where there is one.
            compile: ``default`` or ``max-autotune`` runs a checkpoint through `torch.compile`.
            rest: What the layers of an INT8 network that are not quantised compute in: ``bf16`` is faster on
                processors that have it (OpenVINO).

        Raises:
            GlpnError: The source is nothing that can be loaded, is damaged, or cannot run here.
        """
        if precision not in ("auto", *PRECISIONS):
            raise InputError(f"precision {precision!r}", expected=f"auto or one of {', '.join(PRECISIONS)}")
        if measure and backend != "auto":
            raise InputError(f"measure with backend {backend}", expected="backend auto, which has a choice")
        wanted: Precision = "fp32" if precision == "auto" else precision
        folder = None if cache is None else Path(cache)
        options = RuntimeOptions(device, wanted, threads, mode, folder, rest, provider, compile=compile)
        backend = _implied_backend(backend, options)
        if is_demo(source) and backend != "null":
            return cls._from_checkpoint(source, backend, options, offline)
        path = Path(source)
        if backend == "null":
            return cls(load_runtime("null", None, options), GLPNImageProcessor(), 10.0)
        if (path / MANIFEST).is_file():
            return cls._from_bundle(Bundle.open(path), backend, options, measure)
        if path.suffix == ".engine":
            return cls._from_engine(path, backend, options, precision)
        if path.suffix == ".onnx":
            return cls._from_onnx(path, backend, options, precision, measure)
        if path.is_dir() and not (path / "config.json").is_file():
            raise BundleError(
                f"the folder {path} is neither a bundle (no {MANIFEST}) nor a checkpoint (no config.json)",
                fix="make a bundle with glpn-export CHECKPOINT OUT",
            )
        return cls._from_checkpoint(source, backend, options, offline)

    @classmethod
    def _from_bundle(
        cls, bundle: Bundle, backend: str, options: RuntimeOptions, measure: bool
    ) -> DepthEstimator:
        have = [artefact.precision for artefact in bundle.manifest.artefacts if artefact.kind == "onnx"]
        scale = bundle.manifest.config.max_depth
        engines = 0
        if backend == "tensorrt" or (backend == "auto" and bundle_engines(bundle.folder)):
            from glpn_deploy.runtimes.engine.engine_set import (  # most machines need neither
                engines_of,
                open_engines,
            )

            if backend == "tensorrt":
                runtime: Runtime = open_engines(bundle.folder, options.precision, scale, options)
                return cls(runtime, bundle.processor, scale)
            engines = len(engines_of(bundle.folder, options.precision))
        found = choose.choices(backend, options.precision, have, options.device, "a bundle", engines)
        if not found:
            bundle.artefact(options.precision)  # says which it has

        def open_choice(choice: choose.Choice) -> Runtime:
            if choice.backend == "tensorrt":
                rest = found[1:]
                fallback = (lambda: choose.load(rest, open_choice, False)) if rest else None
                return open_engines(bundle.folder, options.precision, scale, options, fallback)
            path = bundle.artefact_path(bundle.artefact(choice.file))
            return load_runtime(choice.backend, path, options)

        runtime = choose.load(found, open_choice, measure)
        return cls(runtime, bundle.processor, scale)

    @classmethod
    def _from_engine(
        cls, path: Path, backend: str, options: RuntimeOptions, precision: Precision | Auto
    ) -> DepthEstimator:
        _only("tensorrt", backend, "an engine")
        sidecar = read_sidecar(path)
        if precision not in ("auto", sidecar.precision):
            expected = f"auto or {sidecar.precision}, which the engine has"
            raise InputError(f"precision {precision} for {path}", expected=expected)
        folder = path.parent.parent
        inside = path.parent.name == ENGINES and (folder / MANIFEST).is_file()
        processor = Bundle.open(folder).processor if inside else GLPNImageProcessor()
        from glpn_deploy.runtimes import rt_tensorrt  # as above; without tensorrt it says what is missing

        return cls(rt_tensorrt.load(path, options), processor, sidecar.max_depth)

    @classmethod
    def _from_onnx(
        cls,
        path: Path,
        backend: str,
        options: RuntimeOptions,
        precision: Precision | Auto,
        measure: bool,
    ) -> DepthEstimator:
        header = read_header(path)
        own = header.precision or options.precision
        wanted = own if precision == "auto" else precision
        found = choose.choices(backend, wanted, [own], options.device, "an .onnx file")
        if not found:
            raise InputError(f"precision {wanted} for {path}", expected=f"auto or {own}, which the file has")
        if header.max_depth is None:
            raise BundleError(
                f"{path} does not say what depth it gives: it was not made by glpn-export",
                fix="export the checkpoint with glpn-export and load the bundle",
            )
        options = dataclasses.replace(options, precision=wanted)
        runtime = choose.load(found, lambda choice: load_runtime(choice.backend, path, options), measure)
        return cls(runtime, GLPNImageProcessor(), header.max_depth)

    @classmethod
    def _from_checkpoint(
        cls, source: str | Path, backend: str, options: RuntimeOptions, offline: bool
    ) -> DepthEstimator:
        name = _only("torch", backend, "a checkpoint")
        require_backend(name)
        path = resolve_checkpoint(source, offline=offline)
        runtime = load_runtime(name, path, options)
        assert runtime.max_depth is not None  # a checkpoint's config always says
        return cls(runtime, load_processor(path), runtime.max_depth)

    def __call__(self, image: ImageSource) -> DepthMap:
        """Depth of one image (path, PIL image or numpy array) at its own size, in metres."""
        return self.predict([image])[0]

    def predict(self, images: Sequence[ImageSource], batch_size: int = 4) -> list[DepthMap]:
        """Depth of several images, each at its own size, in metres, in the order given.

        Args:
            images: Paths, PIL images or numpy arrays ``(H, W, 3)`` / ``(H, W)``; sizes may differ.
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
            return self._finish(self._compute(self._prepare(list(images), [load_image(images[0])])))
        spec = self.runtime.spec
        limit = spec.batch or min(batch_size, spec.max_batch or batch_size)
        order: list[int] = []
        batches = self._batches(images, limit, order)
        finished = [map_ for maps in pipelined(batches, self._compute, self._finish) for map_ in maps]
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
            image = load_image(source)
            size = self.processor.target_size(*image.shape[:2])
            group = groups.setdefault(size, {})
            group[index] = image
            if len(group) == limit:
                yield batch(groups.pop(size))
        yield from map(batch, groups.values())

    def stream(
        self, images: Iterable[ImageSource], then: Callable[[DepthMap, NDArray[np.uint8]], Result]
    ) -> Generator[Result | ImageError, None, None]:
        """Depth of one image after the other, in order; reading and saving run beside the network.

        While an image is in the network, the next one is taken from ``images``, read and prepared, and the
        one before is handed to ``then``, each in a thread; at most three are in memory.

        Args:
            images: Paths, PIL images or numpy arrays.
            then: What shall be done with a depth map and its image, ``(H, W, 3)`` uint8; saving it, say.

        Yields:
            What ``then`` returned, or the error of an image that cannot be used.
        """

        def prepare(source: ImageSource) -> _Prepared | ImageError:
            try:
                return self._prepare([source], [load_image(source)])
            except ImageError as error:
                return error

        def compute(prepared: _Prepared | ImageError) -> tuple[_Prepared, NDArray[np.float32]] | ImageError:
            return prepared if isinstance(prepared, ImageError) else self._compute(prepared)

        def finish(computed: tuple[_Prepared, NDArray[np.float32]] | ImageError) -> Result | ImageError:
            if isinstance(computed, ImageError):
                return computed
            try:
                return then(self._finish(computed)[0], computed[0].images[0])
            except ImageError as error:
                return error

        return pipelined(map(prepare, images), compute, finish)

    def _prepare(self, sources: list[ImageSource], images: list[NDArray[np.uint8]]) -> _Prepared:
        """The batch of images of one network size; a fixed batch is filled up with the first of them."""
        prepared = [self.processor.prepare(image) for image in images]
        missing = (self.runtime.spec.batch or len(images)) - len(images)
        return _Prepared(sources, images, _stack(prepared + prepared[:1] * missing))

    def _compute(self, prepared: _Prepared) -> tuple[_Prepared, NDArray[np.float32]]:
        return prepared, self.runtime.run(prepared.batch)

    def _finish(self, computed: tuple[_Prepared, NDArray[np.float32]]) -> list[DepthMap]:
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


def _stack(prepared: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    return prepared[0][None] if len(prepared) == 1 else np.stack(prepared)


def _implied_backend(asked: str, options: RuntimeOptions) -> str:
    """The backend asked for, or that which alone knows an option that was."""
    if options.provider != "auto":
        return _only("onnxruntime", asked, f"the provider {options.provider}")
    if options.compile != "no":
        return _only("torch", asked, "torch.compile")
    if options.rest != "fp32":
        if options.precision != "int8":
            raise InputError(f"rest {options.rest} with precision {options.precision}", expected="int8")
        return _only("openvino", asked, f"{options.rest} beside INT8")
    return asked


def _only(name: str, asked: str, what: str) -> str:
    """The backend that runs this kind of source."""
    if asked not in ("auto", name):
        raise InputError(f"backend {asked!r} for {what}", expected=f"auto or {name}")
    return name
