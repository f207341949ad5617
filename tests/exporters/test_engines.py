"""Engines in a bundle: what is left when something stops the build, and that a wrong one is never kept.

TensorRT is stood in for by ONNX Runtime: the "plan" is the ONNX file, which runs. All else is real.
"""

from __future__ import annotations

import dataclasses
import errno
import importlib.util
import types
from pathlib import Path
from typing import Any

import onnx
import pytest

from glpn_deploy.bundle.bundle import Bundle, write_manifest
from glpn_deploy.bundle.engine_profile import parse_profiles
from glpn_deploy.bundle.engine_sidecar import (
    ENGINES,
    bundle_engines,
    check_bundle,
    check_machine,
    read_plan,
    read_sidecar,
    rebuild_command,
    sidecar_path,
)
from glpn_deploy.errors import BundleError, EngineError, InputError, ParityError, WriteError
from glpn_deploy.exporters import engines
from glpn_deploy.exporters.build import build_bundle
from glpn_deploy.exporters.engine.engine_options import EngineOptions
from glpn_deploy.exporters.engines import build_engine, default_precision, plan_engine, require_tensorrt
from glpn_deploy.exporters.options import BuildOptions, OnnxOptions
from glpn_deploy.exporters.to_engine import EngineReport
from glpn_deploy.gpu.cuda_device import CudaDevice
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.runtimes.base import RuntimeOptions
from glpn_deploy.runtimes.registry import load_runtime
from glpn_deploy.runtimes.rt_null import NullRuntime
from tests.folders import content
from tests.refusals import refused

A6000 = CudaDevice(0, "NVIDIA RTX A6000", (8, 6), 48 << 30, False, (12, 6))
SMALL = EngineOptions(profiles=parse_profiles(["96x320"]))
NAME = "glpn-tiny.fp32.96x320.b1.trt10.13.sm86.engine"


def compile_plan(source, target, options):
    Path(target).write_bytes(Path(source).read_bytes())
    for data in Path(source).parent.glob("*.data"):
        (Path(target).parent / data.name).write_bytes(data.read_bytes())
    return EngineReport(
        layers={"fp32": 3},
        flags=("DIRECT_IO",),
        build_s=1.5,
        tensorrt="10.13.3",
        cuda="12.6",
        bytes=Path(target).stat().st_size,
        tf32=options.tf32,
        device_memory_bytes=None,
    )


def open_plan(name, path, options):
    """Checks what the TensorRT runtime checks, then runs the plan."""
    assert name == "tensorrt"
    bundle = Bundle.open(path.parent.parent)
    sidecar = read_sidecar(path)
    check_bundle(path, sidecar, bundle.manifest)
    check_machine(path, sidecar, A6000, "10.13.3")
    read_plan(path, sidecar)
    return load_runtime("onnxruntime", path, RuntimeOptions(device="cpu"))


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(engines, "find_device", lambda: A6000)
    monkeypatch.setattr(engines, "import_tensorrt", lambda: types.SimpleNamespace(__version__="10.13.3.9"))
    monkeypatch.setattr(engines, "to_engine", compile_plan)
    monkeypatch.setattr(engines, "load_runtime", open_plan)


@pytest.mark.usefixtures("gpu")
def test_an_engine_comes_into_the_bundle(bundle_copy):
    before = content(bundle_copy)
    engine = build_engine(bundle_copy, "fp32", SMALL)
    assert engine == bundle_copy / ENGINES / NAME
    assert bundle_engines(bundle_copy) == [engine]
    after = content(bundle_copy)
    assert sorted(after.keys() - before.keys()) == [
        f"{ENGINES}/{NAME}",
        f"{ENGINES}/{sidecar_path(engine).name}",
    ]
    assert {name: after[name] for name in before} == before
    assert sorted(path.name for path in engine.parent.iterdir()) == sorted([NAME, sidecar_path(engine).name])
    sidecar = read_sidecar(engine)
    assert check_bundle(engine, sidecar, Bundle.open(bundle_copy).manifest).file == "model.onnx"
    check_machine(engine, sidecar, A6000, "10.13.3")
    assert sidecar.onnx_sha256 == before["model.onnx"]
    read_plan(engine, sidecar)
    assert (sidecar.gpu, sidecar.sm, sidecar.tensorrt, sidecar.cuda) == (A6000.name, "8.6", "10.13.3", "12.6")
    assert (sidecar.max_depth, sidecar.layers, sidecar.build_s) == (10.0, {"fp32": 3}, 1.5)
    assert sidecar.parity["passed"]
    assert [case["name"] for case in sidecar.parity["reports"][0]["cases"]] == ["golden/2.png"]


@pytest.mark.usefixtures("gpu")
def test_weights_in_a_file_of_their_own(tiny_checkpoint, tmp_path):
    options = BuildOptions(onnx=OnnxOptions(single_file_limit=1000), verify=False)
    bundle = build_bundle(tiny_checkpoint, tmp_path / "glpn-tiny", options)
    engine = build_engine(bundle.folder, "fp32", SMALL, verify=False)
    assert check_bundle(engine, read_sidecar(engine), bundle.manifest).data == ("model.onnx.data",)
    assert read_sidecar(engine).onnx_sha256 != bundle.manifest.files["model.onnx"]["sha256"]


@pytest.mark.usefixtures("gpu")
def test_without_the_proof_the_sidecar_says_so(bundle_copy, monkeypatch):
    monkeypatch.setattr(engines, "load_runtime", lambda *a: pytest.fail("it was run"))
    assert read_sidecar(build_engine(bundle_copy, "fp32", SMALL, verify=False)).parity is None


def wrong(source, target, options):
    """A compiler that gets one weight wrong."""
    report = compile_plan(source, target, options)
    graph = onnx.load(str(source))
    tensor = next(t for t in graph.graph.initializer if t.name == "head.biases")
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + 1e-2, tensor.name))
    onnx.save_model(graph, str(target))
    return report


@pytest.mark.usefixtures("gpu")
def test_a_wrong_engine_is_not_left(bundle_copy, monkeypatch):
    monkeypatch.setattr(engines, "to_engine", wrong)
    with refused(ParityError, fix="the engine was not kept"):
        build_engine(bundle_copy, "fp32", SMALL)
    assert list((bundle_copy / ENGINES).iterdir()) == []


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(errno.ENOSPC, "No space left on device"), WriteError),
    ],
)
@pytest.mark.parametrize("step", ["to_engine", "write_sidecar", "prove_engine", "file_digest"])
def test_stopped_at_any_step(bundle_copy, step, error, seen, monkeypatch):
    def stop(*args, **options):
        raise error

    build_engine(bundle_copy, "fp32", SMALL)
    before = content(bundle_copy)
    monkeypatch.setattr(engines, step, stop)
    with pytest.raises(seen):
        build_engine(bundle_copy, "fp32", SMALL)
    assert content(bundle_copy) == before


@pytest.mark.usefixtures("gpu")
def test_stopped_between_plan_and_sidecar(bundle_copy, monkeypatch):
    """The one instant in which the two files can be of different builds: the engine is refused then."""
    engine = build_engine(bundle_copy, "fp32", SMALL)
    real = Path.replace

    def stop_at_the_sidecar(path, target):
        if Path(target) == sidecar_path(engine):
            raise KeyboardInterrupt
        return real(path, target)

    def another(source, target, options):
        report = compile_plan(source, target, options)
        graph = onnx.load(str(source))
        graph.doc_string = "another build"
        onnx.save_model(graph, str(target))
        return report

    monkeypatch.setattr(engines, "to_engine", another)
    monkeypatch.setattr(Path, "replace", stop_at_the_sidecar)
    with pytest.raises(KeyboardInterrupt):
        build_engine(bundle_copy, "fp32", SMALL)
    with pytest.raises(EngineError, match=r"bytes|SHA-256 differs"):
        read_plan(engine, read_sidecar(engine))
    monkeypatch.undo()


@pytest.mark.usefixtures("gpu")
def test_the_first_build_stopped_between_plan_and_sidecar(bundle_copy, monkeypatch):
    real, target_name = Path.replace, NAME.replace(".engine", ".json")

    def stop_at_the_sidecar(path, target):
        if Path(target) == bundle_copy / ENGINES / target_name:
            raise KeyboardInterrupt
        return real(path, target)

    monkeypatch.setattr(Path, "replace", stop_at_the_sidecar)
    with pytest.raises(KeyboardInterrupt):
        build_engine(bundle_copy, "fp32", SMALL)
    with refused(EngineError, got=("has no sidecar", "executable")):
        read_sidecar(bundle_copy / ENGINES / NAME)


@pytest.mark.usefixtures("gpu")
def test_a_damaged_bundle_is_refused_before_the_work(bundle_copy, monkeypatch):
    monkeypatch.setattr(engines, "to_engine", lambda *a: pytest.fail("work was done"))
    with (bundle_copy / "model.onnx").open("r+b") as file:
        file.seek(1000)
        file.write(b"\xff\xfe")
    with refused(BundleError, got="SHA-256 differs"):
        build_engine(bundle_copy, "fp32", SMALL)
    assert not (bundle_copy / ENGINES).exists()


@pytest.mark.usefixtures("gpu")
def test_a_place_that_cannot_be_made(bundle_copy, monkeypatch):
    monkeypatch.setattr(engines, "to_engine", lambda *a: pytest.fail("work was done"))
    (bundle_copy / ENGINES).write_text("a file")
    with refused(WriteError, got="engines cannot be made"):
        build_engine(bundle_copy, "fp32", SMALL)


@pytest.mark.usefixtures("gpu")
def test_a_version_with_a_known_problem_is_told_and_proved(bundle_copy, monkeypatch):
    monkeypatch.setattr(engines, "import_tensorrt", lambda: types.SimpleNamespace(__version__="10.4.0"))
    with refused(InputError, got=("--no-verify with TensorRT 10.4.0", "wrong"), fix="leave out --no-verify"):
        build_engine(bundle_copy, "fp32", SMALL, verify=False)
    monkeypatch.setattr(engines, "to_engine", wrong)
    with pytest.warns(UserWarning, match=r"TensorRT 10\.4"), pytest.raises(ParityError):
        build_engine(bundle_copy, "fp32", SMALL)


@pytest.fixture
def no_onnxruntime(monkeypatch):
    """As on a Jetson."""
    known = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "onnxruntime" else known(name)
    )
    monkeypatch.setattr(engines, "load_runtime", lambda *a: NullRuntime())


ODD = EngineOptions(profiles=parse_profiles(["64x96"]))


@pytest.mark.usefixtures("gpu", "no_onnxruntime")
def test_where_tensorrt_errs_an_engine_that_nothing_shows_right_is_not_built(bundle_copy, monkeypatch):
    monkeypatch.setattr(engines, "import_tensorrt", lambda: types.SimpleNamespace(__version__="10.4.0"))
    monkeypatch.setattr(engines, "to_engine", lambda *a: pytest.fail("work was done"))
    with refused(
        ParityError, got="nothing can be compared", expected="issue 4742)", fix=("--image", "64x96")
    ) as caught:
        build_engine(bundle_copy, "fp32", ODD)
    assert caught.value.exit_code == 1
    assert not (bundle_copy / ENGINES).exists()


@pytest.mark.usefixtures("gpu", "no_onnxruntime")
def test_elsewhere_it_is_built_and_said_not_to_be_proved(bundle_copy):
    parity = read_sidecar(build_engine(bundle_copy, "fp32", ODD)).parity
    assert (parity["passed"], parity["reports"]) == (None, [])
    assert "no golden has this shape" in parity["not_checked"]["1x64x96"]


@pytest.mark.usefixtures("gpu")
def test_the_sidecar_keeps_how_it_was_built_and_what_was_told(bundle_copy, monkeypatch):
    def told(source, target, options):
        report = compile_plan(source, target, options)
        return dataclasses.replace(report, device_memory_bytes=12345, warnings=("[MemUsage] a warning",))

    monkeypatch.setattr(engines, "to_engine", told)
    options = dataclasses.replace(SMALL, level=5, workspace_mb=512, tactic_sources=("CUBLAS", "cudnn"))
    engine = build_engine(bundle_copy, "fp32", options, verify=False)
    sidecar = read_sidecar(engine)
    assert (sidecar.device_memory_bytes, sidecar.warnings) == (12345, ("[MemUsage] a warning",))
    command = rebuild_command(engine, sidecar)
    assert command.endswith("--workspace 512 --level 5 --tactic-sources cublas,cudnn")


@pytest.mark.usefixtures("gpu")
def test_an_opset_that_the_version_does_not_read(monkeypatch):
    assert require_tensorrt(20)[1].text == "10.13.3"
    with refused(InputError, got="opset 26, which TensorRT 10.13.3 does not read", expected="at most 20"):
        require_tensorrt(26)


# Without a GPU ---------------------------------------------------------------------------------------


def test_the_plan(tiny_bundle):
    options = dataclasses.replace(
        SMALL, tf32=True, hardware_compatibility="ampere_plus", timing_cache=Path("times"), workspace_mb=256
    )
    plan = plan_engine(tiny_bundle, None, options)
    assert plan.file_name() == "glpn-tiny.fp32.96x320.b1.ampere-plus.tf32.trt*.sm*.engine"
    values = plan.to_dict()
    assert (values["onnx"], values["precision"], values["timing_cache"]) == ("model.onnx", "fp32", "times")
    assert values["profiles"] == [{kind: [1, 96, 320] for kind in ("min", "opt", "max")}]


def test_unlike_engines_have_unlike_names(tiny_bundle):
    changes: tuple[dict[str, Any], ...] = (
        {},
        {"tf32": True},
        {"strip": True},
        {"refit": True},
        {"version_compatible": True},
        {"hardware_compatibility": "ampere_plus"},
        {"hardware_compatibility": "same_compute_capability"},
    )
    names = {plan_engine(tiny_bundle, "fp32", dataclasses.replace(SMALL, **c)).file_name() for c in changes}
    assert len(names) == len(changes)


def test_what_is_built_where_nothing_is_asked_for(tiny_bundle):
    bundle = Bundle.open(tiny_bundle)
    assert default_precision(bundle) == "fp32"
    full = bundle.artefact("fp32")
    half = dataclasses.replace(full, precision="fp16", file="model.fp16.onnx")
    both = dataclasses.replace(bundle.manifest, artefacts=(full, half))
    assert default_precision(dataclasses.replace(bundle, manifest=both)) == "fp16"


def test_a_timing_cache_in_a_folder_that_is_not_there(tiny_bundle, tmp_path):
    options = dataclasses.replace(SMALL, timing_cache=tmp_path / "none" / "timings")
    with refused(InputError, got=("timing cache", "there is no folder", "none"), fix="create it"):
        plan_engine(tiny_bundle, "fp32", options)


def test_a_precision_the_bundle_lacks(tiny_bundle):
    with refused(BundleError, got="has no int8 artefact", expected="one of those it has: fp32"):
        plan_engine(tiny_bundle, "int8", SMALL)


def test_sides_that_the_network_does_not_take(bundle_copy):
    processor, manifest = GLPNImageProcessor(size_divisor=64), Bundle.open(bundle_copy).manifest
    processor.save_pretrained(bundle_copy)
    write_manifest(bundle_copy, dataclasses.replace(manifest, preprocessing=processor.to_dict()))
    with refused(InputError, got="a side of 96 px (96x320.b1)", expected="multiples of 64 px"):
        plan_engine(bundle_copy, "fp32", SMALL)


def test_a_graph_for_cpus(bundle_copy):
    path = bundle_copy / "model.onnx"
    graph = onnx.load(str(path))
    graph.metadata_props.add(key="target", value="cpu")
    onnx.save_model(graph, str(path))
    write_manifest(bundle_copy, Bundle.open(bundle_copy).manifest)
    with refused(BundleError, got="was made for CPUs", fix="--target tensorrt"):
        plan_engine(bundle_copy, "fp32", SMALL)
