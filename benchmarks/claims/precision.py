"""What lower precisions cost: the demo network's accuracy as the types say, through the emulation.

On 500 test rooms that no range was found on, with nothing kept in a higher precision; of the graphs that
``glpn-export`` makes them of, in TensorRT's own form and opset where they are for TensorRT.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glpn_deploy import progress
from glpn_deploy.benchmarks.claims.running import FigureOptions
from glpn_deploy.datasets.registry import open_dataset
from glpn_deploy.exporters.calibration.image_sets import ImageSet, Pictures, choose_images
from glpn_deploy.exporters.options import MIN_OPSET, OnnxOptions, Target
from glpn_deploy.exporters.search.recipes import least_opset, make_recipe
from glpn_deploy.exporters.to_onnx import to_onnx
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.model.modeling import GLPNForDepthEstimation
from glpn_deploy.precisions import Precision
from glpn_deploy.proof.checks.ground_truth import GroundTruth
from glpn_deploy.proof.checks.images import FP32Depth

CALIBRATION_IMAGES = 128
FORMS: dict[str, tuple[Precision, Target]] = {
    "fp16": ("fp16", "tensorrt"),
    "bf16": ("bf16", "tensorrt"),
    "int8": ("int8", "tensorrt"),
    "int8-cpu": ("int8", "cpu"),
    "fp8": ("fp8", "tensorrt"),
}
SOURCES = {
    name: OnnxOptions(least_opset(*form), form="any" if form[1] == "cpu" else "tensorrt")
    for name, form in FORMS.items()
}
"""How the FP32 graph is written that each is made of."""


def make(name: str, source: Path, target: Path, images: Pictures) -> Path:
    """Writes one form of an FP32 graph; nothing is kept in a higher precision."""
    precision, engine = FORMS[name]
    given = ImageSet(images, (), "rendered rooms")
    recipe = make_recipe(precision, source, given, GLPNImageProcessor(), target=engine)
    return recipe.write(frozenset(), target)


def measure(options: FigureOptions) -> dict[str, Any]:
    """The demo network on 500 test rooms: against its own FP32 depth, and against the truth."""
    folder, rooms = options.folder, open_dataset("rooms")
    model, processor = GLPNForDepthEstimation.from_pretrained("demo"), GLPNImageProcessor()
    images = [rooms[index].image for index in range(len(rooms))]
    fp32 = to_onnx(model, folder / "demo.onnx", OnnxOptions(MIN_OPSET))
    graphs = {
        source: to_onnx(model, folder / f"demo.{source.form}.{source.opset}.onnx", source)
        for source in dict.fromkeys(SOURCES.values())
    }
    reference = FP32Depth(fp32, images, processor)
    truth = GroundTruth(rooms, fp32, processor)
    chosen = choose_images(None, processor, ranges=CALIBRATION_IMAGES, demo=True).calibration
    forms = {}
    for name, source in SOURCES.items():
        with progress.step(name):
            target = make(name, graphs[source], folder / f"demo.{name}.onnx", chosen)
            found = truth.check(FORMS[name][0], target)
            forms[name] = {
                **reference.errors(target).to_dict(),
                "delta1_truth": found.delta1,
                "delta1_truth_fp32": found.delta1_fp32,
            }
    return {"images": len(images), "calibration_images": len(chosen), "forms": forms}
