"""glpn-predict: files, folders and globs in, depth maps out; a bad image is skipped and said."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from glpn_deploy import DepthEstimator
from glpn_deploy.errors import BackendError
from glpn_deploy.runtimes.rt_onnxruntime import OnnxRuntime


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = tmp_path / "shots"
    folder.mkdir()
    Image.fromarray(skimage.data.coffee()[:200, :300]).save(folder / "coffee.jpg")
    Image.fromarray(skimage.data.camera()[:64, :97]).save(folder / "camera.png")
    return folder


def test_a_photograph(run: Callable, tiny_bundle: Path, shots: Path, tmp_path: Path) -> None:
    out = tmp_path / "depth"
    result = run(
        "predict",
        tiny_bundle,
        shots / "coffee.jpg",
        "--out",
        out,
        "--save",
        "mm,kitti,color,npy,tiff,ply,side,preview",
        "--fov",
        60,
    )
    assert result.status == 0, result.err
    depth = DepthEstimator.load(tiny_bundle)(shots / "coffee.jpg").depth
    millimetres = np.asarray(Image.open(out / "coffee.depth_mm.png"))
    assert millimetres.dtype == np.uint16
    assert np.abs(millimetres / 1000 - depth).max() <= 0.0005 + 1e-6
    kitti = np.asarray(Image.open(out / "coffee.depth_kitti.png"))
    np.testing.assert_array_equal(kitti, np.rint(depth * 256))
    np.testing.assert_array_equal(np.load(out / "coffee.depth.npy"), depth)
    np.testing.assert_array_equal(np.asarray(Image.open(out / "coffee.depth.tiff")), depth)
    assert Image.open(out / "coffee.depth_color.png").height == 200
    assert Image.open(out / "coffee.depth_side.png").width > 600
    assert Image.open(out / "coffee.depth_cloud.png").size == (300, 200)
    assert (out / "coffee.ply").read_bytes().startswith(b"ply\nformat binary_little_endian")
    for path in out.iterdir():
        assert str(path) in result.out
    assert result.out.count("looks black in a viewer") == 1


def test_an_onnx_file_of_other_software(
    run: Callable, foreign_onnx: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    image = tmp_path / "rgb.png"
    Image.fromarray(skimage.data.coffee()[:64, :96]).save(image)
    expected = DepthEstimator.load(tiny_checkpoint)(image).depth
    result = run("predict", foreign_onnx, image, "--max-depth", 10, "--save", "npy", "--out", tmp_path)
    assert result.status == 0, result.err
    np.testing.assert_allclose(np.load(tmp_path / "rgb.depth.npy"), expected, rtol=0, atol=1e-3)
    for option, says in (((), "--max-depth 10"), (("--max-depth", 0), "above 0")):
        refused = run("predict", foreign_onnx, image, *option, "--out", tmp_path)
        assert refused.status == 2
        assert says in refused.err
    bundled = run("predict", tiny_checkpoint, image, "--max-depth", 80, "--out", tmp_path)
    assert bundled.status == 2
    assert "bundles and checkpoints do" in bundled.err


def test_what_is_meant_is_said(run: Callable, tiny_bundle: Path, shots: Path, tmp_path: Path) -> None:
    swapped = run("predict", shots / "coffee.jpg", tiny_bundle)
    assert swapped.status == 2
    assert "swap the two" in swapped.err
    result = run("predict", tiny_bundle, shots / "coffee.jpg", "--out", tmp_path / "x.png")
    assert result.status == 2
    assert "a folder" in result.err
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("what", ["folder", "glob"])
def test_folders_and_globs_as_json(
    what: str, run: Callable, tiny_bundle: Path, shots: Path, tmp_path: Path
) -> None:
    (shots / "notes.txt").write_text("not an image")
    name = shots if what == "folder" else f"{shots}/*"
    result = run("predict", tiny_bundle, name, "--out", tmp_path / "d", "--save", "npy", "--json")
    assert result.status == 0, result.err
    report = json.loads(result.out)
    assert [Path(entry["image"]).name for entry in report["images"]] == ["camera.png", "coffee.jpg"]
    for entry in report["images"]:
        depth = np.load(entry["files"]["npy"])
        assert depth.shape == (entry["height"], entry["width"])
        assert entry["min_m"] == pytest.approx(depth.min(), abs=1e-3)


def test_measure_says_what_it_took(run: Callable, tiny_bundle: Path, shots: Path, tmp_path: Path) -> None:
    result = run("predict", tiny_bundle, shots, "--out", tmp_path / "d", "--measure", "--device", "cpu")
    assert result.status == 0, result.err
    assert "auto measures" in result.out
    assert ", measured on 1x64x96: " in result.out.replace("\n", " ")


def test_json_says_what_ran(run: Callable, tiny_bundle: Path, shots: Path, tmp_path: Path) -> None:
    arguments = ["predict", tiny_bundle, shots, "--out", tmp_path / "d", "--save", "mm", "--json"]
    result = run(*arguments, "--backend", "openvino", "--cache", tmp_path / "cache")
    ran = {"backend": "openvino", "device": "cpu", "precision": "fp32"}
    assert json.loads(result.out)["runtime"].items() >= ran.items()
    assert any((tmp_path / "cache").iterdir())
    result = run(*arguments, "--device", "cpu")
    assert json.loads(result.out)["runtime"]["why"].startswith("auto took ")


def test_one_bad_image_is_skipped_and_said(
    run: Callable, tiny_bundle: Path, shots: Path, tmp_path: Path
) -> None:
    (shots / "bad.jpg").write_bytes((shots / "coffee.jpg").read_bytes()[:500])
    Image.new("RGB", (500, 31)).save(shots / "thin.png")
    result = run("predict", tiny_bundle, shots, "--out", tmp_path / "d")
    assert result.status == 1
    assert result.out.count("skipped:") == 2
    assert "bad.jpg" in result.out
    assert "31" in result.out
    assert "2 of 4 images" in result.out
    assert (tmp_path / "d" / "coffee.depth_mm.png").is_file()


def test_a_decompression_bomb_is_skipped(run: Callable, tiny_bundle: Path, tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    result = run("predict", tiny_bundle, tmp_path / "bomb.png", "--out", tmp_path / "d")
    assert result.status == 1
    assert "bomb.png" in result.out
    assert "--max-pixels" in result.out


def test_grey_pictures_and_colours_without_legend(
    run: Callable, tiny_bundle: Path, shots: Path, tmp_path: Path
) -> None:
    out, save = tmp_path / "d", "gray,gray16,color,npy"
    asked = ("--save", save, "--no-legend", "--near", "black", "--max-m", 20)
    result = run("predict", tiny_bundle, shots / "coffee.jpg", "--out", out, *asked)
    assert result.status == 0, result.err
    depth = np.load(out / "coffee.depth.npy").astype(np.float64)
    for name, white, kind in (("gray", 255, np.uint8), ("gray16", 65535, np.uint16)):
        picture = np.asarray(Image.open(out / f"coffee.depth_{name}.png"))
        assert picture.dtype == kind
        assert np.abs(picture - np.clip(depth / 20, 0, 1) * white).max() <= 0.51
    assert Image.open(out / "coffee.depth_color.png").size == (300, 200)


def test_larger_images_are_allowed_by_choice_and_shown_small(
    run: Callable, tiny_bundle: Path, shots: Path, tmp_path: Path
) -> None:
    arguments = ["predict", tiny_bundle, shots / "coffee.jpg", "--out", tmp_path / "d", "--save", "npy"]
    assert run(*arguments, "--max-pixels", 200 * 300 - 1).status == 1
    result = run(*arguments, "--max-pixels", 200 * 300, "--size", "64x96")
    assert result.status == 0, result.err
    shown = DepthEstimator.load(tiny_bundle, input_size=(64, 96))(shots / "coffee.jpg").depth
    np.testing.assert_array_equal(np.load(tmp_path / "d" / "coffee.depth.npy"), shown)


def test_results_beside_the_images_are_no_images_and_a_stopped_run_goes_on(
    run: Callable, tiny_bundle: Path, shots: Path
) -> None:
    (shots / "._coffee.jpg").write_bytes(b"of macOS")
    arguments = ["predict", tiny_bundle, shots, "--out", shots, "--json"]
    assert len(json.loads(run(*arguments).out)["images"]) == 2
    (shots / "camera.depth_mm.png").unlink()
    again = run(*arguments, "--skip-existing")
    assert [Path(entry["image"]).name for entry in json.loads(again.out)["images"]] == ["camera.png"]
    assert (shots / "camera.depth_mm.png").is_file()
    assert json.loads(run(*arguments, "--skip-existing").out)["images"] == []
    assert len(json.loads(run(*arguments).out)["images"]) == 2


def test_equal_names_do_not_overwrite_each_other(
    run: Callable, tiny_bundle: Path, shots: Path, tmp_path: Path
) -> None:
    other = tmp_path / "more"
    other.mkdir()
    Image.fromarray(skimage.data.coffee()[:64, :64]).save(other / "coffee.jpg")
    result = run("predict", tiny_bundle, shots / "coffee.jpg", other, "--out", tmp_path / "d", "--save", "mm")
    assert result.status == 0
    assert len(list((tmp_path / "d").iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nothing.jpg"], "nothing.jpg"),
        (["SHOT", "--save", "obj"], "obj"),
        (["SHOT", "--save", ""], "at least one"),
        (["SHOT", "--max-m", "Auto"], "expected metres, or auto"),
        (["SHOT", "--max-m", "1,2"], "expected metres, or auto"),
        (["SHOT", "--save", "ply"], "--fov"),
        (["SHOT", "--save", "ply", "--intrinsics", "1,2,3"], "FX,FY,CX,CY"),
        (["SHOT", "--backend", "torch"], "torch"),
        (["SHOT", "--precision", "int8"], "int8"),
        (["SHOT", "--device", "cuda:1"], "CUDA_VISIBLE_DEVICES=1"),
        (["SHOT", "--device", "mps"], "no backend here runs on that hardware"),
        (["SHOT", "--device", "GPU"], "cuda is an NVIDIA GPU"),
        (["SHOT", "--device", "toaster"], "expected one of auto, cpu, cuda"),
    ],
)
def test_wrong_use(
    arguments: list[str], text: str, run: Callable, tiny_bundle: Path, shots: Path, tmp_path: Path
) -> None:
    named = [str(shots / "coffee.jpg") if name == "SHOT" else name for name in arguments]
    result = run("predict", tiny_bundle, *named, "--out", tmp_path / "d")
    assert result.status == 2
    assert text in result.err


def test_checkpoints_and_onnx_files_are_sources_too(
    run: Callable, tiny_checkpoint: Path, tiny_onnx: Path, shots: Path, tmp_path: Path
) -> None:
    for name, source in (("torch", tiny_checkpoint), ("onnx", tiny_onnx)):
        result = run("predict", source, shots / "camera.png", "--out", tmp_path / name, "--save", "npy")
        assert result.status == 0, result.err
    a, b = (np.load(tmp_path / name / "camera.depth.npy") for name in ("torch", "onnx"))
    assert np.abs(a - b).max() <= 1e-4


def test_names_are_printed_as_they_are(run: Callable, tiny_bundle: Path, shots: Path, tmp_path: Path) -> None:
    names = ("a [x].png", "[bold]b.png", ":cat:.png")
    for name in names:
        (shots / name).write_bytes((shots / "camera.png").read_bytes())
    (shots / "bad [y].png").write_bytes(b"none")
    out = tmp_path / "r[/b]"
    result = run("predict", tiny_bundle, shots, "--out", out, "--save", "mm")
    assert result.status == 1
    for name in names:
        assert f"  {out}/{name[:-4]}.depth_mm.png\n" in result.out
    assert "bad [y].png is not an image" in result.out


def test_control_characters_of_a_name_do_not_reach_the_terminal(
    run: Callable, tiny_bundle: Path, shots: Path, tmp_path: Path
) -> None:
    (shots / "a\x1b[2J\n.png").write_bytes(b"none")
    (shots / "b\x1b]0;x\x07.png").write_bytes((shots / "camera.png").read_bytes())
    (shots / os.fsdecode(b"c\xff.png")).write_bytes((shots / "camera.png").read_bytes())
    result = run("predict", tiny_bundle, shots, "--out", tmp_path / "d", "--save", "mm")
    assert result.status == 1
    assert not {"\x1b", "\x07"} & {*result.out, *result.err}
    assert r"a\x1b[2J\n.png" in result.out
    assert r"b\x1b]0;x\x07.depth_mm.png" in result.out
    assert r"c\udcff.depth_mm.png" in result.out


@pytest.mark.parametrize("what", ["memory", "backend", "nan"])
def test_a_backend_that_fails_on_one_image_skips_that_image(
    what: str, run: Callable, tiny_bundle: Path, shots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inference = OnnxRuntime._infer

    def fail_on_wide_ones(self: OnnxRuntime, pixel_values: np.ndarray) -> np.ndarray:
        depth = inference(self, pixel_values)
        if pixel_values.shape[3] > 200:
            if what == "memory":
                raise MemoryError
            if what == "backend":
                raise BackendError("Allocation of 9 GB failed", fix="try a smaller image")
            depth[0, 0, 0] = np.nan
        return depth

    monkeypatch.setattr(OnnxRuntime, "_infer", fail_on_wide_ones)
    result = run("predict", tiny_bundle, shots, "--out", tmp_path / "d", "--backend", "onnxruntime", "--json")
    assert result.status == 1
    told = json.loads(result.out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert told["failed"] == 1
    bad = [entry for entry in told["images"] if "error" in entry]
    assert len(bad) == 1
    assert bad[0]["image"] == str(shots / "coffee.jpg")
    assert str(shots / "coffee.jpg") in bad[0]["error"]
    assert (tmp_path / "d" / "camera.depth_mm.png").is_file()
    assert not list((tmp_path / "d").glob("coffee*"))


def test_a_precision_that_the_bundle_lacks_names_the_export(
    run: Callable, tiny_bundle: Path, shots: Path
) -> None:
    arguments = ["--precision", "int8", "--backend", "onnxruntime"]
    result = run("predict", tiny_bundle, shots / "coffee.jpg", *arguments)
    assert result.status == 2
    assert f"glpn-export glpn-tiny {tiny_bundle} --int8" in result.err


def test_a_file_of_a_bundle_is_not_the_bundle(run: Callable, tiny_bundle: Path) -> None:
    result = run("verify", tiny_bundle / "model.onnx")
    assert result.status == 2
    assert f"give the folder itself: {tiny_bundle}" in result.err


def test_a_scale_fitted_to_the_picture(run: Callable, tiny_bundle: Path, shots: Path, tmp_path: Path) -> None:
    asked = ("--save", "color", "--no-legend", "--max-m", "auto", "--out", tmp_path)
    assert run("predict", tiny_bundle, shots / "coffee.jpg", *asked).status == 0
    depth_map = DepthEstimator.load(tiny_bundle)(shots / "coffee.jpg")
    drawn = np.asarray(Image.open(tmp_path / "coffee.depth_color.png"))
    assert (drawn == depth_map.colorize(max_m="auto")).all()
