"""glpn-export: what a person types, sees, and finds afterwards."""

from __future__ import annotations

import dataclasses
import json
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from glpn_deploy import DepthEstimator
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.datasets.rooms import render_room
from glpn_deploy.errors import ExportError
from glpn_deploy.exporters.search import recipes
from glpn_deploy.precisions import PRECISION_INFO


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint of one's own, to damage."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))


def nothing_but(folder: Path, *names: str) -> bool:
    """Whether the folder holds these entries and no leftover, hidden ones included."""
    return {path.name for path in folder.iterdir()} == set(names)


def test_a_checkpoint_becomes_a_verified_bundle(run: Callable, tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    result = run("export", tiny_checkpoint, out)
    assert result.status == 0
    for step in ("load checkpoint", "write model.onnx", "goldens", "parity", "write bundle"):
        assert step in result.out
    assert f"glpn-predict {out} photo.jpg" in result.out
    assert "opset" not in result.out.partition("goldens")[2]
    assert Bundle.open(out).artefact("fp32").parity["passed"]
    assert nothing_but(tmp_path, "bundle")


def test_json_is_the_manifest_and_nothing_else(run: Callable, tiny_checkpoint: Path, tmp_path: Path) -> None:
    result = run("export", tiny_checkpoint, tmp_path / "b", "--json", "--no-verify", "--opset", 20)
    manifest = json.loads(result.out)
    assert manifest == json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert manifest["artefacts"][0]["opset"] == 20
    assert manifest["artefacts"][0]["parity"] is None
    assert "not verified" in result.err


def test_the_next_command_is_about_the_bundle_even_where_it_is_called_demo(
    run: Callable, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``glpn-verify demo`` would be about the package's own checkpoint."""
    monkeypatch.chdir(tmp_path)
    result = run("export", tiny_checkpoint, "demo", "--no-verify")
    assert "  glpn-predict ./demo photo.jpg\n  glpn-verify ./demo\n" in result.out
    assert run("verify", "./demo").status == 0


def test_without_out_the_bundle_is_called_after_the_checkpoint(
    run: Callable, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("export", tiny_checkpoint, "--no-verify").status == 0
    assert (tmp_path / f"{tiny_checkpoint.name}-bundle" / "manifest.json").is_file()


def test_a_bundle_is_no_checkpoint(run: Callable, tiny_bundle: Path, tmp_path: Path) -> None:
    result = run("export", tiny_bundle, tmp_path / "b")
    assert result.status == 2
    assert "is a bundle already" in result.err


def test_an_onnx_file_is_no_checkpoint(run: Callable, tiny_bundle: Path, tmp_path: Path) -> None:
    result = run("export", tiny_bundle / "model.onnx", tmp_path / "b")
    assert result.status == 2
    assert "model.onnx is an ONNX file already" in result.err
    assert nothing_but(tmp_path)


def test_max_depth_scales_the_depth(run: Callable, tiny_checkpoint: Path, tmp_path: Path) -> None:
    assert run("export", tiny_checkpoint, tmp_path / "ten", "--no-verify").status == 0
    assert run("export", tiny_checkpoint, tmp_path / "eighty", "--no-verify", "--max-depth", 80).status == 0
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    near, far = (DepthEstimator.load(tmp_path / name)(image).depth for name in ("ten", "eighty"))
    np.testing.assert_allclose(far, near * 8, rtol=1e-5)


def test_a_kitti_checkpoint_at_ten_metres_warns(run: Callable, tiny_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "glpn-kitti")
    result = run("export", tmp_path / "glpn-kitti", tmp_path / "b", "--no-verify")
    assert result.status == 0
    assert result.err.startswith("warning:")
    assert "--max-depth 80" in result.err
    quiet = run("export", tmp_path / "glpn-kitti", tmp_path / "b", "--no-verify", "--max-depth", 80)
    assert "warning" not in quiet.err


def test_depth_that_moved_leaves_no_bundle(run: Callable, tiny_checkpoint: Path, tmp_path: Path) -> None:
    result = run("export", tiny_checkpoint, tmp_path / "b", "--tolerance", 1e-12)
    assert result.status == 1
    assert "differs by up to" in result.err
    assert nothing_but(tmp_path)


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _nonsense_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "glpn", "depths": "many"}')


def _other_model(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "dpt"}')


def _edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


def _missing_key(folder: Path) -> None:
    _edit_weights(folder, lambda tensors: tensors.pop("head.head.0.weight"))


def _extra_key(folder: Path) -> None:
    _edit_weights(folder, lambda tensors: tensors.update(extra=torch.zeros(1)))


def _wrong_shape(folder: Path) -> None:
    _edit_weights(folder, lambda tensors: tensors.update({"head.head.2.bias": torch.zeros(2)}))


def _truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


class _Planted:
    """Unpickling this writes a file."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("executed"),)  # type: ignore[return-value]


def _code_in_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"head": _Planted()}, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (_no_config, "config.json"),
        (_nonsense_config, "depths"),
        (_other_model, "dpt"),
        (_missing_key, "head.head.0.weight"),
        (_extra_key, "extra"),
        (_wrong_shape, "head.head.2.bias"),
        (_truncated, "model.safetensors"),
        (_code_in_pickle, "pytorch_model.bin"),
    ],
)
def test_a_bad_checkpoint_is_one_sentence(
    damage: Callable[[Path], None],
    text: str,
    run: Callable,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    damage(checkpoint)
    result = run("export", checkpoint, "bundle")
    assert result.status in (1, 2)
    assert result.err.count("\n") == 1
    assert text in result.err
    assert nothing_but(tmp_path, "checkpoint")  # no bundle, and nothing executed


@pytest.mark.parametrize("source", ["no/such/folder", "not a checkpoint", "/dev/null"])
def test_not_a_checkpoint(
    source: str, run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("export", source, "bundle", "--offline")
    assert result.status == 2
    assert result.err.count("\n") == 1
    assert nothing_but(tmp_path)


@pytest.mark.parametrize(
    "options", [("--opset", "16"), ("--opset", "x"), ("--max-depth", "-1"), ("--norm-eps", "mine")]
)
def test_wrong_options(
    options: tuple[str, str], run: Callable, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    assert run("export", tiny_checkpoint, tmp_path / "b", *options).status == 2
    assert nothing_but(tmp_path)


def test_a_folder_with_something_else_is_left_alone(
    run: Callable, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("the only copy")
    result = run("export", tiny_checkpoint, tmp_path)
    assert result.status == 2
    assert "something else" in result.err
    assert (tmp_path / "thesis.tex").read_text() == "the only copy"


def start(*arguments: object, limit: int | None = None) -> subprocess.Popen[str]:
    """The command as a process, its files limited to ``limit`` bytes."""

    def set_limit() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # which a shell's background jobs ignore
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-m", "glpn_deploy.cli.export", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=set_limit
    )


def test_a_full_disk(tiny_checkpoint: Path, tmp_path: Path) -> None:
    process = start(tiny_checkpoint, tmp_path / "b", limit=20_000)
    _, err = process.communicate(timeout=120)
    assert process.returncode in (1, 2)
    assert "Traceback" not in err
    assert "File too large" in err
    assert nothing_but(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle(
    signal_number: int, tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    old = shutil.copytree(tiny_bundle, tmp_path / "b")
    before = (old / "manifest.json").read_bytes()
    process = start(tiny_checkpoint, old)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".b.partial-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal_number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err == "error: interrupted; nothing unfinished was left behind.\n"
    assert nothing_but(tmp_path, "b")
    assert (old / "manifest.json").read_bytes() == before
    Bundle.open(old).check_files()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six small pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(6):
        Image.fromarray(render_room(seed, 64, 96).image).save(folder / f"{seed}.png")
    return folder


def test_fp16_is_checked_and_says_what_it_costs(
    run: Callable, tiny_checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "b"
    asked = ("--no-verify", "--fp16", "--calibration", photos, "--max-abs-rel", 0.2)
    brief = run("export", tiny_checkpoint, out, *asked)
    assert brief.status == 0, brief.err
    assert "checked on" not in brief.out
    assert re.search(r"^precision +AbsRel +size +speed here +made for *$", brief.out, re.MULTILINE)
    row = r"^fp16 +[\d.e-]+ +0\.\d MB +[\d.]+× +TensorRT 8\.6 or later"
    assert re.search(row, brief.out, re.MULTILINE), brief.out
    assert [line for line in brief.out.splitlines() if line.startswith("✓")] == [
        line for line in brief.out.splitlines() if " s  " in line
    ]
    result = run("export", tiny_checkpoint, out, *asked, "-v")
    assert "fp16, checked on 6 images (photographs of photos):" in result.out
    assert re.search(r"✓ everything in fp16: AbsRel [\d.e-]+, at most [\d.e-]+ m; 0\.\d MB", result.out)
    assert re.search(r"worth it|recommended", result.out)
    assert (out / "model.fp16.onnx").is_file()


def test_a_missed_budget_exits_1_and_leaves_the_fp32_bundle(
    run: Callable, tiny_checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "b"
    asked = ("--no-verify", "--fp16", "--calibration", photos, "--max-abs-rel", "1e-12", "--json")
    result = run("export", tiny_checkpoint, out, *asked)
    assert result.status == 1
    assert "only FP32 meets the budget of fp16" in result.err
    assert "--max-abs-rel" in result.err
    manifest = json.loads(result.out)
    assert [artefact["precision"] for artefact in manifest["artefacts"]] == ["fp32"]
    assert manifest["refused"][0]["precision"] == "fp16"
    assert run("verify", out).status == 0


def test_the_percentile_that_is_asked_for_is_taken(
    run: Callable, tiny_checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    asked = ("--int8", "--calibration", photos, "--calibration-method", "percentile", "--max-abs-rel", 0.5)
    found = {}
    for percentile in (90, 99.9):
        out = tmp_path / str(percentile)
        rest = ("--calibration-percentile", percentile, "--no-verify", "--no-verdict")
        assert run("export", tiny_checkpoint, out, *asked, *rest).status == 0
        found[percentile] = Bundle.open(out).artefact("int8")
        assert found[percentile].calibration["percentile"] == percentile
    near, nearest = (found[percentile].ladder["rungs"][0]["abs_rel"] for percentile in (90, 99.9))
    assert nearest < near  # a tenth of the values clipped costs more than a thousandth


def make_no_int8(source: Path, target: Path, *_: object) -> Path:
    raise ExportError("the weights are beyond FP16")


@pytest.mark.parametrize(
    ("fp16", "have"), [("0.3", "model.onnx or model.fp16.onnx"), ("1e-12", "model.onnx")]
)
def test_what_the_bundle_lacks_and_what_it_has_instead(
    run: Callable,
    tiny_checkpoint: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fp16: str,
    have: str,
) -> None:
    tensors, _, about = recipes._QUANTIZERS["int8"]
    monkeypatch.setitem(recipes._QUANTIZERS, "int8", (tensors, make_no_int8, about))
    asked = ("--fp16", "--int8", "--calibration", photos, "--max-abs-rel", fp16, "--no-verdict", "-v")
    result = run("export", tiny_checkpoint, tmp_path / "b", "--no-verify", *asked)
    assert result.status == 1
    assert "int8 could not be made (the weights are beyond FP16): the bundle goes without" in result.err
    assert f"deploy its {have}{', or allow' if have == 'model.onnx' else '.'}" in result.err
    assert ("only FP32 meets the budget of fp16" in result.err) is (have == "model.onnx")
    assert "✗ could not be made: the weights are beyond FP16." in result.out
    assert run("verify", tmp_path / "b").status == 0


def test_what_fp16_passes_and_int8_misses_is_not_called_fp32_alone(
    run: Callable, tiny_checkpoint: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = dataclasses.replace(PRECISION_INFO["int8"], max_abs_rel=1e-12)
    monkeypatch.setitem(PRECISION_INFO, "int8", strict)
    asked = ("--fp16", "--int8", "--calibration", photos, "--no-verdict", "--no-verify")
    result = run("export", tiny_checkpoint, tmp_path / "b", *asked)
    assert result.status == 1
    assert "error: no graph of int8 is within its budget: the bundle goes without" in result.err
    assert "deploy its model.onnx or model.fp16.onnx, or allow more with --max-abs-rel" in result.err


def test_opsets_that_not_every_tensorrt_reads_are_told(
    run: Callable, tiny_checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    asked = ("--no-verify", "--no-verdict", "--calibration", photos, "--max-abs-rel", 0.3, "-v")
    result = run("export", tiny_checkpoint, tmp_path / "b", *asked, "--fp16", "--bf16")
    assert (
        "model.bf16.onnx has opset 22 instead of 17, the first with bf16: it takes TensorRT 11" in result.out
    )
    assert "model.fp16.onnx has opset" not in result.out
    assert "warning" not in result.err
    result = run("export", tiny_checkpoint, tmp_path / "b", *asked, "--fp16", "--opset", 20)
    assert "warning: opset 20 takes TensorRT 10 or later; the default, 17, takes TensorRT 8.6 or later" in (
        result.err
    )
    assert "has opset 20" not in result.out


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--int8"], "need real images"),
        (
            ["--calibration", "nowhere"],
            "--calibration without a lower precision; expected one of --fp16, --bf16",
        ),
        (["--eval", "nyu", "--data-path", "/nope"], "leave out --eval and --data-path"),
        (["--max-abs-rel", "-5", "--target", "cpu"], "leave out --target and --max-abs-rel"),
        (["--no-verdict"], "--no-verdict without a lower precision"),
        (["--fp16", "--data-path", "/nope"], "--data-path without --eval; expected a data set"),
        (["--fp16", "--calibration-method", "percentile"], "--calibration-method without --int8 or --fp8"),
        (["--bf16", "--calibration-images", "9"], "--calibration-images without --int8 or --fp8"),
        (["--fp16", "--target", "cpu"], "--target without --int8 or --fp8"),
        (["--fp16", "--for-tensorrt", "8.6"], "--for-tensorrt without --int8"),
        (["--int8", "--calibration-percentile", "99"], "without --calibration-method percentile"),
        (
            ["--int8", "--calibration-method", "percentile", "--calibration-percentile", "40"],
            "the option calibration_percentile is 40",
        ),
        (["--int8", "--fp8", "--target", "cpu"], "no CPU computes in FP8"),
        (["--fp16", "--max-abs-rel", "0"], "max_abs_rel is 0"),
        (["--fp16", "--max-abs-rel", "nan"], "max_abs_rel is nan"),
        (["--fp16", "--max-abs-m", "inf"], "max_abs_m is inf"),
        (["--fp16", "--calibration", "nowhere"], "the calibration folder nowhere does not exist"),
        (["--int8", "--calibration", "nowhere"], "the calibration folder nowhere does not exist"),
        (["--fp16", "--max-abs-rel", "-1"], "max_abs_rel"),
        (["--fp16", "--eval", "nyu"], "nyu"),
        (["--io", "fp16"], "add --fp16, or leave out --io fp16"),
        (["--half-io"], "add --fp16, or leave out --io fp16"),
        (["--bf16", "--io", "fp16"], "no graph has the half-precision input and output"),
    ],
)
def test_wrong_use_of_lower_precisions_is_one_sentence_and_writes_nothing(
    run: Callable,
    tiny_checkpoint: Path,
    tmp_path: Path,
    arguments: list[str],
    says: str,
) -> None:
    result = run("export", tiny_checkpoint, tmp_path / "b", "--no-verify", *arguments)
    assert result.status == 2
    assert says in result.err
    assert result.err.count("error:") == 1
    assert nothing_but(tmp_path)


def test_int8_is_for_cpus_without_a_gpu_and_says_so(
    run: Callable, tiny_checkpoint: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glpn_deploy.exporters.options.find_device_or_none", lambda: None)
    asked = ("--no-verify", "--no-verdict", "--precision", "int8", "--calibration", photos)
    result = run("export", tiny_checkpoint, tmp_path / "b", *asked, "--max-abs-rel", 0.5)
    assert result.status == 0, result.err
    assert "INT8 is made for CPUs, since there is no NVIDIA GPU here" in result.out
    assert "add --target tensorrt" in result.out
    assert re.search(r"^int8 .* CPUs", result.out, re.MULTILINE)
    assert Bundle.open(tmp_path / "b").artefact("int8").calibration["recipe"]["target"] == "cpu"
