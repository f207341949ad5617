"""The bundles and goldens that the GPU tests and figures need, made beforehand where torch is.

    python -m glpn_deploy.benchmarks.claims.gpu_bundles DIR

Making them needs torch, onnx and onnxruntime and no GPU; reading them needs none of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image

from glpn_deploy import progress
from glpn_deploy.atomic import staging_folder
from glpn_deploy.benchmarks.claims.running import run_command
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.bundle.engine_profile import Profile, Shape
from glpn_deploy.cli.app import command
from glpn_deploy.cli.console import output
from glpn_deploy.datasets.rooms import render_room
from glpn_deploy.errors import GlpnError
from glpn_deploy.images.loading import load_image
from glpn_deploy.options import WORDS, Option
from glpn_deploy.proof.parity import VERIFICATION_SEED, Batch
from glpn_deploy.runtimes.base import Runtime, RuntimeOptions

DEMO, NYU = "glpn-demo", "glpn-nyu-random"
NETWORKS = (DEMO, NYU)
"""The demo checkpoint, and glpn-nyu's architecture with random weights; the bundles' folders."""

SIZES = ((256, 256), (480, 640), (640, 480), (640, 640))
PROFILE = Profile((1, 256, 256), (1, 480, 640), (8, 640, 640))
"""Both orientations and batches of 1 to 8 in one profile, of which `SIZES` are the ends and the middle."""

BATCHES = range(PROFILE.min[0], PROFILE.max[0] + 1)
PRECISIONS = ("fp32", "fp16", "int8")
IMAGES = 3  # of each size; larger batches repeat them

_CHECKPOINTS, _GOLDENS = "checkpoints", "goldens"


def checkpoint_folder(folder: Path) -> Path:
    """The random checkpoint among what `prepare` wrote, for what runs checkpoints."""
    return folder / _CHECKPOINTS / NYU


def prepare(folder: Path, networks: Sequence[str] = NETWORKS) -> None:
    """Makes bundles of `PRECISIONS`, and the reference's depth at `SIZES`; what is there stays.

    Args:
        folder: Where to; about 600 MB with both networks.
        networks: Which of `NETWORKS`.

    Raises:
        GlpnError: A precision is outside its accuracy budget, or something else stood in the way.
    """
    import torch

    from glpn_deploy.benchmarks.claims.random_network import NYU as ARCHITECTURE
    from glpn_deploy.benchmarks.claims.random_network import random_model
    from glpn_deploy.model.modeling import GLPNForDepthEstimation
    from glpn_deploy.runtimes.rt_torch import TorchRuntime

    checkpoint = checkpoint_folder(folder)
    if NYU in networks and not (checkpoint / "config.json").is_file():
        with torch.random.fork_rng(), progress.step(f"weights of {NYU}"):
            random_model(ARCHITECTURE, 0).save_pretrained(checkpoint)
    for name in networks:
        source = "demo" if name == DEMO else str(checkpoint)
        if not _is_complete(folder / name):
            with progress.step(f"bundle {name}"):
                _export(source, folder / name)
        if not (folder / _GOLDENS / name).is_dir():
            with progress.step(f"goldens of {name}", len(SIZES) * IMAGES) as step:
                with TorchRuntime(
                    GLPNForDepthEstimation.from_pretrained(source), RuntimeOptions(device="cpu")
                ) as reference:
                    for file in _write_goldens(folder, name, reference):
                        step.advance(file)
                step.finish(f"{IMAGES} images of {len(SIZES)} sizes")


def golden(folder: Path, network: str, shape: Shape) -> Batch:
    """A batch of `SIZES` with the reference's depth; images repeat from `IMAGES` on.

    Raises:
        ImageError: A file is missing; this module's command makes it.
    """
    count, height, width = shape
    place, processor = _place(folder, network, height, width), Bundle.open(folder / network).processor
    numbers = range(min(count, IMAGES))
    pixels = [processor.prepare(load_image(place / f"{number}.png")) for number in numbers]
    depths = [np.load(place / f"{number}.npy") for number in numbers]
    order = [number % IMAGES for number in range(count)]
    name = "x".join(map(str, shape))
    return Batch(name, np.stack([pixels[i] for i in order]), np.stack([depths[i] for i in order]))


def _place(folder: Path, network: str, height: int, width: int) -> Path:
    return folder / _GOLDENS / network / f"{height}x{width}"


def _export(source: str, bundle: Path) -> None:
    """``glpn-export`` in a process of its own; the goldens and the engines' own proof do the judging."""
    how = ("--precision", "fp16,int8", "--target", "tensorrt", "--calibration", "rooms")
    quick = ("--calibration-images", "16", "--no-verify", "--no-verdict")
    run_command("export", source, bundle, *how, *quick)


def _is_complete(folder: Path) -> bool:
    try:
        have = {artefact.precision for artefact in Bundle.open(folder).manifest.artefacts}
    except GlpnError:
        return False
    return have >= set(PRECISIONS)


def _write_goldens(folder: Path, name: str, reference: Runtime) -> list[str]:
    """Writes the images of every size and their depth, all or none, and returns the images' names."""
    processor, written = Bundle.open(folder / name).processor, []
    target = folder / _GOLDENS / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with staging_folder(target) as work:
        staged = work / name
        for height, width in SIZES:
            place = staged / f"{height}x{width}"
            place.mkdir(parents=True)
            for number in range(IMAGES):
                image = render_room(VERIFICATION_SEED + number, height, width).image
                Image.fromarray(image).save(place / f"{number}.png")
                np.save(place / f"{number}.npy", reference.run(processor.prepare(image)[None])[0])
                written.append(f"{height}x{width}/{number}")
        staged.rename(target)
    return written


def bundles(
    folder: Annotated[Path, Option("Where to; about 600 MB with both networks.", argument=True)],
    only: Annotated[tuple[str, ...], Option(f"Some of {', '.join(NETWORKS)}.", reader=WORDS)] = NETWORKS,
) -> None:
    """Make the bundles and goldens; what is there stays."""
    output(as_json=False)
    prepare(folder, only)


main = command(bundles)

if __name__ == "__main__":
    main()
