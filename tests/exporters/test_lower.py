"""Lower precisions in a bundle: what is in it, what the manifest says, and what happens over budget."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from PIL import Image

from glpn_deploy import DepthEstimator
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.datasets.rooms import RenderedRooms, render_room
from glpn_deploy.errors import BackendError, ExportError, InputError, WriteError
from glpn_deploy.exporters import build
from glpn_deploy.exporters.build import build_bundle
from glpn_deploy.exporters.engine.explain_graphs import Compiler
from glpn_deploy.exporters.options import BuildOptions, CalibrationOptions, LowerOptions, OnnxOptions
from glpn_deploy.exporters.search import recipes
from glpn_deploy.exporters.to_onnx import FP32Graphs
from glpn_deploy.precisions import PRECISION_INFO
from glpn_deploy.proof import parity
from glpn_deploy.proof.checks.images import FP32Depth
from glpn_deploy.proof.options import VerifyOptions
from glpn_deploy.proof.verification import verify
from glpn_deploy.runtimes.onnx_file.artefact_file import artefact_path
from glpn_deploy.runtimes.options import RuntimeOptions
from tests.refusals import refused

FEW_SHAPES = ((1, 32, 32), (2, 64, 96))  # where a test is not about them


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten small rooms as files."""
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(10):
        Image.fromarray(render_room(seed, 64, 96).image).save(folder / f"{seed}.png")
    return folder


@pytest.fixture(autouse=True)
def small_goldens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_GOLDEN_ROOMS", ((64, 96),))


@pytest.fixture(scope="module")
def all_of_them(tiny_checkpoint: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    lower = LowerOptions(
        precisions=("fp16", "bf16", "int8", "fp8"), images=photos, max_abs_rel=0.3, target="tensorrt"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "SWEEP", FEW_SHAPES)
        return build_bundle(tiny_checkpoint, tmp_path_factory.mktemp("all") / "b", options(lower))


def options(lower: LowerOptions) -> BuildOptions:
    return BuildOptions(verify=False, lower=lower)


@pytest.mark.slow
def test_each_precision_is_a_file_with_its_record(all_of_them: Bundle) -> None:
    artefacts = {artefact.precision: artefact for artefact in all_of_them.manifest.artefacts}
    assert list(artefacts) == ["fp32", "fp16", "bf16", "int8", "fp8"]
    for precision, artefact in artefacts.items():
        suffix = "" if precision == "fp32" else f".{precision}"
        assert artefact.file == f"model{suffix}.onnx"
        assert artefact_path(all_of_them, artefact).stat().st_size > 0
        if precision == "fp32":
            continue
        assert artefact.budget == {"max_abs_rel": 0.3, "max_abs_m": None}
        assert artefact.ladder["rungs"][-1]["passed"]
        assert artefact.ladder["images"] == 2
        assert (artefact.calibration is None) == (precision in ("fp16", "bf16"))
        assert artefact.verdict["sentence"]
    assert artefacts["bf16"].opset == 22
    assert artefacts["fp8"].opset == 19
    assert artefacts["int8"].opset == 20
    if Compiler.installed():
        assert all(artefacts[p].compiled["sentence"].startswith(p) for p in ("fp16", "bf16", "int8", "fp8"))
        assert not artefacts["int8"].compiled["recommended"]
    assert artefacts["int8"].calibration["images"] == 8
    assert len(artefacts["int8"].calibration["digest"]) == 64
    assert Bundle.open(all_of_them.folder).manifest == all_of_them.manifest
    assert {path.name for path in all_of_them.folder.parent.iterdir()} == {"b"}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_estimator_runs_them(all_of_them: Bundle, precision: str) -> None:
    image = render_room(77, 64, 96).image
    with DepthEstimator.load(all_of_them.folder) as fp32:
        expected = fp32(image).depth
    with DepthEstimator.load(all_of_them.folder, precision=precision, allow_fallback=True) as low:
        depth = low(image).depth
    assert low.runtime.precision == precision
    assert not np.array_equal(depth, expected)
    assert np.mean(np.abs(depth - expected) / expected) < 0.3


@pytest.mark.slow
def test_openvino_says_that_it_does_not_run_int8_for_tensorrt(all_of_them: Bundle) -> None:
    """With FP16 scales, from opset 19 on; ``auto`` takes ONNX Runtime, as above."""
    with pytest.raises(BackendError) as caught:
        DepthEstimator.load(all_of_them.folder, backend="openvino", precision="int8")
    assert "--for-tensorrt 8.6" in caught.value.fix


@pytest.mark.slow
def test_precisions_of_one_fp32_graph_share_it_and_its_depth(
    tiny_checkpoint: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FP16 and INT8 take the bundle's own graph; BF16 needs one of opset 22, written and run for it."""
    written, run = [], []

    write = FP32Graphs.write

    def spy(graphs: FP32Graphs, path: Path, options: OnnxOptions) -> Path:
        written.append(options.opset)
        return write(graphs, path, options)

    class Spy(FP32Depth):
        def __init__(self, source: Path, *args: Any, **kwargs: Any) -> None:
            run.append(source.name)
            super().__init__(source, *args, **kwargs)

    monkeypatch.setattr(FP32Graphs, "write", spy)
    monkeypatch.setattr("glpn_deploy.exporters.lower.FP32Depth", Spy)
    lower = LowerOptions(
        precisions=("fp16", "int8", "bf16"),
        images=photos,
        max_abs_rel=0.3,
        target="tensorrt",
        sweep=False,
        verdict=False,
    )
    bundle = build_bundle(tiny_checkpoint, tmp_path / "b", options(lower))
    assert len(bundle.manifest.artefacts) == 4
    assert written == [17, 17, 20, 22]  # the bundle's own, and those in TensorRT's form
    assert run == ["model.onnx"]


def test_a_precision_over_budget_is_refused_and_the_rest_stands(
    tiny_checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    lower = LowerOptions(precisions=("fp16",), images=photos, max_abs_rel=1e-12, verdict=False)
    bundle = build_bundle(tiny_checkpoint, tmp_path / "b", options(lower))
    assert [artefact.precision for artefact in bundle.manifest.artefacts] == ["fp32"]
    (refused,) = json.loads((tmp_path / "b" / "manifest.json").read_text())["refused"]
    assert refused["precision"] == "fp16"
    assert refused["passed"] is False
    assert len(refused["rungs"]) > 2
    assert not (tmp_path / "b" / "model.fp16.onnx").exists()
    assert Bundle.open(tmp_path / "b").check_files() == len(bundle.manifest.files)


def test_ground_truth_can_refuse_what_the_budget_allows(
    tiny_checkpoint: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = dataclasses.replace(PRECISION_INFO["fp16"], max_delta1_drop=-1.0)  # nothing can gain so much
    monkeypatch.setitem(PRECISION_INFO, "fp16", strict)
    rooms = RenderedRooms("test", 2, height=64, width=96)
    lower = LowerOptions(
        precisions=("fp16",), images=photos, max_abs_rel=0.5, ground_truth=rooms, verdict=False, sweep=False
    )
    bundle = build_bundle(tiny_checkpoint, tmp_path / "b", options(lower))
    (refused,) = bundle.manifest.refused
    assert all(rung["abs_rel"] < 0.5 for rung in refused["rungs"])
    assert all(rung["accuracy"]["passed"] is False for rung in refused["rungs"])


def test_int8_without_images_is_refused_before_anything_is_written(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    with refused(InputError, got="need real images"):
        build_bundle(tiny_checkpoint, tmp_path / "b", options(LowerOptions(precisions=("int8",))))
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_work")
def test_a_calibration_folder_of_no_use_is_refused_before_the_checkpoint_is_read(tmp_path: Path) -> None:
    (tmp_path / "deep" / "photos").mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(tmp_path / "deep" / "photos" / "a.png")
    for folder, message in (
        (tmp_path / "none", "does not exist"),
        (tmp_path / "deep", "sub-folders are not"),
    ):
        with pytest.raises(InputError, match=message):
            build_bundle(
                "anywhere", tmp_path / "b", options(LowerOptions(precisions=("fp16",), images=folder))
            )
    one = options(LowerOptions(precisions=("int8",), images=tmp_path / "deep" / "photos"))
    with refused(InputError, got="1 photographs (sub-folders are not searched)"):
        build_bundle("anywhere", tmp_path / "b", one)


def test_too_little_memory_for_ranges_is_said_before_the_other_precisions(
    tiny_checkpoint: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glpn_deploy.exporters.calibration.calibration.available_memory", lambda: 1000)
    monkeypatch.setattr(build, "_write_goldens", lambda *a: pytest.fail("the work had begun"))
    with refused(ExportError, got=("calibrating at 96x64 px takes about", "GB of memory")):
        build_bundle(
            tiny_checkpoint,
            tmp_path / "b",
            BuildOptions(lower=LowerOptions(precisions=("fp16", "int8"), images=photos)),
        )
    assert not list(tmp_path.iterdir())


def test_a_precision_that_cannot_be_made_does_not_take_the_others_along(
    tiny_checkpoint: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Path, target: Path, *args: object) -> None:
        raise ExportError(f"{target} has weights beyond FP16")

    tensors, _, about = recipes._QUANTIZERS["int8"]
    monkeypatch.setitem(recipes._QUANTIZERS, "int8", (tensors, fail, about))
    lower = LowerOptions(
        precisions=("int8", "fp16"), images=photos, max_abs_rel=0.3, sweep=False, verdict=False
    )
    bundle = build_bundle(tiny_checkpoint, tmp_path / "b", options(lower))
    assert [artefact.precision for artefact in bundle.manifest.artefacts] == ["fp32", "fp16"]
    (refused,) = Bundle.open(tmp_path / "b").manifest.refused
    assert (refused["precision"], refused["passed"], refused["rungs"]) == ("int8", False, [])
    assert refused["reason"] == "int8/step-0/model.int8.onnx has weights beyond FP16."
    assert Bundle.open(tmp_path / "b").check_files() == len(bundle.manifest.files)


def test_a_failure_on_the_way_leaves_the_old_bundle(
    tiny_bundle: Path, bundle_copy: Path, tiny_checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: Any) -> None:
        raise WriteError("the disk is on fire")

    before = (bundle_copy / "manifest.json").read_bytes()
    monkeypatch.setattr("glpn_deploy.exporters.search.recipes.to_half", fail)
    with refused(WriteError, got="on fire"):
        build_bundle(tiny_checkpoint, bundle_copy, options(LowerOptions(precisions=("fp16",), images=photos)))
    assert (bundle_copy / "manifest.json").read_bytes() == before
    assert {path.name for path in bundle_copy.parent.iterdir()} == {bundle_copy.name}


@pytest.mark.slow
def test_half_precision_input_and_output_hold_from_export_to_verification(
    tiny_checkpoint: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "SWEEP", FEW_SHAPES)
    monkeypatch.setattr(Compiler, "installed", lambda: False)  # test_rtx_compiler.py compiles them
    lower = LowerOptions(
        precisions=("fp16", "bf16", "int8", "fp8"), images=photos, max_abs_rel=0.3, target="tensorrt"
    )
    bundle = build_bundle(tiny_checkpoint, tmp_path / "b", BuildOptions(lower=lower, io="fp16"))
    said = {artefact.precision: artefact.io for artefact in Bundle.open(bundle.folder).manifest.artefacts}
    assert said == {"fp32": "fp32", "fp16": "fp16", "bf16": "fp32", "int8": "fp16", "fp8": "fp16"}
    for artefact in bundle.manifest.artefacts:
        graph = onnx.load(str(artefact_path(bundle, artefact))).graph
        types = {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
        assert types == {TensorProto.FLOAT16 if artefact.io == "fp16" else TensorProto.FLOAT}
        if artefact.io == "fp16":
            assert artefact.parity["passed"]
            assert artefact.verdict["candidate_ms"] > 0  # it ran here, float32 in and out
    found = verify(bundle.folder, VerifyOptions(runtime=RuntimeOptions(device="cpu", threads=1)))
    assert found.passed
    assert found.complete
    assert [report.candidate["precision"] for report in found.reports][1:3] == ["fp16", "fp16"]
    image = render_room(77, 64, 96).image
    with DepthEstimator.load(bundle.folder, "onnxruntime", "fp16", allow_fallback=True) as half:
        depth = half(image).depth
    with DepthEstimator.load(bundle.folder) as fp32:
        assert np.abs(depth - fp32(image).depth).max() < 0.3
    np.testing.assert_array_equal(depth, depth.astype(np.float16))  # an FP16 output, at the image's own size


@pytest.mark.parametrize(
    "options", [None, {"precisions": ("bf16",)}, {"precisions": ("int8",), "target": "cpu"}]
)
def test_half_precision_input_and_output_are_refused_where_no_graph_has_them(
    options: dict[str, Any] | None,
) -> None:
    with refused(InputError, got="half-precision input and output"):
        BuildOptions(lower=None if options is None else LowerOptions(**options), io="fp16")


@pytest.mark.parametrize(
    "budget",
    [
        {"max_abs_rel": 0.0},
        {"max_abs_rel": -5.0},
        {"max_abs_rel": float("nan")},
        {"max_abs_m": float("inf")},
        {"max_abs_m": 0.0},
    ],
)
def test_a_budget_that_is_none_is_refused_with_the_options(budget: dict[str, float]) -> None:
    (name,) = budget
    with refused(InputError, got=f"{name} is ", expected="a finite number above 0"):
        LowerOptions(precisions=("fp16",), **budget)


@pytest.mark.parametrize(
    ("gpu", "asked", "targets"),
    [
        (None, {}, ["tensorrt", "cpu", "tensorrt"]),
        (object(), {}, ["tensorrt"] * 3),
        (None, {"target": "tensorrt"}, ["tensorrt"] * 3),
        (None, {"oldest": "8.6"}, ["tensorrt"] * 3),
    ],
)
def test_int8_is_for_what_this_machine_has(gpu, asked, targets, monkeypatch) -> None:
    monkeypatch.setattr("glpn_deploy.exporters.options.find_device_or_none", lambda: gpu)
    lower = LowerOptions(precisions=("fp16", "int8", "fp8"), **asked)
    assert [lower.target_of(precision) for precision in lower.precisions] == targets


def test_fp8_has_no_form_for_cpus() -> None:
    with refused(InputError, got="no CPU computes in FP8", fix="leave out --target cpu"):
        LowerOptions(precisions=("int8", "fp8"), target="cpu")


def test_options_say_how_many_images_ranges_take() -> None:
    assert LowerOptions(precisions=("fp16", "bf16")).ranges == 0
    few = LowerOptions(precisions=("fp16", "int8"), calibration=CalibrationOptions(max_images=7))
    assert few.ranges == 7
