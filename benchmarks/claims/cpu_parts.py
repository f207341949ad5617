"""The parts of `cpu_figures` beside the rows: whole commands, accuracy, profiles."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from glpn_deploy.benchmarks.claims import cpu_profile, cpu_runs
from glpn_deploy.benchmarks.claims.cpu_rows import Files, Options
from glpn_deploy.datasets.rooms import RenderedRooms
from glpn_deploy.depth.error_stats import error_stats
from glpn_deploy.errors import GlpnError
from glpn_deploy.exporters.calibration.image_sets import ImageSet
from glpn_deploy.exporters.search.recipes import maker
from glpn_deploy.exporters.to_onnx import to_onnx
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.model.modeling import GLPNForDepthEstimation
from glpn_deploy.runtimes.base import RuntimeOptions
from glpn_deploy.runtimes.registry import BACKENDS, load_runtime

LIMIT = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
"""What keeps torch's kernels from newer instructions. OpenVINO heeds half of it and would crash, hence is not
opened then; ONNX Runtime has no such switch."""
EMULATOR = ("qemu-x86_64", "-cpu", "Haswell-v4")
"""A processor with AVX2 and nothing newer, where qemu-user is installed."""


def accuracy(folder: Path, quick: bool) -> dict[str, float]:
    """AbsRel of the demo network in bf16 and INT8 against FP32, on rendered rooms, by row; what runs here."""
    height, width = (96, 128) if quick else (240, 320)
    processor = GLPNImageProcessor()
    fp32 = to_onnx(GLPNForDepthEstimation.from_pretrained("demo"), folder / "demo.onnx")
    count = 4 if quick else 32
    pictures = [sample.image for sample in RenderedRooms("val", 2 * count, height=height, width=width)]
    images = ImageSet(tuple(pictures[:count]), (), "rendered rooms")
    make, _ = maker("int8", fp32, images, processor, target="cpu")
    int8 = make(frozenset(), folder / "demo.int8.onnx")
    batch = np.stack([processor.prepare(image) for image in pictures[count:]])
    tries: dict[str, tuple[str, Path, RuntimeOptions]] = {
        "openvino bf16": ("openvino", fp32, RuntimeOptions("cpu", "bf16")),
        "openvino int8": ("openvino", int8, RuntimeOptions("cpu", "int8")),
        "openvino int8+bf16": ("openvino", int8, RuntimeOptions("cpu", "int8", rest="bf16")),
        "onnxruntime int8": ("onnxruntime", int8, RuntimeOptions("cpu", "int8")),
    }
    with load_runtime("onnxruntime", fp32, RuntimeOptions("cpu")) as reference:
        expected = reference.run(batch)
    found: dict[str, float] = {}
    for name, (backend, path, options) in tries.items():
        with contextlib.suppress(GlpnError), load_runtime(backend, path, options) as runtime:
            if runtime.precision == options.precision:
                found[name] = error_stats(runtime.run(batch), expected).abs_rel
    return found


def limited(folder: Path) -> dict[str, str]:
    """Whether depth comes out without AVX-512: "runs", or what was said instead.

    By a setting, which limits torch and makes ``auto`` leave OpenVINO out; and on an emulated processor,
    where there is an emulator: 100 times slower, hence the demo network on a small room.
    """
    bundle = to_onnx(GLPNForDepthEstimation.from_pretrained("demo"), folder / "limited.onnx")
    (room,) = RenderedRooms("test", 1, height=96, width=128)
    Image.fromarray(room.image).save(folder / "room.png")
    found = {}

    def attempt(name: str, source: str | Path, backend: str, **how: Any) -> None:
        try:
            run = cpu_runs.predict(Path(source), folder / "room.png", "--backend", backend, **how)
            found[name] = f"runs ({run.told['runtime']['backend']})" if backend == "auto" else "runs"
        except GlpnError as error:
            found[name] = str(error)

    attempt("torch, by setting", "demo", "torch", environment=LIMIT)
    attempt("auto, by setting", bundle, "auto", environment=LIMIT)
    if shutil.which(EMULATOR[0]) is not None:
        for backend in ("onnxruntime", "openvino"):
            if BACKENDS[backend].missing() is None:
                attempt(f"{backend}, emulated", bundle, backend, emulator=EMULATOR)
    return found


class Besides:
    """What is measured as whole processes, part by part.

    Args:
        options: Of the run.
        files: What is run.
        folder: For what is written meanwhile.
    """

    def __init__(self, options: Options, files: Files, folder: Path) -> None:
        self.options, self.files, self.folder = options, files, folder
        self.threads = () if options.threads is None else ("--threads", str(options.threads))
        self.one, self.shape = Path(files.images[0]), (1, 3, *options.size)

    def start(self) -> dict[str, Any]:
        """The command on one photograph: OpenVINO by precision, and what ``auto`` takes."""
        from glpn_deploy.runtimes.rt_openvino import native_precisions  # where it is installed

        repeats = 2 if self.options.quick else 7
        found: dict[str, Any] = {
            precision: cpu_runs.warm_start(
                *(self.files.fp32, self.one, repeats),
                *("--backend", "openvino", "--precision", precision, *self.threads),
            )
            for precision in ("fp32", "bf16")
            if precision in native_precisions()
        }
        run = cpu_runs.predict(self.files.fp32, self.one, *self.threads)
        return {**found, "auto": {**run.told["runtime"], "first_s": run.first_s}}

    def end_to_end(self) -> dict[str, float]:
        """The command on many photographs, against the bare network of the same backend."""
        count, many = 6 if self.options.quick else 100, self.folder / "many"
        many.mkdir()
        for number in range(count):
            picture = np.asarray(Image.open(self.files.images[number % len(self.files.images)]))
            Image.fromarray(np.roll(picture, number, axis=1)).save(many / f"{number:03d}.jpg", quality=92)
        told = cpu_runs.predict(self.files.fp32, self.one, *self.threads).told
        backend, seconds = str(told["runtime"]["backend"]), 1.0 if self.options.quick else 20.0

        def bare() -> float:
            arguments = (backend, self.files.fp32, self.shape, self.options.threads, seconds)
            return 1 / float(cpu_runs.alone(cpu_runs.bare_rate, *arguments))

        return cpu_runs.end_to_end(self.files.fp32, many, self.one, count, bare, *self.threads)

    def streams(self) -> dict[str, Any]:
        """Two callers side by side."""
        seconds = 1.0 if self.options.quick else 20.0
        return {
            name: cpu_runs.alone(
                cpu_runs.streams, name, self.files.fp32, self.shape, self.options.threads, 2, seconds
            )
            for name in ("openvino", "onnxruntime")
            if BACKENDS[name].missing() is None
        }

    def profile(self) -> dict[str, Any]:
        """Milliseconds by kind of operator."""
        threads, found = self.options.threads, {}
        if BACKENDS["openvino"].missing() is None:
            for name, path in (
                ("fp32", self.files.fp32),
                ("bf16", self.files.fp32),
                ("int8", self.files.int8),
            ):
                arguments = (path, self.shape, threads, name)
                found[f"openvino {name}"] = cpu_runs.alone(cpu_profile.openvino_profile, *arguments)
        found["onnxruntime fp32"] = cpu_runs.alone(
            cpu_profile.onnxruntime_profile, self.files.fp32, self.shape, threads
        )
        return found
