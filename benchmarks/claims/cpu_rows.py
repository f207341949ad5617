"""The rows of `cpu_figures`: what they run, and how they are measured in turns."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from glpn_deploy import progress
from glpn_deploy.benchmarks.claims import cpu_runs
from glpn_deploy.benchmarks.claims.figures import export_with_transformers, hf_twin, photographs
from glpn_deploy.benchmarks.claims.random_network import NYU, random_model
from glpn_deploy.benchmarks.machine.gpu import Gpu
from glpn_deploy.benchmarks.machine.machine_state import Watch
from glpn_deploy.benchmarks.measuring.latency_stats import Rounds, ratio_in_turns, summarise
from glpn_deploy.benchmarks.measuring.rounds import Live, RoundOptions, measure_rounds
from glpn_deploy.benchmarks.measuring.worker_process import WorkerProcess
from glpn_deploy.benchmarks.workload.cases import CALIBRATION, PEERS, Case, load_limit_s
from glpn_deploy.benchmarks.workload.ceilings import count_flops
from glpn_deploy.errors import BackendError
from glpn_deploy.exporters.calibration.image_sets import ImageSet
from glpn_deploy.exporters.search.recipes import maker
from glpn_deploy.exporters.to_onnx import to_onnx
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.model.modeling import GLPNForDepthEstimation
from glpn_deploy.runtimes.base import Precision, Rest
from glpn_deploy.timing.order_statistics import FEWEST

EXPORT, EAGER = "export", "hf-eager fp32"


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        checkpoint: A checkpoint, or None for random weights in glpn-nyu's architecture.
        size: Height and width [px], multiples of 32.
        threads: Threads of every row; None for all cores.
        quick: Few rounds, photographs and calibration images: a trial, not for the record.
        optimum: A Python that has Optimum and this package, or None for this one.
    """

    checkpoint: str | None = None
    size: tuple[int, int] = (480, 640)
    threads: int | None = None
    quick: bool = False
    optimum: str | None = None

    @property
    def rounds(self) -> RoundOptions:
        """When the rounds stop."""
        if self.quick:
            return RoundOptions(half_width=0.5, seconds=2.0, fewest=FEWEST)
        return RoundOptions(half_width=0.01, seconds=30.0)


@dataclasses.dataclass(frozen=True)
class Files:
    """What the rows run."""

    checkpoint: Path
    fp32: Path
    int8: Path
    images: tuple[str, ...]
    export: Path | None


def prepare(options: Options, folder: Path) -> Files:
    """Writes the checkpoint, the graphs and the photographs."""
    height, width = options.size
    with progress.step("checkpoint, graphs, photographs") as step:
        model = (
            random_model(NYU, 0)
            if options.checkpoint is None
            else GLPNForDepthEstimation.from_pretrained(options.checkpoint)
        )
        model.save_pretrained(folder / "checkpoint")
        fp32 = to_onnx(model, folder / "model.onnx")
        pictures = [
            np.asarray(ImageOps.fit(Image.fromarray(image), (width, height))) for image in photographs()
        ]
        (folder / "images").mkdir()
        names = []
        for number, picture in enumerate(pictures):
            names.append(str(folder / "images" / f"{number}.png"))
            Image.fromarray(picture).save(names[-1])
        int8 = quantise(fp32, folder / "model.int8.onnx", tuple(pictures), options.quick)
        export = None
        if not has_optimum(options):
            step.advance("HF's export")
            export = folder / "export.onnx"
            export_with_transformers(hf_twin(model), export)
        step.finish("")
    return Files(folder / "checkpoint", fp32, int8, tuple(names), export)


def quantise(fp32: Path, target: Path, pictures: tuple[Any, ...], quick: bool) -> Path:
    """The INT8 graph for CPUs; ranges from the pictures, which is enough where only time is asked for."""
    images = ImageSet(pictures[:2] if quick else pictures, (), "photographs")
    make, _ = maker("int8", fp32, images, GLPNImageProcessor(), target="cpu")
    return make(frozenset(), target)


def has_optimum(options: Options) -> bool:
    """Whether Optimum's own export can be measured."""
    if options.optimum is not None:
        return True
    with contextlib.suppress(ModuleNotFoundError):
        return importlib.util.find_spec(PEERS["optimum"]) is not None
    return False


def cases(options: Options, files: Files) -> dict[str, Case]:
    """The rows by name; the first is what others are compared with.

    ``int8+bf16`` is the INT8 graph with what is not quantised in bf16.
    """
    height, width = options.size

    def case(backend: str, precision: Precision, path: Path, batch: int = 1, rest: Rest = "fp32") -> Case:
        processor = GLPNImageProcessor().to_dict()
        return Case(
            backend,
            precision,
            batch,
            height,
            width,
            str(path),
            "cpu",
            options.threads,
            files.images,
            processor,
            rest=rest,
        )

    peer = case("optimum", "fp32", files.checkpoint)
    rows = {
        EXPORT: peer if files.export is None else case("onnxruntime", "fp32", files.export),
        EAGER: case("hf-eager", "fp32", files.checkpoint),
        "torch fp32": case("torch", "fp32", files.checkpoint),
    }
    for backend in ("onnxruntime", "openvino"):
        rows[f"{backend} fp32"] = case(backend, "fp32", files.fp32)
        rows[f"{backend} fp32 batch 8"] = case(backend, "fp32", files.fp32, batch=8)
        rows[f"{backend} int8"] = case(backend, "int8", files.int8)
    rows["openvino int8+bf16"] = case("openvino", "int8", files.int8, rest="bf16")
    rows["openvino bf16"] = case("openvino", "bf16", files.fp32)
    return rows


def measure(options: Options, files: Files) -> tuple[dict[str, Any], dict[str, float]]:
    """All rows in turns, with the FP32 matrix product in every round.

    Returns:
        The rows by name, and the ceilings ``fp32``, ``bf16`` and ``int8`` [10^9 operations/s]. For FP32 that
        is the fastest product of a round, the middle one of all rounds: the first ones after another row's
        burst find their matrices gone from the caches (137 where the fastest reach 190).
    """
    height, width = options.size
    product = Case(CALIBRATION, "fp32", 1, height, width, device="cpu", threads=options.threads)
    planned = {**cases(options, files), CALIBRATION: product}
    rows: dict[str, Any] = {name: {"not_run": "not started"} for name in planned if name != CALIBRATION}
    before = narrow_ceilings(options)
    with contextlib.ExitStack() as stack:
        lives: dict[str, Live] = {}
        for name, case in planned.items():
            with progress.step(f"load {name}") as step:
                try:
                    python = options.optimum if case.backend == "optimum" else None
                    worker = stack.enter_context(WorkerProcess(python or sys.executable))
                    loaded = worker.ask("load", load_limit_s(case), case=case.to_dict())
                    lives[name] = Live(case, worker, loaded, peak_mib=loaded["peak_mib"])
                    lives[name].prepare()
                    step.finish(f"{loaded['load_s']:.1f} s" if "load_s" in loaded else "")
                except BackendError as error:
                    lives.pop(name, None)
                    rows[name] = {"not_run": str(error)}
                    step.finish("not run")
        measure_rounds(list(lives.values()), 0, options.rounds, Watch(), None, Gpu(), "rounds")
    ceilings = {name: max(rate, before[name]) for name, rate in narrow_ceilings(options).items()}
    calibration = lives.get(CALIBRATION)
    if calibration is None or not calibration.samples:
        raise BackendError("the matrix product that every round is measured against did not run")
    fastest = statistics.median(min(burst) for burst in calibration.samples.values())
    ceilings["fp32"] = calibration.loaded["flops"] / fastest / 1e6
    flops = count_flops(GLPNForDepthEstimation.from_pretrained(files.checkpoint).config, height, width)
    for name, live in lives.items():
        if name != CALIBRATION:
            rows[name] = row(live, {key: other.samples for key, other in lives.items()}, flops, ceilings)
    return rows, ceilings


def narrow_ceilings(options: Options) -> dict[str, float]:
    """The matrix products that are narrower than FP32 [10^9 operations/s]."""
    return {name: cpu_runs.alone(cpu_runs.product_rate, name, options.threads) for name in ("bf16", "int8")}


def row(
    live: Live, samples: dict[str, Rounds], flops: int | None, ceilings: dict[str, float]
) -> dict[str, Any]:
    """What is said of one row: time, ratios round by round, share of the ceiling, memory."""
    if live.failed is not None or not live.samples:
        return {"not_run": live.failed or "no run in the time there was"}
    latency, batch = summarise(live.samples), live.case.batch
    found = {**dataclasses.asdict(latency), "images_per_s": 1e3 * batch / latency.median_ms}
    found["peak_gb"] = None if live.peak_mib is None else live.peak_mib * 2**20 / 1e9
    units = {"over_export": EXPORT, "over_eager": EAGER}
    if batch > 1:
        units["over_batch_1"] = live.case.runner
    for key, unit in units.items():
        ratio = ratio_in_turns(live.samples, samples.get(unit, {}))
        if ratio is not None:
            faster = ratio.inverse()
            found[key] = faster.value * batch
            found[f"{key}_interval"] = [end and end * batch for end in (faster.low, faster.high)]
    if flops is not None and live.case.precision in ceilings:
        found["gflops_per_s"] = flops * batch / latency.median_ms / 1e6
        found["of_ceiling"] = found["gflops_per_s"] / ceilings[live.case.precision]
    return found
