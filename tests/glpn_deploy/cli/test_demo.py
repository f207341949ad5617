"""``make demo``'s program, on the tiny network: every file is there and holds what it says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from glpn_deploy import DepthEstimator
from glpn_deploy.checkpoints.hub import DEMO_FOLDER
from glpn_deploy.cli.working.demo import SHOWN
from glpn_deploy.datasets.rooms import DEFAULT_EVAL_SIZE, RenderedRooms
from glpn_deploy.depth.metrics import depth_metrics
from glpn_deploy.depth.pictures import depth_panel, error_limit, error_map
from glpn_deploy.images.resample import resize_bicubic


@pytest.fixture(autouse=True)
def short(
    monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two shapes of the parity sweep suffice here, and the tiny network stands for the trained one."""
    monkeypatch.setattr("glpn_deploy.proof.parity.SWEEP", ((1, 32, 32), (2, 64, 96)))
    monkeypatch.setattr("glpn_deploy.exporters.build.SWEEP", ((1, 32, 32), (2, 64, 96)), raising=False)
    folder = tmp_path_factory.mktemp("demo") / "checkpoint"
    shutil.copytree(tiny_checkpoint, folder)
    shutil.copy(DEMO_FOLDER / "README.md", folder)
    monkeypatch.setattr("glpn_deploy.checkpoints.hub.DEMO_FOLDER", folder)


def test_a_room_with_ground_truth_and_error(run: Callable, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    result = run("demo", "--out", out, "--room", 3)
    assert result.status == 0, result.err
    height, width = (side * SHOWN for side in DEFAULT_EVAL_SIZE)
    sample = RenderedRooms("test", 4, height=height, width=width)[3]
    small = Image.fromarray(sample.image).resize(DEFAULT_EVAL_SIZE[::-1])
    with DepthEstimator.load(out / "bundle", input_size="own") as estimator:
        depth = resize_bicubic(estimator(small).depth, (height, width))
    millimetres = np.asarray(Image.open(out / "room-3.depth_mm.png"))
    assert np.abs(millimetres / 1000 - depth).max() <= 0.0005 + 1e-6
    color = np.asarray(Image.open(out / "room-3.depth_color.png"))
    assert (color[:, :width] == depth_panel("", depth, 10.0).picture).all()

    together = np.asarray(Image.open(out / "room-3.side_by_side.png"))
    assert 2 * width < together.shape[1] < 3 * width, "two by two, for a telephone's screen"
    error = error_map(depth, sample.depth, error_limit(depth, sample.depth))
    for panel in (depth_panel("", sample.depth, 10.0).picture, error):
        assert stands_in(panel, together)

    figures = depth_metrics(np.clip(depth, 1e-3, 10), sample.depth, (sample.depth > 0) & (sample.depth < 10))
    assert f"δ1 {figures['delta1']:.3f}, AbsRel {figures['abs_rel']:.3f}" in result.out
    for name in ("side_by_side", "depth_color", "depth_mm"):
        assert str(out / f"room-3.{name}.png") in result.out
    assert (np.asarray(Image.open(out / "room-3.image.png")) == sample.image).all()
    following = [line.split() for line in result.out.partition("Next:\n")[2].splitlines()]
    assert [line[0] for line in following] == ["glpn-predict", "glpn-eval", "glpn-verify", "make"]
    assert run("predict", *following[0][1:], "--out", tmp_path / "depth").status == 0
    assert (tmp_path / "depth" / "room-3.image.depth_mm.png").is_file()
    manifest = json.loads((out / "bundle" / "manifest.json").read_text())
    assert manifest["source"]["source"] == "demo"
    assert manifest["artefacts"][0]["parity"]["passed"] is True


def stands_in(part: np.ndarray, whole: np.ndarray) -> bool:
    """Whether a picture stands somewhere in another, pixel by pixel."""
    height, width = part.shape[:2]
    corners = np.argwhere((whole == part[0, 0]).all(axis=-1))
    return any(np.array_equal(whole[y : y + height, x : x + width], part) for y, x in corners)


def test_a_photograph_beside_its_depth(run: Callable, tmp_path: Path) -> None:
    Image.fromarray(skimage.data.astronaut()[:400, :500]).save(tmp_path / "photo.png")
    before = (tmp_path / "photo.png").read_bytes()
    result = run("demo", "--out", tmp_path, "--image", tmp_path / "photo.png")
    assert result.status == 0, result.err
    millimetres = np.asarray(Image.open(tmp_path / "photo.depth_mm.png"))
    assert millimetres.shape == (400, 500)
    assert "seen by the network at 128 x 96 px" in result.out
    assert Image.open(tmp_path / "photo.side_by_side.png").mode == "RGB"
    assert (tmp_path / "photo.png").read_bytes() == before
    assert "trained on rendered rooms only" in result.out
    assert "vinvino02/glpn-nyu" in result.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--image", "none.jpg"], "there is no file none.jpg"),
        (["--room", "5000000000"], "--room 5000000000"),
        (["--checkpoint", "nowhere"], "there is no file or folder 'nowhere'"),
    ],
)
def test_wrong_use_is_one_sentence_and_leaves_nothing(
    run: Callable, tmp_path: Path, arguments: list[str], says: str
) -> None:
    result = run("demo", "--out", tmp_path / "demo", *arguments)
    assert result.status == 2
    assert says in result.err
    assert result.err.count("error:") == 1
    assert not (tmp_path / "demo" / "bundle").exists()
