"""The ways by which files reach the package: samples of each, and what opens them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Samples = list[dict[str, bytes]]
"""Folders as they should be: contents by file name."""


@dataclasses.dataclass(frozen=True)
class Door:
    """A way in.

    Attributes:
        samples: Makes folders as they should be, given tiny ones made by the package.
        open: Opens a case's folder by this way and uses what it gave.
        changed: How the names of files end that are changed; the others stay as they are.
        tend: Makes a damaged folder consistent again, as a stranger would.
    """

    samples: Callable[[Path], Samples]
    open: Callable[[Path], object]
    changed: tuple[str, ...] = ("",)
    tend: Callable[[Path], None] = lambda folder: None


def contents(folder: Path, *names: str) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 36), kind: str = "PNG") -> bytes:
    rng = np.random.default_rng(0)
    channels = {"RGB": 3, "RGBA": 4}.get(mode)
    shape = (size[1], size[0]) if channels is None else (size[1], size[0], channels)
    values = rng.integers(0, 255, shape).astype(np.uint16 if mode == "I;16" else np.uint8)
    image = Image.fromarray(values.astype(np.float32)) if mode == "F" else Image.fromarray(values)
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def npy(shape: tuple[int, int] = (36, 40)) -> bytes:
    file = io.BytesIO()
    np.save(file, np.random.default_rng(0).random(shape, np.float32) + 1)
    return file.getvalue()


# checkpoints


def smallest_network() -> Any:
    """Of one stage: what is tried are files, and the fewer tensors they hold the more can be tried."""
    from glpn_deploy.model.config import GLPNConfig
    from glpn_deploy.model.modeling import GLPNForDepthEstimation

    config = GLPNConfig(
        num_encoder_blocks=1,
        depths=(1,),
        sr_ratios=(2,),
        hidden_sizes=(4,),
        patch_sizes=(7,),
        strides=(4,),
        num_attention_heads=(1,),
        mlp_ratios=(1,),
        decoder_hidden_size=2,
    )
    return GLPNForDepthEstimation(config)


def checkpoint_samples(made: Path) -> Samples:
    import torch
    from safetensors.torch import load_file, save

    folder = made / "smallest"
    smallest_network().save_pretrained(folder)
    configs = contents(folder, "config.json", "preprocessor_config.json")
    tensors = load_file(folder / "model.safetensors")
    pickled = io.BytesIO()
    torch.save(tensors, pickled)
    legacy = io.BytesIO()
    torch.save(tensors, legacy, _use_new_zipfile_serialization=False)
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    index = {"weight_map": {name: part for part, group in parts.items() for name in group}}
    shards = {part: save({name: tensors[name] for name in group}) for part, group in parts.items()}
    return [
        configs | contents(folder, "model.safetensors"),
        configs | {"pytorch_model.bin": pickled.getvalue()},
        configs | {"pytorch_model.bin": legacy.getvalue()},
        configs | {"model.safetensors.index.json": json.dumps(index).encode()} | shards,
    ]


def open_checkpoint(folder: Path) -> None:
    from glpn_deploy.checkpoints.files import describe_checkpoint
    from glpn_deploy.images.processing import load_processor
    from glpn_deploy.model.modeling import GLPNForDepthEstimation

    describe_checkpoint(folder)
    GLPNForDepthEstimation.from_pretrained(folder, offline=True)
    load_processor(folder)


def open_preprocessor(folder: Path) -> None:
    from glpn_deploy.images.processing import GLPNImageProcessor

    processor = GLPNImageProcessor.from_pretrained(folder)
    processor.prepare(np.zeros((70, 90, 3), np.uint8))


# ONNX files


def onnx_samples(made: Path) -> Samples:
    """A network of every kind of step that a depth network has, small enough to compile in milliseconds."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)

    def real(name: str, *shape: int) -> Any:
        return numpy_helper.from_array(rng.random(shape, np.float32), name)

    def whole(name: str, *values: int) -> Any:
        return numpy_helper.from_array(np.array(values, np.int64), name)

    weights = [
        real("w1", 4, 3, 3, 3),
        real("b1", 4),
        real("m", 4, 4),
        real("g", 4),
        whole("tokens", 0, 4, -1),
        numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"),
        real("w2", 1, 4, 1, 1),
        numpy_helper.from_array(np.array(10, np.float32), "ten"),
    ]
    node = helper.make_node
    nodes = [
        node(
            "Conv", ["x", "w1", "b1"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1], kernel_shape=[3, 3], group=1
        ),
        node("Shape", ["a"], ["shape"]),
        node("Reshape", ["a", "tokens"], ["t"]),
        node("Transpose", ["t"], ["tt"], perm=[0, 2, 1]),
        node("LayerNormalization", ["tt", "g"], ["n"], axis=-1, epsilon=1e-5),
        node("MatMul", ["n", "m"], ["q"]),
        node("Softmax", ["q"], ["s"], axis=-1),
        node("Erf", ["s"], ["e"]),
        node("Add", ["e", "n"], ["r"]),
        node("Transpose", ["r"], ["rt"], perm=[0, 2, 1]),
        node("Reshape", ["rt", "shape"], ["i"]),
        node(
            "Resize", ["i", "", "scales"], ["u"], mode="linear", coordinate_transformation_mode="half_pixel"
        ),
        node("Split", ["u"], ["v", "w"], axis=1),
        node("Concat", ["v", "w"], ["c"], axis=1),
        node("Conv", ["c", "w2"], ["d"]),
        node("Sigmoid", ["d"], ["p"]),
        node("Mul", ["p", "ten"], ["k"]),
        node("Squeeze", ["k", "one"], ["y"]),
    ]
    weights.append(whole("one", 1))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "32*h", "32*w"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "h", "w"])
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"max_depth": "10.0", "precision": "fp32"})
    return [{"model.onnx": model.SerializeToString()}]


def open_onnx(folder: Path) -> None:
    from glpn_deploy.errors import GlpnError
    from glpn_deploy.runtimes.base import RuntimeOptions
    from glpn_deploy.runtimes.registry import load_runtime

    refusals = []
    for backend in ("onnxruntime", "openvino"):
        try:
            with load_runtime(
                backend, folder / "model.onnx", RuntimeOptions(device="cpu", threads=1)
            ) as runtime:
                runtime.run(np.zeros((1, 3, 32, 32), np.float32))
        except GlpnError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


# bundles


def bundle_files(made: Path) -> dict[str, bytes]:
    """A bundle with goldens of a few pixels."""
    from glpn_deploy.bundle.bundle import Bundle

    folder = made / "bundle"
    manifest = json.loads((folder / "manifest.json").read_text())
    files = contents(folder, *Bundle.open(folder).manifest.files)
    golden = manifest["goldens"][0]
    manifest["goldens"] = [golden]
    files[golden["image"]], files[golden["depth"]] = picture(size=(32, 32)), npy((32, 32))
    for name in (golden["image"], golden["depth"]):
        digest = hashlib.sha256(files[name]).hexdigest()
        manifest["files"][name] = {"sha256": digest, "bytes": len(files[name])}
    files["manifest.json"] = json.dumps(manifest).encode()
    return files


def with_digests(folder: Path) -> None:
    """Gives the manifest the digests that the files have."""
    from glpn_deploy.reading import file_digest

    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for golden in manifest["goldens"]:
        for name in (golden["image"], golden["depth"]):
            with contextlib.suppress(OSError):
                if (folder / name).is_file() and (folder / name).stat().st_size < 1 << 26:
                    manifest["files"][name] = {
                        "sha256": file_digest(folder / name),
                        "bytes": (folder / name).stat().st_size,
                    }
    path.write_text(json.dumps(manifest))


def bundle_samples(made: Path) -> Samples:
    return [bundle_files(made)]


def open_bundle(folder: Path) -> None:
    from glpn_deploy.bundle.bundle import Bundle
    from glpn_deploy.estimator import DepthEstimator
    from glpn_deploy.proof.checks.budget import artefact_budget

    bundle = Bundle.open(folder)
    bundle.processor.target_size(64, 64)
    for artefact in bundle.manifest.artefacts:
        if artefact.precision != "fp32":
            artefact_budget(artefact)
    with DepthEstimator.load(folder, "onnxruntime") as estimator:
        estimator(np.zeros((33, 47, 3), np.uint8))
    bundle.check_files()


def open_golden(folder: Path) -> None:
    from glpn_deploy.bundle.bundle import Bundle
    from glpn_deploy.proof.parity import golden_batches

    for batch in golden_batches(Bundle.open(folder)):
        assert batch.depth.dtype == np.float32


def sidecar_samples(made: Path) -> Samples:
    return [contents(made / "engines", "net.json", "net.engine")]


def open_sidecar(folder: Path) -> None:
    from glpn_deploy.bundle.engine_sidecar import check_machine, read_plan, read_sidecar, rebuild_command
    from glpn_deploy.gpu.cuda_device import CudaDevice

    engine = folder / "net.engine"
    sidecar = read_sidecar(engine)
    sidecar.to_json()
    rebuild_command(engine, sidecar)
    read_plan(engine, sidecar)
    check_machine(engine, sidecar, CudaDevice(0, "Orin", (8, 7), 32 << 30, True, (12, 6)), "10.3.0")


# images and data sets

_KINDS = {
    **{"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "TIFF": "tif", "BMP": "bmp", "GIF": "gif", "PPM": "ppm"},
    **{
        "AVIF": "avif",
        "JPEG2000": "jp2",
        "DDS": "dds",
        "ICO": "ico",
        "TGA": "tga",
        "PCX": "pcx",
        "SGI": "sgi",
    },
}


def image_samples(made: Path) -> Samples:
    Image.init()
    kinds = {kind: suffix for kind, suffix in _KINDS.items() if kind in Image.SAVE}
    found = [{f"photo.{suffix}": picture(kind=kind)} for kind, suffix in kinds.items()]
    return [
        *found,
        {"photo.png": picture("I;16")},
        {"photo.png": picture("L")},
        {"photo.tif": picture("F", kind="TIFF")},
    ]


def open_image(folder: Path) -> None:
    from glpn_deploy.images.files import find_images
    from glpn_deploy.images.loading import load_image

    for path in sorted(folder.iterdir()):
        find_images([str(path)])
        load_image(path)


def depth_samples(made: Path) -> Samples:
    return [
        {"a.npy": npy()},
        {"a.png": picture("I;16")},
        {"a.tiff": picture("F", kind="TIFF")},
        {"a.png": picture("F", kind="TIFF")},
    ]


def open_depth(folder: Path) -> None:
    from glpn_deploy.depth.depth_map import DepthMap

    for path in sorted(folder.iterdir()):
        DepthMap.load(path, max_depth=10).colorize()


def dataset_samples(made: Path) -> Samples:
    import h5py

    pair = {"images/a.png": picture(), "depth/a.png": picture("I;16"), "images/b.jpg": picture(kind="JPEG"),
            "depth/b.npy": npy()}  # fmt: skip
    found = [pair]
    listed = {"nyu2_test.txt": b"images/a.png depth/a.png 518.8\nimages/b.png depth/b.png 518.8\n"}
    listed |= {f"{folder}/{name}.png": picture("RGB" if folder == "images" else "I;16", (640, 480))
               for folder in ("images", "depth") for name in "ab"}  # fmt: skip
    found.append(listed)
    for kind, suffix in (("AVIF", "jpg"), ("DDS", "jpeg")):
        if kind in Image.SAVE:
            found.append({f"images/a.{suffix}": picture(kind=kind), "depth/a.png": picture("I;16")})
    values: dict[str, np.ndarray] = {
        "images": np.zeros((2, 3, 20, 16), np.uint8),
        "depths": np.ones((2, 20, 16), np.float32),
    }
    odd: dict[str, Any] = {
        "text": lambda file: file.create_dataset("images", data=[b"a", b"b"]),
        "references": lambda file: file.create_dataset("images", shape=(2,), dtype=h5py.ref_dtype),
        "empty": lambda file: file.create_dataset("images", data=h5py.Empty("f")),
        "loop": lambda file: file.__setitem__("images", h5py.SoftLink("/images")),
        "elsewhere": lambda file: file.__setitem__("images", h5py.ExternalLink("other.mat", "/images")),
        "group": lambda file: file.create_group("images"),
        "packed": lambda file: file.create_dataset("images", data=values["images"], compression="gzip"),
        "plain": lambda file: file.create_dataset("images", data=values["images"]),
        "deep": lambda file: file.create_dataset("images", data=values["images"].astype(np.float64)),
    }
    for name, write in odd.items():
        file = io.BytesIO()
        with h5py.File(file, "w", userblock_size=512) as mat:
            write(mat)
            depth = [b"a", b"b"] if name == "text" else values["depths"]
            mat.create_dataset("depths", data=depth)
        found.append({"set.mat": file.getvalue()})
    return found


def open_dataset(folder: Path) -> None:
    from glpn_deploy.datasets import registry
    from glpn_deploy.datasets.options import DatasetOptions
    from glpn_deploy.errors import GlpnError

    ways = [
        ("folder", folder, DatasetOptions(depth_scale=1000.0)),
        ("nyu", folder, DatasetOptions()),
        ("frames", folder, DatasetOptions(depth_scale=1000.0)),
    ]
    if (folder / "set.mat").exists() or (folder / "set.mat").is_symlink():
        ways = [("nyu", folder / "set.mat", DatasetOptions())]
    refusals = []
    for kind, path, options in ways:
        try:
            data = registry.open_dataset(kind, path, options)
            getattr(data, "check", lambda: None)()
            for index in range(len(data)):
                data[index]
        except GlpnError as error:
            refusals.append(error)
    if len(refusals) == len(ways):
        raise refusals[0]


# training and reports


@functools.cache  # a second to make; every case puts a state of its own into it
def _training() -> Any:
    import torch

    from glpn_deploy.training.learner import Learner
    from glpn_deploy.training.options import TrainOptions

    options = TrainOptions(out=Path("run"), dataset="rooms", size=(32, 32), device="cpu", epochs=1, batch=2)
    torch.manual_seed(0)
    return Learner(smallest_network().train(), options, torch.device("cpu"))


_PIXELS, _METRES = np.zeros((2, 32, 32, 3), np.uint8), np.ones((2, 32, 32), np.float32)


def state_samples(made: Path) -> Samples:
    import torch

    from glpn_deploy.training.checkpointing import TrainState, save_state, state_path

    learner = _training()
    learner.step(torch.from_numpy(_PIXELS), torch.from_numpy(_METRES), 0, 9)
    folder = made / "state"
    state = TrainState(1, 0, 0.5, 1.0, learner.state_dict(), {"seed": 0})
    found = []
    for identity in ({"seed": 0}, 3):
        save_state(dataclasses.replace(state, identity=identity), folder)
        found.append({"last/state.pt": state_path(folder).read_bytes()})
    return found


def open_state(folder: Path) -> None:
    import torch

    from glpn_deploy.training.checkpointing import load_state

    state = load_state(folder, {"seed": 0})
    if state is not None:
        learner = _training()
        learner.load_state_dict(state.learner)
        learner.step(torch.from_numpy(_PIXELS), torch.from_numpy(_METRES), 1, 9)


def report_samples(made: Path) -> Samples:
    return [
        {
            "report.json": (made / "report.json").read_bytes(),
            "other.json": (made / "report.json").read_bytes(),
        }
    ]


def open_report(folder: Path) -> None:
    from glpn_deploy.benchmarks.options import CompareOptions
    from glpn_deploy.benchmarks.report.compare import compare_reports
    from glpn_deploy.benchmarks.report.results import Report, rounded
    from glpn_deploy.cli.console import PlainConsole
    from glpn_deploy.cli.working.compare import _print

    first, second = (Report.read(folder / name) for name in ("report.json", "other.json"))
    found = compare_reports(first, second, CompareOptions(force=True))
    json.dumps(rounded(found.to_dict()), allow_nan=False)
    _print(PlainConsole(stderr=True), found)


DOORS = {
    "checkpoint": Door(checkpoint_samples, open_checkpoint),
    "preprocessor": Door(
        lambda made: [contents(made / "checkpoint", "preprocessor_config.json")], open_preprocessor
    ),
    "onnx": Door(onnx_samples, open_onnx),
    "manifest": Door(bundle_samples, open_bundle, ("manifest.json",)),
    "golden": Door(bundle_samples, open_golden, (".npy", ".png"), with_digests),
    "sidecar": Door(sidecar_samples, open_sidecar),
    "image": Door(image_samples, open_image),
    "depth": Door(depth_samples, open_depth),
    "dataset": Door(dataset_samples, open_dataset),
    "state": Door(state_samples, open_state),
    "report": Door(report_samples, open_report, ("report.json",)),
}
