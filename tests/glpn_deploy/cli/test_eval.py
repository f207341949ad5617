"""glpn-eval: the table, the JSON, and one sentence for every wrong use."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glpn_deploy import DepthEstimator, GLPNImageProcessor
from glpn_deploy.accuracy.evaluation import evaluate
from glpn_deploy.checkpoints.hub import resolve_checkpoint
from glpn_deploy.datasets.rooms import DEFAULT_EVAL_SIZE, RenderedRooms
from glpn_deploy.model.modeling import GLPNForDepthEstimation
from glpn_deploy.runtimes.options import LoadOptions
from glpn_deploy.runtimes.rt_null import NullRuntime


@pytest.fixture(autouse=True)
def any_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source "any" is a network that says 1 m everywhere."""
    opened = DepthEstimator.open

    def open_any(source: str, options: LoadOptions) -> DepthEstimator:
        if source == "any":
            return DepthEstimator(NullRuntime(), GLPNImageProcessor(), 10.0)
        return opened(source, options)

    monkeypatch.setattr(DepthEstimator, "open", open_any)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Two images whose depth is 1 m on the left and 2 m on the right, in millimetres."""
    root = tmp_path / "pairs"
    depth = np.full((64, 64), 2000, np.uint16)
    depth[:, :32] = 1000
    for name in "ab":
        for kind, content in (("images", np.zeros((64, 64, 3), np.uint8)), ("depth", depth)):
            (root / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(root / kind / f"{name}.png")
    return root


def test_rooms_as_json_are_what_the_library_says(run: Callable, tiny_bundle: Path) -> None:
    result = run("eval", tiny_bundle, "--dataset", "rooms", "--count", 3, "--room-size", "64x96", "--json")
    assert result.status == 0, result.err
    values = json.loads(result.out)
    with DepthEstimator.load(tiny_bundle) as estimator:
        report = evaluate(estimator, RenderedRooms("test", 3, height=64, width=96))
    assert values["metrics"] == pytest.approx(report.metrics, rel=1e-6)
    assert values["dataset"] == {"name": "rooms", "split": "test", "count": 3, "height": 64, "width": 96}
    assert values["backend"] in ("onnxruntime", "openvino")  # as auto takes them on this machine
    assert values["precision"] == "fp32"
    assert {"delta1", "abs_rel", "rmse", "silog_half"} <= values["metrics"].keys()


def test_rooms_have_the_size_that_the_demo_network_is_trained_at(run: Callable) -> None:
    result = run("eval", "any", "--count", 1, "--json")
    data = json.loads(result.out)["dataset"]
    assert (data["height"], data["width"]) == DEFAULT_EVAL_SIZE


def test_frames_come_with_their_steadiness(run: Callable, pairs: Path) -> None:
    arguments = ("any", "--data-path", pairs, "--dataset", "frames", "--depth-scale", 1000)
    steadiness = json.loads(run("eval", *arguments, "--json").out)["steadiness"]
    assert steadiness["network"] == {"pairs": 1, "scale_jump": 0, "pixel_flicker": 0}
    assert steadiness["steady"]["metrics"]["abs_rel"] == pytest.approx(0.25)
    shown = run("eval", *arguments).out
    assert "scale jump" in shown
    assert "ground truth" in shown


def test_a_folder_judged_by_hand(run: Callable, pairs: Path) -> None:
    # The network says 1 m everywhere: right on the left half, half of the truth on the right.
    arguments = ("--dataset", "folder", "--depth-scale", 1000)
    values = json.loads(run("eval", "any", "--data-path", pairs, *arguments, "--json").out)
    assert values["metrics"]["delta1"] == 0.5
    assert values["metrics"]["abs_rel"] == pytest.approx(0.25)
    assert values["path"] == str(pairs)
    table = run("eval", "any", "--data-path", pairs, *arguments).out
    assert "folder, 2 images, 0.001–10 m, crop none" in table
    assert "0.5000" in table
    assert "1–3 m" in table
    assert "SCALING" not in table


def test_an_onnx_file_of_other_software(
    run: Callable, foreign_onnx: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """--max-depth is the judged range here; the network's scale is --network-max-depth."""
    figures = []
    for source, scale in ((foreign_onnx, ("--network-max-depth", 10)), (tiny_checkpoint, ())):
        judged = ("--dataset", "rooms", "--count", 2, "--size", "64x96")
        result = run("eval", source, *scale, *judged, "--json")
        assert result.status == 0, result.err
        figures.append(json.loads(result.out)["metrics"])
    assert figures[0] == pytest.approx(figures[1], rel=1e-4)


def test_options_that_change_figures_are_named(run: Callable, pairs: Path) -> None:
    arguments = ("--dataset", "folder", "--depth-scale", 1000, "--max-depth", 1.5)
    result = run("eval", "any", "--data-path", pairs, *arguments, "--flip", "--median-scaling")
    assert "0.001–1.5 m" in result.out
    assert "flip averaging" in result.out
    assert "MEDIAN SCALING (mean factor 1.000)" in result.out


def test_nyu_lists_are_the_test_split_in_the_nyu_crop(run: Callable, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((480, 640, 3), np.uint8)).save(tmp_path / "a.jpg")
    Image.fromarray(np.full((480, 640), 1000, np.uint16)).save(tmp_path / "a.png")
    (tmp_path / "test_list.txt").write_text("a.jpg a.png\n")
    result = run("eval", "any", "--data-path", tmp_path, "--dataset", "nyu", "--json")
    values = json.loads(result.out)
    assert (values["crop"], values["dataset"]["split"], values["max_depth"]) == ("nyu", "test", 10)
    assert values["metrics"]["delta1"] == 1
    former = run("eval", "any", tmp_path, "--dataset", "nyu", "--json")
    assert json.loads(former.out)["metrics"]["delta1"] == 1
    assert "a path after SOURCE is --data-path now" in former.err
    (tmp_path / "a.png").unlink()
    missing = run("eval", "any", "--data-path", tmp_path, "--dataset", "nyu")
    assert (missing.status, missing.err.count("\n")) == (2, 1)
    assert "test_list.txt, line 1: there is no file" in missing.err


def test_kitti_warns_of_a_network_that_ends_at_ten_metres(run: Callable, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((352, 1216, 3), np.uint8)).save(tmp_path / "a.jpg")
    Image.fromarray(np.full((352, 1216), 256, np.uint16)).save(tmp_path / "a.png")
    (tmp_path / "mine.txt").write_text("a.jpg a.png 721\n")
    arguments = ("--dataset", "kitti", "--file-list", tmp_path / "mine.txt", "--json")
    result = run("eval", "any", "--data-path", tmp_path, *arguments)
    assert result.status == 0, result.err
    assert "warning: the network's depth ends at 10 m and kitti is judged up to 80 m" in result.err
    values = json.loads(result.out)
    assert (values["crop"], values["dataset"]["split"]) == ("garg", None)


def test_bad_samples_end_it_or_are_left_out(run: Callable, pairs: Path) -> None:
    (pairs / "depth" / "b.png").write_bytes(b"no image")
    arguments = ("eval", "any", "--data-path", pairs, "--dataset", "folder", "--depth-scale", 1000)
    result = run(*arguments)
    assert result.status == 2
    assert "b.png" in result.err
    left_out = run(*arguments, "--skip-bad", "--json")
    assert left_out.status == 1
    values = json.loads(left_out.out)
    assert (values["images"], len(values["bad_samples"])) == (1, 1)
    assert "left out: " in left_out.err


def test_baselines_stand_beside_the_network(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glpn_deploy.accuracy.baselines.FIT_ROOMS", 5)
    arguments = ("eval", "any", "--count", 2, "--room-size", "32x48", "--baselines")
    values = json.loads(run(*arguments, "--json").out)
    assert list(values["baselines"]) == ["constant_delta1", "constant_abs_rel", "row_mean"]
    table = run(*arguments).out
    assert "row mean" in table
    assert "m everywhere (highest delta1)" in table


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--dataset", "nyu"], "the nyu data set has no path"),
        (["--data-path", "/no/such", "--dataset", "kitti"], "/no/such"),
        (["--data-path", "/no/such", "--dataset", "folder"], "there is no folder /no/such/images"),
        (
            ["--room-size", "12"],
            "--room-size '12'; expected height x width in pixels; write --room-size 192",
        ),
        (["--room-size", "8x8"], "8 × 8 pixels; expected whole numbers from 16"),
        (
            ["--room-size", "16x64", "--count", "1"],
            "room-2000000000: the array is 64 px wide and 16",
        ),
        (["."], "rooms came with the path '.'; expected none"),
        ([".", "--dataset", "nyu", "--count", "3"], "a nyu data set has no option count"),
        (["--split", "foo"], "the split is 'foo'; expected one of train, val, test"),
        ([".", "--dataset", "nyu", "--baselines"], "--baselines with --dataset nyu; expected rooms"),
        (
            ["--max-depth", "-3", "--count", "1"],
            "the option max_depth is -3.0; expected a finite",
        ),
        (["--crop", "nyu", "--count", "1"], "the nyu crop met a depth map of 96x128"),
    ],
)
def test_wrong_use_is_one_sentence(run: Callable, arguments: list[str], says: str) -> None:
    result = run("eval", "any", *arguments)
    assert result.status == 2
    assert says in result.err
    assert sum(line.startswith("error:") for line in result.err.splitlines()) == 1
    assert result.err.splitlines()[-1].startswith("error:")


def test_a_source_that_is_not_there(run: Callable) -> None:
    result = run("eval", "no-such-network", "--count", 1)
    assert result.status == 2
    assert "there is no file or folder 'no-such-network'" in result.err


def test_help_comes_at_once() -> None:
    code = "import sys; sys.argv = ['glpn-eval', '--help']; from glpn_deploy.cli.eval import main; main()"
    begin = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begin
    assert result.returncode == 0
    assert "--median-scaling" in result.stdout
    assert seconds < 2, "0.15 s on an idle machine"
    heavy = "assert not {'numpy', 'torch', 'PIL', 'onnxruntime'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", f"import sys, glpn_deploy.cli.eval; {heavy}"], check=True)


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """The tiny network in the packaged checkpoint's place; the working folder is empty."""
    monkeypatch.setattr("glpn_deploy.checkpoints.hub.DEMO_FOLDER", tiny_checkpoint)
    monkeypatch.chdir(tmp_path)
    return tiny_checkpoint


def test_demo_is_the_packaged_checkpoint(run: Callable, demo: Path) -> None:
    assert resolve_checkpoint("demo") == demo
    result = run("eval", "demo", "--count", 1, "--room-size", "32x32", "--json")
    assert result.status == 0, result.err
    assert json.loads(result.out)["backend"] == "torch"


def test_a_folder_called_demo_is_written_with_its_dot(demo: Path, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    assert resolve_checkpoint("demo") == demo, "an empty folder, such as make demo's, is no cause to warn"
    (tmp_path / "demo" / "config.json").write_text("{}")
    with pytest.warns(UserWarning, match=r"for the folder of that name write \./demo"):
        assert resolve_checkpoint("demo") == demo
    assert resolve_checkpoint("./demo") == resolve_checkpoint(Path("demo")) == Path("demo")


def test_without_a_packaged_checkpoint_demo_says_so(
    run: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("glpn_deploy.checkpoints.hub.DEMO_FOLDER", tmp_path / "nothing")
    result = run("eval", "demo", "--count", 1)
    assert result.status == 2
    assert "error: this installation carries no demo checkpoint" in result.err


def test_demo_loads_by_name_everywhere(demo: Path, tmp_path: Path) -> None:
    from glpn_deploy.checkpoints.files import describe_checkpoint

    (tmp_path / "demo").mkdir()
    assert describe_checkpoint("demo").source == "demo"
    with DepthEstimator.load("demo") as by_name, DepthEstimator.load(demo) as by_path:
        image = np.zeros((32, 64, 3), np.uint8)
        np.testing.assert_array_equal(by_name(image).depth, by_path(image).depth)
    assert GLPNForDepthEstimation.from_pretrained("demo").config.max_depth == 10
