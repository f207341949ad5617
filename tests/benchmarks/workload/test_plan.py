"""What a bundle gives to measure."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from glpn_deploy.benchmarks.workload.cases import PEERS
from glpn_deploy.benchmarks.workload.plan import disk_bytes, plan_runners
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.bundle.engine_profile import parse_profiles
from glpn_deploy.bundle.engine_sidecar import engine_name
from glpn_deploy.errors import InputError
from glpn_deploy.gpu.cuda_device import CudaDevice
from glpn_deploy.runtimes.registry import BACKENDS, Backend

GPU = CudaDevice(0, "NVIDIA RTX A6000", (8, 6), 48 << 30, False, (12, 6))


@pytest.fixture
def engine_of(put_engine, bundle_copy) -> Callable[..., Path]:
    """Something that passes for an engine of this GPU until it is loaded."""

    def put(precision: str = "fp16", batch: str = "1:4", **changes) -> Path:
        profiles = parse_profiles(["480x640"], batch)
        name = engine_name(bundle_copy.name, precision, profiles, "10.3.0", GPU.capability)
        about = {"precision": precision, "profiles": profiles, "gpu": GPU.name, "sm": GPU.capability}
        return put_engine(bundle_copy, name, b"plan", **(about | changes))

    return put


def planned(folder, backends=("tensorrt",), gpu=GPU, **choice):
    """Runners of what is another Python's, so that no package is looked for."""
    bundle = Bundle.open(folder)
    return plan_runners(bundle, None, backends, gpu=gpu, elsewhere={"tensorrt"}, **choice)


def names(bundle, checkpoint, **choice) -> list[str]:
    return [str(runner.id) for runner in plan_runners(Bundle.open(bundle), checkpoint, **choice)[0]]


def test_every_installed_backend_without_the_null_one(tiny_bundle, tiny_checkpoint) -> None:
    found = names(tiny_bundle, tiny_checkpoint)
    assert {"torch fp32", "torch bf16", "onnxruntime fp32"} <= set(found)
    assert not any(name.startswith("null") for name in found)
    assert names(tiny_bundle, tiny_checkpoint, backends=["null"]) == ["null fp32"]


def test_a_new_backend_appears_by_itself(tiny_bundle, monkeypatch) -> None:
    monkeypatch.setitem(BACKENDS, "newcomer", Backend("newcomer", None, "", "onnx"))
    assert "newcomer fp32" in names(tiny_bundle, None)


def test_precisions_without_a_file_are_tried_from_fp32(tiny_bundle) -> None:
    runners, _ = plan_runners(Bundle.open(tiny_bundle), None, ["onnxruntime"], ["bf16"])
    (runner,) = runners
    assert runner.probe
    assert runner.path.name == "model.onnx"


def test_what_cannot_be_tried_says_why(tiny_bundle, monkeypatch) -> None:
    absent = Backend("absent", "no_such_module", "cpu", "onnx")
    monkeypatch.setitem(BACKENDS, "absent", absent)
    _, not_run = plan_runners(Bundle.open(tiny_bundle), None, peers=["hf-eager"])
    reasons = {item.name: item.reason for item in not_run}
    assert "pip install" in reasons["absent"]
    assert "--reference" in reasons["torch"]
    assert "--reference" in reasons["hf-eager"]


def test_a_peer_of_another_python_is_not_looked_for_here(tiny_bundle, tiny_checkpoint, monkeypatch) -> None:
    monkeypatch.setitem(PEERS, "hf-eager", "no_such_package.onnx")
    bundle = Bundle.open(tiny_bundle)
    runners, not_run = plan_runners(bundle, tiny_checkpoint, ["null"], peers=["hf-eager"])
    assert "pip install transformers" in not_run[0].reason
    assert "--python hf-eager=PYTHON" in not_run[0].reason
    runners, not_run = plan_runners(
        bundle, tiny_checkpoint, ["null"], peers=["hf-eager"], elsewhere={"hf-eager"}
    )
    assert [str(runner.id) for runner in runners] == ["null fp32", "hf-eager fp32"]
    assert not_run == []


def test_onnx_files_of_others_are_rows(tiny_bundle, foreign_onnx, tmp_path) -> None:
    (tmp_path / "onnx").mkdir()
    shutil.copy(foreign_onnx, tmp_path / "onnx")
    shutil.copy(foreign_onnx, tmp_path / "theirs.onnx")
    peers = [f"optimum={tmp_path}", f"torch-export={foreign_onnx}", str(tmp_path / "theirs.onnx")]
    runners, not_run = plan_runners(Bundle.open(tiny_bundle), None, ["null"], peers=peers)
    assert [str(r.id) for r in runners] == [
        "null fp32",
        "optimum fp32",
        "torch-export fp32",
        "theirs fp32",
    ]
    assert [r.backend for r in runners[1:]] == ["onnxruntime"] * 3
    assert runners[1].path == tmp_path / "onnx" / "model.onnx"
    assert runners[1].bytes == foreign_onnx.stat().st_size
    assert not_run == []
    runners, not_run = plan_runners(Bundle.open(tiny_bundle), None, ["null"], ["fp16"], peers=peers[:1])
    assert "is fp32" in not_run[0].reason
    with pytest.raises(InputError) as caught:
        plan_runners(Bundle.open(tiny_bundle), None, ["null"], peers=[f"optimum={tmp_path / 'onnx' / 'x'}"])
    assert "names no ONNX or OpenVINO file" in caught.value.got


def test_a_changed_artefact_is_not_run(bundle_copy) -> None:
    path = bundle_copy / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    runners, not_run = plan_runners(Bundle.open(bundle_copy), None, ["onnxruntime"])
    assert runners == []
    assert "changed since the export" in not_run[0].reason


def test_names_that_are_none(tiny_bundle) -> None:
    for choice in ({"backends": ["x"]}, {"precisions": ["fp64"]}, {"peers": ["x"]}):
        with pytest.raises(InputError):
            plan_runners(Bundle.open(tiny_bundle), None, **choice)


def test_disk_bytes_counts_weights_only(tiny_checkpoint) -> None:
    assert disk_bytes(tiny_checkpoint) == (tiny_checkpoint / "model.safetensors").stat().st_size


def test_an_engine_of_this_gpu_is_a_row(engine_of, bundle_copy) -> None:
    path = engine_of()
    (runner,), not_run = planned(bundle_copy)
    assert not_run == []
    assert (str(runner.id), runner.path, runner.bytes) == ("tensorrt fp16", path, 4)
    assert runner.takes((4, 480, 640))
    assert not runner.takes((8, 480, 640))


def test_engines_of_one_precision_are_told_apart(engine_of, bundle_copy) -> None:
    paths = [engine_of(batch=batch) for batch in ("1", "1:4")]
    engine_of("fp32")
    runners, _ = planned(bundle_copy)
    names = {f"tensorrt@{path.name.removesuffix('.engine')} fp16" for path in paths}
    assert {str(runner.id) for runner in runners} == {*names, "tensorrt fp32"}
    assert [str(runner.id) for runner in planned(bundle_copy, precisions=["fp32"])[0]] == ["tensorrt fp32"]


def test_an_engine_that_does_not_belong_here_says_why(engine_of, bundle_copy) -> None:
    engine_of(gpu="Orin", sm="8.7")
    damaged = engine_of("int8")
    damaged.with_suffix(".json").write_text("{}")
    runners, not_run = planned(bundle_copy)
    assert runners == []
    reasons = " ".join(item.reason for item in not_run)
    assert "was built for Orin" in reasons
    assert "not an engine's sidecar" in reasons


def test_no_engine_and_no_gpu_say_what_to_do(engine_of, bundle_copy) -> None:
    assert "glpn-build" in planned(bundle_copy)[1][0].reason
    engine_of()
    assert "NVIDIA GPUs only" in planned(bundle_copy, gpu=None)[1][0].reason


def test_variants_run_where_they_are_named(engine_of, bundle_copy, tiny_checkpoint) -> None:
    engine_of()
    runners, _ = planned(bundle_copy, ("tensorrt", "tensorrt-nograph"))
    assert [str(runner.id) for runner in runners] == ["tensorrt fp16", "tensorrt-nograph fp16"]
    everything, _ = plan_runners(Bundle.open(bundle_copy), tiny_checkpoint, gpu=GPU, elsewhere=["tensorrt"])
    names = [str(runner.id) for runner in everything]
    assert {"tensorrt fp16", "torch fp16"} <= set(names)
    assert "torch-compile fp16" not in names
    compiled, _ = plan_runners(Bundle.open(bundle_copy), tiny_checkpoint, ["torch-compile"], ["fp16"])
    assert [str(runner.id) for runner in compiled] == ["torch-compile fp16"]


def test_peers_run_in_half_precision_on_a_gpu_only(bundle_copy, tiny_checkpoint) -> None:
    def peers(gpu):
        found, _ = plan_runners(Bundle.open(bundle_copy), tiny_checkpoint, ["null"], None, ["hf-eager"], gpu)
        return [str(runner.id) for runner in found if runner.backend == "hf-eager"]

    assert peers(None) == ["hf-eager fp32"]
    assert peers(GPU) == ["hf-eager fp32", "hf-eager fp16"]


def test_int8_with_bf16_is_a_row_of_openvino_where_it_is_named(bundle_copy) -> None:
    bundle = Bundle.open(bundle_copy)
    (artefact,) = (a for a in bundle.manifest.artefacts if a.precision == "fp32")
    int8 = dataclasses.replace(artefact, precision="int8")
    manifest = dataclasses.replace(bundle.manifest, artefacts=(artefact, int8))
    with_int8 = dataclasses.replace(bundle, manifest=manifest)
    for asked, found in ((None, ["fp32", "bf16", "int8"]), (["int8+bf16", "int8"], ["int8+bf16", "int8"])):
        runners, _ = plan_runners(with_int8, None, ["openvino"], asked, elsewhere=["openvino"])
        assert [runner.precision for runner in runners] == found
    assert {runner.path.name for runner in runners} == {"model.onnx"}  # which int8's artefact names here
    runners, (not_run,) = plan_runners(with_int8, None, ["onnxruntime"], ["int8+bf16"])
    assert (runners, not_run.name) == ([], "onnxruntime int8+bf16")
