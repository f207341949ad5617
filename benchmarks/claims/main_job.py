"""The figures of the main job: nearness to transformers, export, latency in ONNX Runtime, start-up.

transformers is the oracle, scikit-image brings the photographs. Random weights stand in for glpn-nyu's, which
changes no time and no shape; norms and BatchNorm statistics are made random as well, so that what the export
folds is put to the test.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import skimage.data
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image

from glpn_deploy import progress
from glpn_deploy.benchmarks.claims.random_network import NYU, random_model
from glpn_deploy.benchmarks.claims.running import FigureOptions, run_command
from glpn_deploy.estimator import DepthEstimator
from glpn_deploy.exporters.options import OnnxOptions
from glpn_deploy.exporters.to_onnx import to_onnx
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.model.config import GLPNConfig
from glpn_deploy.model.modeling import GLPNForDepthEstimation
from glpn_deploy.proof.parity import compare, fp32_budget, sweep_batches
from glpn_deploy.runtimes.base import RuntimeOptions
from glpn_deploy.runtimes.onnx_file.header import read_header
from glpn_deploy.runtimes.rt_null import NullRuntime
from glpn_deploy.runtimes.rt_onnxruntime import OnnxRuntime
from glpn_deploy.runtimes.rt_torch import TorchRuntime
from glpn_deploy.timing.turns import in_turns, median_ratio

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket", "motorcycle_left")


def random_config(rng: np.random.Generator) -> GLPNConfig:
    """A small random architecture."""
    heads = rng.integers(1, 4, 4)
    hidden = tuple(int(h * rng.integers(4, 13)) for h in heads)
    return GLPNConfig(
        depths=tuple(int(d) for d in rng.integers(1, 4, 4)),
        sr_ratios=tuple(int(rng.choice(choice)) for choice in ((1, 2, 4, 8), (1, 2, 4), (1, 2), (1,))),
        hidden_sizes=hidden,
        num_attention_heads=tuple(int(h) for h in heads),
        mlp_ratios=tuple(int(r) for r in rng.integers(1, 5, 4)),
        decoder_hidden_size=int(rng.choice([8, 16, 24])),
        max_depth=float(rng.choice([1, 10, 80])),
    )


def hf_twin(model: GLPNForDepthEstimation) -> Any:
    """Transformers' network with the same weights."""
    config = {k: v for k, v in model.config.to_dict().items() if k not in ("architectures", "model_type")}
    twin = transformers.GLPNForDepthEstimation(transformers.GLPNConfig(**config))
    twin.load_state_dict(model.state_dict(), strict=True)
    return twin.eval()


def against_transformers(count: int = 24) -> dict[str, Any]:
    """Largest difference from transformers over random configurations and sizes, as a share of max_depth."""
    rng = np.random.default_rng(0)
    worst = dict.fromkeys(("depth", "hidden_states", "attentions", "loss"), 0.0)
    for seed in range(count):
        model = random_model(random_config(rng), seed)
        size = [int(s) * 32 for s in rng.integers(1, 6, 2)]
        x = torch.rand(int(rng.integers(1, 3)), 3, *size)
        labels = torch.rand(x.shape[0], *size) * model.config.max_depth
        options = {"labels": labels, "output_hidden_states": True, "output_attentions": True}
        with torch.inference_mode():
            ours, theirs = model(x, **options), hf_twin(model)(x, **options)
        pairs = {
            "depth": [
                (
                    ours.predicted_depth / model.config.max_depth,
                    theirs.predicted_depth / model.config.max_depth,
                )
            ],
            "hidden_states": zip(ours.hidden_states, theirs.hidden_states, strict=True),
            "attentions": zip(ours.attentions, theirs.attentions, strict=True),
            "loss": [(ours.loss, theirs.loss)],
        }
        for name, values in pairs.items():
            worst[name] = max(worst[name], *(float((a - b).abs().max()) for a, b in values))
    return {"configurations": count, "max_difference": worst}


def photographs() -> list[NDArray[np.uint8]]:
    """Real photographs that scikit-image ships."""
    left, _, _ = skimage.data.stereo_motorcycle()
    return [left if name == "motorcycle_left" else getattr(skimage.data, name)() for name in PHOTOGRAPHS]


def against_pipeline(folder: Path) -> dict[str, Any]:
    """Largest difference from ``pipeline("depth-estimation")`` at the photographs' own sizes."""
    model = random_model(GLPNConfig(), 0)
    model.save_pretrained(folder / "small")
    pipe = transformers.pipeline(
        "depth-estimation",
        model=hf_twin(model),
        image_processor=transformers.models.glpn.image_processing_pil_glpn.GLPNImageProcessorPil(),
    )
    worst = 0.0
    with DepthEstimator.load(folder / "small") as estimator:
        for image in photographs():
            theirs = pipe(Image.fromarray(image))["predicted_depth"].numpy()
            worst = max(worst, float(np.abs(estimator(image).depth - theirs).max()))
    return {"photographs": len(PHOTOGRAPHS), "max_difference": worst / model.config.max_depth}


def export_with_transformers(twin: Any, path: Path) -> float:
    """Exports HF's network with torch.onnx.export; returns the seconds it took."""

    class DepthOnly(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = twin

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            depth: torch.Tensor = self.model(pixel_values).predicted_depth
            return depth

    sides = {0: torch.export.Dim("batch"), 2: 32 * torch.export.Dim("h32"), 3: 32 * torch.export.Dim("w32")}
    start = time.perf_counter()
    program = torch.onnx.export(
        DepthOnly().eval(), (torch.rand(2, 3, 96, 128),), dynamo=True, dynamic_shapes=(sides,), verbose=False
    )
    assert program is not None
    program.save(str(path), external_data=False)
    return time.perf_counter() - start


def export_and_latency(folder: Path, rounds: int = 7) -> dict[str, Any]:
    """glpn-nyu's architecture: export time and nodes, and ONNX Runtime's latency beside HF's export."""
    model = random_model(NYU, 0)
    model.save_pretrained(folder / "nyu")
    start = time.perf_counter()
    run_command("export", folder / "nyu", folder / "bundle", "--no-verify")
    seconds = time.perf_counter() - start
    hf_seconds = export_with_transformers(hf_twin(model), folder / "hf.onnx")
    files = {"hf": folder / "hf.onnx"}
    for opset in (17, 20, 23):
        files[f"opset{opset}"] = to_onnx(model, folder / f"opset{opset}.onnx", OnnxOptions(opset=opset))
    x = GLPNImageProcessor().prepare(np.ascontiguousarray(skimage.data.astronaut()[:480]))[None]
    x = np.ascontiguousarray(np.concatenate([x, x[..., :128]], axis=3))  # 480x640
    sessions = {
        name: ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for name, path in files.items()
    }

    def runner(session: ort.InferenceSession) -> Callable[[], object]:
        return lambda: session.run(None, {session.get_inputs()[0].name: x})

    samples = in_turns({name: runner(session) for name, session in sessions.items()}, rounds)
    return {
        "glpn_export_s": seconds,
        "hf_export_s": hf_seconds,
        "nodes": {name: read_header(path).nodes for name, path in files.items()},
        "median_ms": {name: statistics.median(values) for name, values in samples.items()},
        "times_as_fast_as_hf": {
            name: median_ratio(samples["hf"], values) for name, values in samples.items()
        },
    }


def sweep(folder: Path) -> dict[str, Any]:
    """ONNX Runtime against the reference over the shape sweep, glpn-nyu's architecture."""
    model = random_model(NYU, 1)
    path = to_onnx(model, folder / "sweep.onnx")
    with OnnxRuntime(path, RuntimeOptions(device="cpu")) as candidate:
        batches, limit = sweep_batches(GLPNImageProcessor(), 32), fp32_budget(NYU.max_depth)
        report = compare(candidate, TorchRuntime(model), batches, limit)
    worst = report.worst.stats.max_abs_m / NYU.max_depth
    return {"cases": len(report.cases), "max_difference": worst}


def start_up() -> dict[str, Any]:
    """Cost of ``import glpn_deploy`` over numpy, and of ``glpn-export --help``."""

    def process(*arguments: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    samples = in_turns(
        {
            "numpy": process("-c", "import numpy"),
            "glpn_deploy": process("-c", "import numpy, glpn_deploy"),
            "help": process("-m", "glpn_deploy.cli.export", "--help"),
        },
        rounds=15,
    )
    added = statistics.median(b - a for a, b in zip(samples["numpy"], samples["glpn_deploy"], strict=True))
    return {
        "import_over_numpy_ms": added,
        "help_s": statistics.median(samples["help"]) / 1e3,
    }


def estimator_cost(folder: Path) -> dict[str, Any]:
    """What surrounds the session: the estimator over a runtime that does nothing, beside the bare session."""
    rng = np.random.default_rng(0)
    session = OnnxRuntime(to_onnx(random_model(NYU, 0), folder / "cost.onnx"), RuntimeOptions(device="cpu"))
    processor = GLPNImageProcessor()
    result: dict[str, Any] = {}
    for height, width in ((480, 640), (481, 650)):
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        batch = processor.prepare(image)[None]
        nothing = DepthEstimator(NullRuntime(), processor, 10.0)
        fill = NullRuntime()
        samples = in_turns(
            {"around": lambda: nothing(image), "fill": lambda: fill.run(batch)},  # noqa: B023 - run at once
            rounds=50,
            warm_up=5,
        )
        bare = statistics.median(in_turns({"bare": lambda: session.run(batch)}, rounds=3)["bare"])  # noqa: B023
        around = statistics.median(samples["around"]) - statistics.median(samples["fill"])
        result[f"{height}x{width}"] = {"around_ms": around, "bare_ms": bare, "share": around / bare}
    return result


def measure(options: FigureOptions) -> dict[str, Any]:
    """Every figure, one after the other."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    folder = options.folder
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "against_transformers": against_transformers,
        "against_pipeline": lambda: against_pipeline(folder),
        "sweep": lambda: sweep(folder),
        "export_and_latency": lambda: export_and_latency(folder),
        "start_up": start_up,
        "estimator_cost": lambda: estimator_cost(folder),
    }
    found = {}
    for name, part in parts.items():
        with progress.step(name):
            found[name] = part()
    return found
