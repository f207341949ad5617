"""checkpoint -> bundle: the one place that knows the order of the arrows, the proof and the writing."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import nn

import glpn_deploy
from glpn_deploy import progress
from glpn_deploy.atomic import replace_folder, staging_folder
from glpn_deploy.bundle.bundle import Bundle, write_manifest
from glpn_deploy.bundle.hub_layout import to_hub_layout
from glpn_deploy.bundle.manifest import FORMAT, MANIFEST, Artefact, Golden, Manifest
from glpn_deploy.datasets.rooms import render_room
from glpn_deploy.errors import BundleError, ConfigError, WriteError
from glpn_deploy.exporters.engine.carry import CarriedEngines, carry_engines, carry_files
from glpn_deploy.exporters.network.source import Source, from_demo, load_source
from glpn_deploy.exporters.options import BuildOptions, Form, Target
from glpn_deploy.exporters.to_onnx import FP32Graphs
from glpn_deploy.images.loading import load_image, shrink
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.model.base import config_of
from glpn_deploy.model.config import GLPNConfig
from glpn_deploy.optional import installed_version
from glpn_deploy.proof.parity import (
    VERIFICATION_SEED,
    compare_over_sweep,
    fp32_budget,
    round_up,
)
from glpn_deploy.proof.parity_report import ParityReport
from glpn_deploy.runtimes.onnx_file.header import read_header
from glpn_deploy.runtimes.options import RuntimeOptions
from glpn_deploy.runtimes.registry import load_runtime, require_backend
from glpn_deploy.runtimes.rt_torch import TorchRuntime

if TYPE_CHECKING:
    from glpn_deploy.exporters.search.search import SearchReport

_GOLDEN_ROOMS = ((480, 640), (256, 192), (96, 320))
_GOLDEN_SIDE = 640  # longer photographs are shrunk: goldens travel with the bundle
_GOLDEN_SHORT_SIDE = 64  # of a panorama
_TOOLS = ("torch", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "pillow")


@dataclasses.dataclass(frozen=True)
class Build:
    """What an export made.

    Attributes:
        bundle: The finished bundle.
        searches: What became of the lower precisions that were asked for, in their order.
    """

    bundle: Bundle
    searches: tuple[SearchReport, ...] = ()


def build_bundle(source: Source, out: str | Path, options: BuildOptions = BuildOptions()) -> Bundle:
    """`build`, for its bundle alone."""
    return build(source, out, options).bundle


def build(source: Source, out: str | Path, options: BuildOptions = BuildOptions()) -> Build:
    """Exports a checkpoint, or a network in memory, into a verified bundle.

    Args:
        source: Checkpoint folder, hub id or the authors' ``.ckpt``; or a network, which is put into eval
            mode, FP32 and the CPU's memory. One that is not as its configuration says needs the options'
            route ``trace``.
        out: The bundle's folder: new, empty, or a bundle that is replaced. A link is followed. Engines of
            the old bundle stay where their ONNX file comes out the same; the others go with it. Files that
            are not the bundle's stay.
        options: What to make and how to check it.

    Returns:
        The finished bundle, and what was tried for it. Of the lower precisions it holds those within their
        budget; its manifest's ``refused`` says why it lacks the others.

    Raises:
        CheckpointError: The checkpoint cannot be used.
        ParityError: The depth moved; nothing is left at ``out`` that was not there before.
        GlpnError: Anything else that stood in the way, likewise.
    """
    named, out = out, _checked_place(Path(out))
    lower = options.lower
    if options.verify or lower is not None:
        require_backend("onnxruntime")  # before the long work
    if lower is not None:
        from glpn_deploy.exporters.calibration.image_sets import (  # needs onnxruntime
            check_images,
            choose_images,
        )

        check_images(lower.images, ranges=lower.ranges, demo=from_demo(source))
    photographs = [
        (shrink(load_image(path), _GOLDEN_SIDE, _GOLDEN_SHORT_SIDE), path.name)
        for path in map(Path, options.golden_images)
    ]
    with progress.step("load checkpoint") as step:
        loaded = load_source(source, options)
        model, config, processor = loaded.model, loaded.config, loaded.processor
        parameters = sum(parameter.numel() for parameter in model.parameters())
        step.finish(f"{parameters / 1e6:.1f} M parameters, depth up to {config.max_depth:g} m")
        _check_fit(config, processor)
        if lower is not None:
            images = choose_images(lower.images, processor, ranges=lower.ranges, demo=from_demo(source))
    with staging_folder(out) as folder:
        staged = folder / out.name
        staged.mkdir()
        architecture = getattr(model, "architecture", type(model).__name__)
        config.replace(architectures=[architecture], dtype=None).save_pretrained(staged)
        processor.save_pretrained(staged)
        graphs = FP32Graphs(model, options.onnx.route)
        route = "checkpoint -> trace -> onnx" if options.onnx.route == "trace" else "checkpoint -> onnx"
        with progress.step(f"{options.onnx.route} model.onnx") as step:
            bytes_in = options.io == "uint8"
            if bytes_in:
                processor.require_plain("--io uint8 makes the graphs divide 8-bit images by 255")
            written = dataclasses.replace(options.onnx, io="uint8" if bytes_in else "fp32")
            onnx_path = graphs.write(staged / "model.onnx", written)
            header = read_header(onnx_path)
            data = tuple(sorted(p.name for p in staged.glob("model.onnx.data")))
            size = sum((staged / name).stat().st_size for name in ("model.onnx", *data))
            step.finish(f"{size / 1e6:.1f} MB, {header.nodes} nodes, opset {header.opset}")
        source_path = onnx_path  # what lower precisions are made of
        if lower is not None and bytes_in:
            plain = dataclasses.replace(options.onnx, io="fp32")
            source_path = graphs.write(folder / "fp32.onnx", plain)
        if lower is not None and lower.ranges:  # rather than after the other precisions
            from glpn_deploy.exporters.calibration.calibration import require_memory

            require_memory(source_path, images.calibration, processor)
        goldens = _write_goldens(staged, model, processor, photographs)
        parity = _prove(model, onnx_path, processor, options) if options.verify else None
        artefact = Artefact(
            file="model.onnx",
            kind="onnx",
            precision="fp32",
            route=route,
            opset=header.opset,
            nodes=header.nodes,
            io=options.io_of("fp32"),
            data=data,
            parity=None if parity is None else parity.to_dict(),
        )
        lowered = []
        if lower is not None:
            from glpn_deploy.exporters.lower import Lowering

            work = folder / f"{out.name}.work"
            work.mkdir()

            def write(opset: int, purpose: Target, path: Path) -> Path:
                form: Form = "any" if purpose == "cpu" else "tensorrt"
                source = dataclasses.replace(options.onnx, opset=opset, form=form, io="fp32")
                return graphs.write(path, source)

            shown = {golden.image: load_image(staged / golden.image) for golden in goldens}
            lowering = Lowering(artefact, source_path, write, images, shown, processor, options, work)
            lowered = [lowering.lower(p, staged / f"model.{p}.onnx") for p in lower.precisions]
        artefacts = (artefact, *(one.artefact for one in lowered if one.artefact is not None))
        if options.layout == "hub":
            artefacts = to_hub_layout(staged, artefacts)
            onnx_path = staged / artefacts[0].file
        manifest = Manifest(
            name=out.name,
            config=config,
            preprocessing=processor.to_dict(),
            tensors=dict(header.tensors),
            source=dataclasses.asdict(loaded.info),
            tools=_tool_versions(),
            artefacts=artefacts,
            goldens=goldens,
            refused=tuple(one.report.to_dict() for one in lowered if one.artefact is None),
        )
        with progress.step("write bundle") as step:
            manifest = write_manifest(staged, manifest)
            carried = CarriedEngines()
            files: tuple[str, ...] = ()
            if out.is_dir():
                carried, files = carry_engines(out, staged, manifest), carry_files(out, staged)
            if out.is_dir() and not any(out.iterdir()):
                out.rmdir()
            replace_folder(staged, out)
            told = [f"engines: {carried}"] if str(carried) else []
            told += [f"{len(files)} files that are not the bundle's kept"] if files else []
            step.finish("; ".join((str(named), *told)))
    return Build(Bundle.open(out), tuple(one.report for one in lowered))


def _checked_place(out: Path) -> Path:
    """The absolute path of ``out``; refuses to replace anything but a bundle, before any work is done."""
    try:
        place = out.resolve()
        if place.is_dir() and any(place.iterdir()) and not _is_bundle(place):
            raise BundleError(
                f"the folder {out} has something else in it",
                expected="a new or empty folder, or a bundle to replace",
                fix="choose another OUT",
            )
        if place.exists() and not place.is_dir():
            raise BundleError(f"{out} is a file", expected="a folder's name", fix="choose another OUT")
        if _is_mount_point(place):
            raise WriteError(
                f"{out} is a mount point, which cannot be exchanged for a finished bundle in one step",
                fix=f"export into a folder in it: {Path(out) / 'bundle'}",
            )
        place.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise WriteError(f"{out} cannot be written ({reason})", fix="choose another OUT") from None
    return place


def _is_mount_point(place: Path) -> bool:
    """Whether something is mounted at a place; a folder of the same disk, as containers do, included."""
    if os.path.ismount(place):
        return True
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # not Linux
        return False
    named = (line.split(" ")[4] for line in mounts.splitlines())
    return str(place) in {re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), name) for name in named}


def _is_bundle(folder: Path) -> bool:
    """Whether the folder's manifest is a bundle's: other software calls files manifest.json, too."""
    try:
        return bool(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["format"] == FORMAT)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _check_fit(config: GLPNConfig, processor: GLPNImageProcessor) -> None:
    """Refuses a network that the image processor cannot feed."""
    if config.num_channels != 3:
        raise ConfigError(f"the config's num_channels is {config.num_channels}", expected="3 (RGB)")
    if processor.size_divisor % config.size_multiple:
        raise ConfigError(
            f"the image processor's size_divisor is {processor.size_divisor}",
            expected=f"a multiple of {config.size_multiple}, which the network's sides must be",
            fix=f"set size_divisor to {config.size_multiple} in preprocessor_config.json",
        )


def _write_goldens(
    folder: Path,
    model: nn.Module,
    processor: GLPNImageProcessor,
    photographs: list[tuple[NDArray[np.uint8], str]],
) -> tuple[Golden, ...]:
    """Writes inputs and the reference's outputs for them."""
    sizes = [tuple(round_up(side, processor.size_divisor) for side in size) for size in _GOLDEN_ROOMS]
    images = photographs or [
        (render_room(VERIFICATION_SEED + i, *size).image, f"rendered room {VERIFICATION_SEED + i}")
        for i, size in enumerate(sizes)
    ]
    (folder / "golden").mkdir()
    goldens = []
    reference = TorchRuntime(model, RuntimeOptions(device="cpu"))
    with progress.step("goldens", len(images)) as step:
        for i, (image, source) in enumerate(images):
            golden = Golden(f"golden/{i}.png", f"golden/{i}.npy", source)
            Image.fromarray(image).save(folder / golden.image)
            np.save(folder / golden.depth, reference.run(processor.prepare(image)[None])[0])
            goldens.append(golden)
            step.advance(source)
        step.finish(f"{len(goldens)} inputs with the reference's depth")
    return tuple(goldens)


def _prove(
    model: nn.Module,
    onnx_path: Path,
    processor: GLPNImageProcessor,
    options: BuildOptions,
) -> ParityReport:
    """Holds the ONNX file against the network it came from, over the whole shape sweep."""
    limit = fp32_budget(config_of(model).max_depth, options.tolerance)
    on_cpu = RuntimeOptions(device="cpu")
    with load_runtime("onnxruntime", onnx_path, on_cpu) as candidate:
        report = compare_over_sweep(candidate, TorchRuntime(model, on_cpu), processor, limit)
    report.require()
    return report


def _tool_versions() -> dict[str, str]:
    versions = {name: version for name in _TOOLS if (version := installed_version(name))}
    return {"glpn-deploy": glpn_deploy.__version__, **versions}
