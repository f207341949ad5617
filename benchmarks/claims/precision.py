"""What lower precisions cost: the demo network's accuracy, size and conversion of glpn-nyu's architecture.

    python -m glpn_deploy.benchmarks.claims.precision --out benchmarks/results

Accuracy is taken as the types say, through the emulation, on test rooms that no range was found on. Cost
is taken in a process of its own a precision, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import onnx

from glpn_deploy.benchmarks.machine.environment import describe_environment
from glpn_deploy.datasets.registry import open_dataset
from glpn_deploy.datasets.rooms import RenderedRooms
from glpn_deploy.exporters.calibration.image_sets import ImageSet, Pictures, choose_images
from glpn_deploy.exporters.search.recipes import LEAST_OPSET, LowPrecision, maker
from glpn_deploy.exporters.to_int8 import Target
from glpn_deploy.exporters.to_onnx import MIN_OPSET, OnnxOptions, to_onnx
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.model.modeling import GLPNForDepthEstimation
from glpn_deploy.proof.judges.judging import Judge
from glpn_deploy.proof.judges.truth import Truth
from glpn_deploy.training.start import preset

NYU = preset("mit-b4")
CALIBRATION_IMAGES, COST_IMAGES = 128, 32
COSTLY = ("fp16", "bf16", "int8")  # the CPU and FP8 forms look for the same ranges as INT8
FORMS: dict[str, tuple[LowPrecision, Target]] = {
    "fp16": ("fp16", "tensorrt"),
    "bf16": ("bf16", "tensorrt"),
    "int8": ("int8", "tensorrt"),
    "int8-cpu": ("int8", "cpu"),
    "fp8": ("fp8", "tensorrt"),
}
OPSETS = {name: LEAST_OPSET[precision] for name, (precision, _) in FORMS.items()}


def make(name: str, source: Path, target: Path, images: Pictures) -> Path:
    """Writes one form of an FP32 graph; nothing is kept in a higher precision."""
    precision, engine = FORMS[name]
    given = ImageSet(images, (), "rendered rooms")
    write, _ = maker(precision, source, given, GLPNImageProcessor(), target=engine)
    return write(frozenset(), target)


def accuracy(folder: Path) -> dict[str, Any]:
    """The demo network on 500 test rooms: against its own FP32 depth, and against the truth."""
    model, processor, rooms = (
        GLPNForDepthEstimation.from_pretrained("demo"),
        GLPNImageProcessor(),
        open_dataset("rooms"),
    )
    images = [rooms[index].image for index in range(len(rooms))]
    graphs = {
        opset: to_onnx(model, folder / f"demo.{opset}.onnx", OnnxOptions(opset))
        for opset in sorted(set(OPSETS.values()))
    }
    judge = Judge(graphs[MIN_OPSET], images, processor)
    truth = Truth(rooms, graphs[MIN_OPSET], processor)
    chosen = choose_images(None, processor, ranges=CALIBRATION_IMAGES, demo=True).calibration
    result: dict[str, Any] = {"images": len(images), "calibration_images": len(chosen)}
    for name, opset in OPSETS.items():
        target = make(name, graphs[opset], folder / f"demo.{name}.onnx", chosen)
        found = truth.accuracy(target, FORMS[name][0], folder)
        result[name] = {
            **judge.errors(target, folder).to_dict(),
            "delta1_truth": found.delta1,
            "delta1_truth_fp32": found.delta1_fp32,
            "bytes_share": target.stat().st_size / graphs[opset].stat().st_size,
        }
        print(name, json.dumps(result[name]), flush=True)
    return result


def cost(name: str, source: Path, target: Path) -> dict[str, Any]:
    """Time, peak memory and size of one conversion of glpn-nyu's architecture; run in its own process."""
    rooms = RenderedRooms("val", COST_IMAGES, height=480, width=640)
    images = () if name in ("fp16", "bf16") else tuple(sample.image for sample in rooms)
    begin = time.perf_counter()
    make(name, source, target, images)
    seconds = time.perf_counter() - begin
    graph = onnx.load(str(target), load_external_data=False).graph
    return {
        "seconds": round(seconds, 1),
        "images": len(images),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "nodes": len(graph.node),
        "casts": sum(node.op_type == "Cast" for node in graph.node),
        "bytes_share": target.stat().st_size / source.stat().st_size,
    }


def costs(folder: Path) -> dict[str, Any]:
    """`cost` of one process a precision."""
    model = GLPNForDepthEstimation(NYU).eval()
    result = {}
    for name in COSTLY:
        opset = OPSETS[name]
        source = folder / f"nyu.{opset}.onnx"
        if not source.exists():
            to_onnx(model, source, OnnxOptions(opset))
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            result[name] = pool.apply(cost, (name, source, folder / f"nyu.{name}.onnx"))
        print(name, json.dumps(result[name]), flush=True)
    return result


def main() -> None:
    """Measures and writes the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for precision.json")
    options = parser.parse_args()
    report: dict[str, Any] = {
        "format": "glpn-deploy-precision",
        "format_version": 1,
        "environment": describe_environment(),
    }
    with tempfile.TemporaryDirectory() as folder:
        report["demo_accuracy"] = accuracy(Path(folder))
        report["glpn_nyu_architecture_cost"] = costs(Path(folder))
    path = options.out / "precision.json"
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
