"""Other software's files are made in its own Python and run here as rows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from PIL import Image

from glpn_deploy.benchmarks.workload.cases import PEERS, Case
from glpn_deploy.benchmarks.workload.made_peers import Making, make_peers
from glpn_deploy.benchmarks.workload.openvino_file import OpenVINOFile
from glpn_deploy.benchmarks.workload.plan import plan_runners
from glpn_deploy.benchmarks.workload.workloads import Network
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.errors import BackendError
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.runtimes.base import RuntimeOptions
from glpn_deploy.runtimes.rt_openvino import native_precisions


def fake_python(folder: Path, *lines: str) -> str:
    """A program that is called as a peer's Python is: script, name, source, images, target."""
    path = folder / "python"
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return str(path)


def making(bundle: Bundle, checkpoint: Path | None, pythons: dict[str, str], folder: Path) -> Making:
    golden = str(bundle.path(bundle.manifest.goldens[0].image))
    return Making(checkpoint, [golden, golden], GLPNImageProcessor(), pythons, folder)


def test_a_peer_is_made_of_optimums_export_in_its_own_python(
    tiny_bundle, tiny_checkpoint, foreign_onnx, tmp_path, monkeypatch
) -> None:
    for name in ("optimum", "nncf"):
        monkeypatch.setitem(PEERS, name, "no_such_package.of_theirs")
    log = tmp_path / "log"
    python = fake_python(
        tmp_path, f'echo "$2 $3" >> {log}', f'cp "$4" {tmp_path}/seen-$2.npy', f'cp {foreign_onnx} "$5"'
    )
    bundle = Bundle.open(tiny_bundle)
    work = making(bundle, tiny_checkpoint, {"nncf": python}, tmp_path / "made")
    made, not_run = make_peers(["hf-eager", "nncf", "optimum"], work)
    assert not_run == []
    assert made == [
        f"nncf={tmp_path / 'made' / 'nncf' / 'model.xml'}",
        f"optimum={tmp_path / 'made' / 'optimum' / 'model.onnx'}",
    ]
    export = tmp_path / "made" / "optimum" / "model.onnx"
    assert log.read_text() == f"optimum {tiny_checkpoint}\nnncf {export}\n"  # the export once, before it
    images = np.load(tmp_path / "seen-nncf.npy")
    assert (images.dtype, images.shape[:2]) == (np.float32, (2, 3))
    log.unlink()
    work = making(bundle, None, {"nncf": python}, tmp_path / "again")
    make_peers([f"optimum={foreign_onnx}", "nncf"], work)
    assert log.read_text() == f"nncf {foreign_onnx}\n"


def test_why_a_peer_could_not_be_made(tiny_bundle, tiny_checkpoint, tmp_path, monkeypatch) -> None:
    for name in ("optimum", "nncf", "modelopt"):
        monkeypatch.setitem(PEERS, name, "no_such_package.of_theirs")
    bundle = Bundle.open(tiny_bundle)
    made, not_run = make_peers(["nncf"], making(bundle, tiny_checkpoint, {}, tmp_path / "a"))
    assert made == []
    assert "pip install nncf" in not_run[0].reason
    assert "--python nncf=PYTHON" in not_run[0].reason
    python = fake_python(tmp_path, "echo Traceback >&2; echo 'ValueError: no depth' >&2; exit 1")
    pythons = {"nncf": python, "modelopt": str(tmp_path / "nowhere")}
    work = making(bundle, tiny_checkpoint, pythons, tmp_path / "b")
    made, not_run = make_peers(["optimum", "nncf", "modelopt"], work)
    assert made == []
    assert "ValueError: no depth" in not_run[0].reason
    assert not_run[1].reason == not_run[0].reason  # it starts from the export
    made, not_run = make_peers(["optimum"], making(bundle, None, {"optimum": python}, tmp_path / "c"))
    assert "--reference" in not_run[0].reason


@pytest.fixture(scope="module")
def openvino_file(foreign_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network as OpenVINO's own file."""
    path = tmp_path_factory.mktemp("openvino") / "model.xml"
    ov.save_model(ov.Core().read_model(foreign_onnx), path, compress_to_fp16=False)
    return path


def test_openvinos_own_file_gives_the_same_depth(tiny_bundle, openvino_file, tmp_path) -> None:
    bundle = Bundle.open(tiny_bundle)
    image = tmp_path / "image.png"
    Image.effect_noise((96, 64), 60).convert("RGB").save(image)
    case = Case(
        backend="onnxruntime",
        precision="fp32",
        batch=1,
        height=64,
        width=96,
        path=str(bundle.folder / "model.onnx"),
        device="cpu",
        images=(str(image),),
        processor=bundle.processor.to_dict(),
    )
    theirs = Network(dataclasses.replace(case, backend="openvino", path=str(openvino_file)))
    np.testing.assert_allclose(theirs.outputs(), Network(case).outputs(), atol=1e-4)
    assert theirs.operators()


def test_the_rows_of_openvinos_own_file(tiny_bundle, openvino_file, tmp_path) -> None:
    bundle = Bundle.open(tiny_bundle)
    runners, not_run = plan_runners(bundle, None, [], peers=[f"theirs={openvino_file}"])
    assert [(str(r.id), r.backend, r.probe) for r in runners] == [
        ("theirs fp32", "openvino", False),
        ("theirs bf16", "openvino", True),
    ]
    assert not_run == []
    quantized = tmp_path / "q.xml"
    quantized.write_text('<net>\n<layer id="1" type="FakeQuantize">\n</net>')
    runners, _ = plan_runners(bundle, None, [], peers=[str(quantized)])
    assert [(str(r.id), r.backend) for r in runners] == [
        ("q int8", "openvino"),
        ("q int8+bf16", "openvino"),
    ]
    _, not_run = plan_runners(bundle, None, [], ["fp32"], peers=[str(quantized)])
    assert "is int8" in not_run[0].reason


def test_a_precision_that_the_processor_lacks(openvino_file) -> None:
    for precision in ("bf16", "fp16"):
        if precision not in native_precisions():
            with pytest.raises(BackendError):
                OpenVINOFile(openvino_file, RuntimeOptions(precision=precision))
    damaged = openvino_file.with_name("damaged.xml")
    damaged.write_text("<net")
    with pytest.raises(BackendError):
        OpenVINOFile(damaged, RuntimeOptions())
