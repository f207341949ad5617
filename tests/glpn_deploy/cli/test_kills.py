"""Commands killed at any instant: nothing half-written is ever taken for whole, and nothing piles up."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from glpn_deploy import GLPNForDepthEstimation
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.cli.options import SaveOptions
from glpn_deploy.cli.working import predict
from glpn_deploy.depth.depth_map import DepthMap
from glpn_deploy.exporters.build import build_bundle
from glpn_deploy.exporters.options import BuildOptions
from glpn_deploy.runtimes.options import LoadOptions
from glpn_deploy.training.checkpointing import load_state
from glpn_deploy.training.options import TrainOptions
from glpn_deploy.training.trainer import train
from glpn_deploy.video.options import FrameOptions, VideoOptions

KILLS = int(os.environ.get("GLPN_KILLS", "2"))

# Processes are forked of a server that has imported torch and never run it.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["glpn_deploy.exporters.build", "glpn_deploy.training.trainer"])


def in_a_process(work: Callable[..., object], *arguments: object, kill_after: float | None = None) -> float:
    """Runs the work whole, or until it is killed, and returns how long it took [s]."""
    begun = time.perf_counter()
    process = SERVER.Process(target=work, args=arguments)
    process.start()
    process.join(60 if kill_after is None else kill_after)
    if kill_after is None:
        assert process.exitcode == 0
    process.kill()
    process.join()
    return time.perf_counter() - begun


def kill_often(check: Callable[[], object], work: Callable[..., object], *arguments: object) -> None:
    in_a_process(work, *arguments)
    whole, rng = in_a_process(work, *arguments), random.Random(0)
    for _ in range(KILLS):
        in_a_process(work, *arguments, kill_after=rng.uniform(0, whole))
        check()
    in_a_process(work, *arguments)
    check()


def predict_all(*asked: Any) -> None:
    predict.run(*asked, as_json=True)


def partial(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if ".partial-" in path.name or path.name == ".running"]


def test_export(tiny_checkpoint: Path, tmp_path: Path) -> None:
    place = tmp_path / "bundle"

    def check() -> None:
        assert Bundle.open(place).check_files() == 9

    kill_often(check, build_bundle, tiny_checkpoint, place, BuildOptions(verify=False))
    assert partial(tmp_path) == []


def test_predict(tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "depth"
    out.mkdir()
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (6, 96, 128, 3), np.uint8)
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(pictures / f"{number}.png")
    asked = (
        str(tiny_bundle),
        [str(pictures)],
        SaveOptions(out=out, save=("mm", "npy", "color")),
        FrameOptions(),
        VideoOptions(),
        LoadOptions(backend="onnxruntime"),
    )

    def check() -> None:
        for path in out.glob("[0-9]*"):
            if path.suffix == ".npy" or "_mm" in path.name:
                assert DepthMap.load(path, max_depth=10).depth.shape == (96, 128)
            else:
                Image.open(path).load()

    kill_often(check, predict_all, *asked)
    assert len(list(out.glob("[0-9]*"))) == 18
    assert partial(out) == []


def test_train(tiny_checkpoint: Path, tmp_path: Path) -> None:
    options = TrainOptions(
        out=tmp_path / "run",
        dataset="rooms",
        rooms=4,
        val_rooms=1,
        size=(32, 32),
        cache=tmp_path / "rooms",
        config=str(tiny_checkpoint / "config.json"),
        epochs=6,
        batch=2,
        device="cpu",
        workers=0,
        threads=1,
        save_every=1,
        fresh=True,
    )
    going_on = TrainOptions(**{**vars(options), "fresh": False})
    in_a_process(train, options)  # the rooms are rendered
    whole = (options.out / "log.csv").read_text().splitlines()
    rng, took = random.Random(1), in_a_process(train, options)
    for number in range(KILLS):
        first = number % 5 == 0  # then on from where it was killed
        in_a_process(train, options if first else going_on, kill_after=rng.uniform(0, took))
        state = load_state(options.out, options.identity())
        assert state is None or 0 <= state.step <= 12
        for name in ("best", "final"):
            if (options.out / name).is_dir():
                assert GLPNForDepthEstimation.from_pretrained(options.out / name).config.max_depth == 10
    in_a_process(train, going_on)
    assert [line.split(",")[:4] for line in (options.out / "log.csv").read_text().splitlines()] == [
        line.split(",")[:4] for line in whole
    ]
    assert partial(options.out) == []
