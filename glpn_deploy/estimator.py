"""DepthEstimator: an image in, metres out, over every backend."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.bundle import Bundle
from glpn_deploy.checkpoint_hub import is_demo
from glpn_deploy.depth_map import DepthMap
from glpn_deploy.errors import BundleError, ConfigError, InputError
from glpn_deploy.image_loading import ImageSource, load_image
from glpn_deploy.image_processing import GLPNImageProcessor
from glpn_deploy.manifest import MANIFEST
from glpn_deploy.resample import resize_bicubic
from glpn_deploy.runtimes.base import PRECISIONS, Device, Precision, Runtime, RuntimeOptions
from glpn_deploy.runtimes.registry import load_runtime, require_backend

Auto = Literal["auto"]


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
    ) -> DepthEstimator:
        """Loads anything that holds a GLPN network.

        Args:
            source: Bundle folder, ``.onnx`` file, checkpoint folder, ``.ckpt``, hub id, or ``"demo"`` for
                the small checkpoint that comes with the package (a folder of that name is ``./demo``).
            backend: ``onnxruntime``, ``torch`` or ``null``; ``auto`` takes onnxruntime for bundles and
                ``.onnx`` files and torch for checkpoints.
            precision: ``fp32`` and so on; ``auto`` takes FP32, the reference's.
            device: ``cpu``, ``cuda``, or ``auto`` for the GPU where the backend finds one.
            threads: Threads within one operator; None leaves the backend's default.
            offline: Use the hub's cache only.

        Raises:
            GlpnError: The source is nothing that can be loaded, is damaged, or cannot run here.
        """
        if precision not in ("auto", *PRECISIONS):
            raise InputError(f"precision {precision!r}", expected=f"auto or one of {', '.join(PRECISIONS)}")
        options = RuntimeOptions(device, "fp32" if precision == "auto" else precision, threads)
        if is_demo(source) and backend != "null":
            return cls._from_checkpoint(source, backend, options, offline)
        path = Path(source)
        if backend == "null":
            return cls(load_runtime("null", None, options), GLPNImageProcessor(), 10.0)
        if (path / MANIFEST).is_file():
            return cls._from_bundle(Bundle.open(path), backend, options)
        if path.suffix == ".onnx":
            return cls._from_onnx(path, backend, options, precision)
        if path.is_dir() and not (path / "config.json").is_file():
            raise BundleError(
                f"the folder {path} is neither a bundle (no {MANIFEST}) nor a checkpoint (no config.json)",
                fix="make a bundle with glpn-export CHECKPOINT OUT",
            )
        return cls._from_checkpoint(source, backend, options, offline)

    @classmethod
    def _from_bundle(cls, bundle: Bundle, backend: str, options: RuntimeOptions) -> DepthEstimator:
        name = _only("onnxruntime", backend, "a bundle")
        path = bundle.artefact_path(bundle.artefact(options.precision))
        return cls(load_runtime(name, path, options), bundle.processor, bundle.manifest.config.max_depth)

    @classmethod
    def _from_onnx(
        cls, path: Path, backend: str, options: RuntimeOptions, precision: Precision | Auto
    ) -> DepthEstimator:
        runtime = load_runtime(_only("onnxruntime", backend, "an .onnx file"), path, options)
        if precision not in ("auto", runtime.precision):
            runtime.close()
            raise InputError(
                f"precision {precision} for {path}",
                expected=f"auto or {runtime.precision}, which the file has",
            )
        if runtime.max_depth is None:
            runtime.close()
            raise BundleError(
                f"{path} does not say what depth it gives: it was not made by glpn-export",
                fix="export the checkpoint with glpn-export and load the bundle",
            )
        return cls(runtime, GLPNImageProcessor(), runtime.max_depth)

    @classmethod
    def _from_checkpoint(
        cls, source: str | Path, backend: str, options: RuntimeOptions, offline: bool
    ) -> DepthEstimator:
        name = _only("torch", backend, "a checkpoint")
        require_backend(name)
        from glpn_deploy.checkpoint import load_processor, resolve_checkpoint  # need torch, bundles do not

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
                Images that enter the network at the same size share a batch.
            batch_size: Most images in one batch; a network of a fixed batch size keeps its own.

        Raises:
            ImageError: An image cannot be used; says which.
            InputError: ``images`` is one image, or the batch size is below 1.
        """
        if isinstance(images, (str, Path, np.ndarray)) or not isinstance(images, Sequence):
            raise InputError(f"predict was given a {type(images).__name__}", expected="a list of images")
        if batch_size < 1:
            raise InputError(f"a batch size of {batch_size}", expected="at least 1")
        groups: dict[tuple[int, int], list[int]] = {}
        loaded = [load_image(image) for image in images]
        for index, image in enumerate(loaded):
            groups.setdefault(self.processor.target_size(*image.shape[:2]), []).append(index)
        maps: dict[int, DepthMap] = {}
        limit = self.runtime.spec.batch or batch_size
        for members in groups.values():
            for start in range(0, len(members), limit):
                chunk = members[start : start + limit]
                prepared = [self.processor.prepare(loaded[index]) for index in chunk]
                missing = (self.runtime.spec.batch or len(chunk)) - len(chunk)
                raw = self.runtime.run(_stack(prepared + prepared[:1] * missing))
                for index, depth in zip(chunk, raw, strict=False):  # what fills a fixed batch is left over
                    source = images[index]
                    name = str(source) if isinstance(source, (str, Path)) else None
                    maps[index] = DepthMap(
                        resize_bicubic(depth, loaded[index].shape[:2]), self.max_depth, name
                    )
        return [maps[index] for index in range(len(loaded))]

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


def _only(name: str, asked: str, what: str) -> str:
    """The backend that runs this kind of source."""
    if asked not in ("auto", name):
        raise InputError(f"backend {asked!r} for {what}", expected=f"auto or {name}")
    return name
