"""Measures what a CPU is asked to reach, in turns in one run, and prints it beside what is asked.

    python -m glpn_deploy.benchmarks.cpu_figures --out benchmarks/results

Needs the test extra (transformers, scikit-image) and psutil. Random weights in glpn-nyu's architecture
stand in for the checkpoint unless one is given; time and memory do not depend on them. Rows run in
processes of their own, one burst of each a round (`glpn_deploy.benchmarks.rounds`). Optimum is taken where
it is installed here or in the Python given; otherwise HF's network exported by torch.onnx stands in.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from glpn_deploy.atomic import atomic_path
from glpn_deploy.benchmarks import cpu_runs
from glpn_deploy.benchmarks.cpu_rows import Files, Options, measure, prepare
from glpn_deploy.benchmarks.cpu_verdicts import Figure, judge
from glpn_deploy.benchmarks.environment import describe_environment
from glpn_deploy.checkpoint import load_model
from glpn_deploy.datasets.rooms import RenderedRooms
from glpn_deploy.error_stats import error_stats
from glpn_deploy.errors import GlpnError
from glpn_deploy.exporters.image_sets import ImageSet
from glpn_deploy.exporters.recipes import maker
from glpn_deploy.exporters.to_onnx import to_onnx
from glpn_deploy.image_processing import GLPNImageProcessor
from glpn_deploy.progress import Progress, Step
from glpn_deploy.runtimes.base import Precision, RuntimeOptions
from glpn_deploy.runtimes.processor import cpu_flags
from glpn_deploy.runtimes.registry import BACKENDS, load_runtime

LIMIT = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
"""What keeps OpenVINO's and torch's kernels from newer instructions; ONNX Runtime has no such switch."""


class Lines:
    """Progress as lines on standard error, one when a step ends."""

    @contextlib.contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Step]:
        """A step of which the end is printed."""
        begin, line = time.perf_counter(), _Line()
        yield line
        print(f"{title} ({time.perf_counter() - begin:.0f} s) {line.said}", file=sys.stderr, flush=True)


class _Line:
    said = ""

    def advance(self, detail: str = "") -> None:
        """Nothing is printed."""

    def finish(self, summary: str) -> None:
        """Kept for the step's line."""
        self.said = summary


def accuracy(folder: Path, quick: bool, progress: Progress) -> dict[str, float]:
    """AbsRel of the demo network in bf16 and INT8 against FP32, on rendered rooms; what runs here."""
    height, width = (96, 128) if quick else (240, 320)
    processor = GLPNImageProcessor()
    fp32 = to_onnx(load_model("demo"), folder / "demo.onnx")
    count = 4 if quick else 32
    pictures = [sample.image for sample in RenderedRooms("val", 2 * count, height=height, width=width)]
    images = ImageSet(tuple(pictures[:count]), (), "rendered rooms")
    make, _ = maker("int8", fp32, images, processor, target="cpu")
    int8 = make(frozenset(), folder / "demo.int8.onnx")
    batch = np.stack([processor.prepare(image) for image in pictures[count:]])
    found: dict[str, float] = {}
    tries = (("onnxruntime", "int8", int8), ("openvino", "bf16", fp32))
    with progress.step("accuracy of the demo network") as step:
        with load_runtime("onnxruntime", fp32, RuntimeOptions("cpu")) as reference:
            expected = reference.run(batch)
        precision: Precision
        for backend, precision, path in tries:  # type: ignore[assignment]
            with (
                contextlib.suppress(GlpnError),
                load_runtime(backend, path, RuntimeOptions("cpu", precision)) as runtime,
            ):
                if runtime.precision == precision:
                    found[precision] = error_stats(runtime.run(batch), expected).abs_rel
        step.finish(", ".join(f"{name} {value:.4f}" for name, value in found.items()))
    return found


def besides(options: Options, files: Files, folder: Path, progress: Progress) -> dict[str, Any]:
    """What is measured as whole processes: start, end to end, two streams, ``auto``, limited instructions."""
    one, count, extra = Path(files.images[0]), 6 if options.quick else 100, {}
    threads = () if options.threads is None else ("--threads", str(options.threads))
    many = folder / "many"
    many.mkdir()
    for number in range(count):
        picture = np.asarray(Image.open(files.images[number % len(files.images)]))
        Image.fromarray(np.roll(picture, number, axis=1)).save(many / f"{number:03d}.jpg", quality=92)
    parts: dict[str, Callable[[], Any]] = {}
    _, told = cpu_runs.predict(files.fp32, one, *threads)
    extra["auto"] = told["runtime"]
    chosen = str(told["runtime"]["backend"])
    shape = (1, 3, *options.size)

    def bare() -> float:
        seconds = 1.0 if options.quick else 20.0
        return float(
            1 / cpu_runs.alone(cpu_runs.bare_rate, chosen, files.fp32, shape, options.threads, seconds)
        )

    parts["warm_start"] = lambda: cpu_runs.warm_start(
        files.fp32, one, 2 if options.quick else 7, "--backend", "openvino", *threads
    )
    parts["end_to_end"] = lambda: cpu_runs.end_to_end(files.fp32, many, one, count, bare, *threads)
    parts["streams"] = lambda: {
        name: cpu_runs.alone(
            cpu_runs.streams, name, files.fp32, shape, options.threads, 2, 1.0 if options.quick else 20.0
        )
        for name in ("openvino", "onnxruntime")
        if BACKENDS[name].missing() is None
    }
    parts["limited"] = lambda: bool(cpu_runs.predict(files.fp32, one, environment=LIMIT)) and "runs"
    for name, part in parts.items():
        with progress.step(name.replace("_", " ")) as step:
            try:
                extra[name] = part()
                step.finish("")
            except GlpnError as error:
                extra[name] = str(error) if name == "limited" else None
                step.finish(str(error))
    return extra


def tables(rows: dict[str, Any], ceilings: dict[str, float], figures: Sequence[Figure]) -> list[Table]:
    """The rows, and the figures asked for."""
    first = Table(title=f"ceilings: FP32 {ceilings['fp32']:.0f}, bf16 {ceilings['bf16']:.0f} GFLOP/s")
    for head in ("row", "median ms", "images/s", "x export", "x HF eager", "of ceiling", "peak GB"):
        first.add_column(head, justify="left" if head == "row" else "right")
    forms = {"median_ms": ".0f", "images_per_s": ".2f", "over_export": ".2f", "over_eager": ".2f"}
    for name, found in rows.items():
        if "not_run" in found:
            first.add_row(name, "not run", *[""] * 4, found["not_run"][:60])
            continue
        cells = [format(found[key], form) if key in found else "" for key, form in forms.items()]
        share = f"{found['of_ceiling']:.0%}" if "of_ceiling" in found else ""
        first.add_row(name, *cells, share, f"{found['peak_gb']:.2f}" if found["peak_gb"] else "")
    second = Table("figure", "asked", "measured", "verdict", "note", title="asked and measured")
    for figure in figures:
        second.add_row(figure.name, figure.asked, figure.text, figure.verdict, figure.note)
    return [first, second]


def report(options: Options, progress: Progress) -> tuple[dict[str, Any], list[Table]]:
    """Measures everything; gives the JSON and the tables."""
    begin, environment = time.perf_counter(), describe_environment()
    flags = cpu_flags()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = prepare(options, folder, progress)
        rows, ceilings = measure(options, files, progress)
        extra = besides(options, files, folder, progress)
        extra["accuracy"] = accuracy(folder, options.quick, progress)
        stand_in = files.export is not None
    figures = judge(rows, extra, flags, stand_in=stand_in)
    content = {
        "format": "glpn-deploy-cpu-figures",
        "format_version": 1,
        "environment": environment,
        "settings": {**dataclasses.asdict(options), "optimum": not stand_in},
        "seconds": round(time.perf_counter() - begin),
        "ceilings_gflops_per_s": ceilings,
        "rows": rows,
        **extra,
        "figures": [dataclasses.asdict(figure) for figure in figures],
    }
    return content, tables(rows, ceilings, figures)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints the tables and writes the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkpoint", help="a checkpoint (default: glpn-nyu's architecture, random weights)"
    )
    parser.add_argument("--size", default="480x640", help="HEIGHTxWIDTH (default 480x640)")
    parser.add_argument("--threads", type=int, help="threads of every row (default: all cores)")
    parser.add_argument("--quick", action="store_true", help="few repeats: a trial, not for the record")
    parser.add_argument("--optimum", metavar="PYTHON", help="a Python with Optimum and this package")
    parser.add_argument("--out", type=Path, help="folder for cpu_figures.json")
    given = parser.parse_args(arguments)
    match = re.fullmatch(r"(\d+)x(\d+)", given.size)
    if match is None or any(int(side) % 32 or not int(side) for side in match.groups()):
        parser.error(f"--size {given.size}: two multiples of 32, as 480x640")
    size = (int(match[1]), int(match[2]))
    console = Console(width=None if Console().is_terminal else 160)
    options = Options(given.checkpoint, size, given.threads, given.quick, given.optimum)
    content, printed = report(options, Lines())
    for table in printed:
        console.print(table)
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        with atomic_path(given.out / "cpu_figures.json") as path:
            path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        console.print(str(given.out / "cpu_figures.json"))


if __name__ == "__main__":
    main()
