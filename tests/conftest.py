"""What several test files share: one tiny network with nothing at its default, and what is made from it."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import platform
import shutil
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glpn_deploy import GLPNConfig, GLPNForDepthEstimation
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.bundle.engine_profile import parse_profiles
from glpn_deploy.bundle.engine_sidecar import ENGINES, Sidecar, artefact_digest, write_sidecar
from glpn_deploy.exporters.build import build_bundle
from glpn_deploy.exporters.to_onnx import to_onnx
from glpn_deploy.gpu.tensorrt_rtx import PACKAGE, PLATFORMS
from glpn_deploy.proof import parity
from tests import cuda_simulator as simulated_cuda
from tests import tensorrt_api
from tests import tensorrt_simulator as simulated_tensorrt

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)  # tests run networks so small that threads only wait for each other

TINY = GLPNConfig(
    depths=(1, 2, 1, 1),
    hidden_sizes=(8, 12, 20, 16),
    num_attention_heads=(1, 2, 5, 2),
    mlp_ratios=(2, 3, 1, 2),
    decoder_hidden_size=6,
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-examples", type=int, default=200, help="inputs a door of tests/fuzz")
    parser.addoption("--fuzz-seed", type=int, default=0, help="seed of those inputs")


def seeded_model(config: GLPNConfig = TINY, seed: int = 0) -> GLPNForDepthEstimation:
    """A network whose weights, biases, norms and statistics are all far from their start.

    Folding a BatchNorm or a bias wrongly then shows; the depth still varies over the image.
    """
    model = GLPNForDepthEstimation(config).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith("running_var"):
            tensor.copy_(0.5 + noise.abs())
        elif tensor.ndim > 1:
            tensor.copy_(noise * tensor[0].numel() ** -0.5)
        else:
            tensor.copy_((1 if name.endswith("weight") else 0) + 0.3 * noise)
    return model


def seeded_pixels(batch: int, height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((batch, channels, height, width), np.float32)


@pytest.fixture(scope="session")
def tensorrt_stand_in() -> Callable[[str], Any]:
    """Makes a strict stand-in for one version of TensorRT's module: see tests/tensorrt_api.py."""
    return tensorrt_api.StandIn


@pytest.fixture(autouse=True)
def state_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engines that tests build are nobody's."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))


@pytest.fixture(scope="session")
def make_model() -> Callable[..., GLPNForDepthEstimation]:
    return seeded_model


@pytest.fixture(scope="session")
def pixels() -> Callable[..., np.ndarray]:
    return seeded_pixels


@pytest.fixture(scope="session")
def tiny_config() -> GLPNConfig:
    return TINY


@pytest.fixture(scope="session")
def tiny_model() -> GLPNForDepthEstimation:
    return seeded_model()


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_model: GLPNForDepthEstimation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder in HF's format; to be read only."""
    folder = tmp_path_factory.mktemp("checkpoint") / "glpn-tiny"
    tiny_model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_onnx(tiny_model: GLPNForDepthEstimation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network as an .onnx file; to be read only."""
    return to_onnx(tiny_model, tmp_path_factory.mktemp("onnx") / "model.onnx")


@pytest.fixture(scope="session")
def foreign_onnx(tiny_model: GLPNForDepthEstimation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network as torch's own exporter writes it: other names, one fixed size, nothing said of metres."""
    path = tmp_path_factory.mktemp("foreign") / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            copy.deepcopy(tiny_model),
            (torch.rand(1, 3, 64, 96),),
            path,
            input_names=["image"],
            output_names=["depth"],
            dynamo=False,
        )
    return path


@pytest.fixture(scope="session")
def tiny_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A verified bundle; to be read only."""
    return build_bundle(tiny_checkpoint, tmp_path_factory.mktemp("bundle") / "glpn-tiny").folder


@pytest.fixture
def bundle_copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle of one's own, to damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused has to be so before a checkpoint is read."""
    monkeypatch.setattr(
        GLPNForDepthEstimation, "from_pretrained", lambda *a, **k: pytest.fail("the work had begun")
    )


@pytest.fixture
def short_sweep(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> None:
    """Two small shapes instead of all, where the test is not about them."""
    monkeypatch.setattr(parity, "SWEEP", ((1, 32, 32), (2, 64, 96)))


@pytest.fixture(scope="session")
def put_engine() -> Callable[..., Path]:
    """Puts what passes for an engine of a bundle's FP32 file, built on an Orin, into the bundle."""

    def put(folder: Path, name: str = "net.engine", plan: bytes = b"a plan", **changes: Any) -> Path:
        bundle = Bundle.open(folder)
        path = folder / ENGINES / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(plan)
        fields: dict[str, Any] = {
            "engine": name,
            "sha256": hashlib.sha256(plan).hexdigest(),
            "bytes": len(plan),
            "bundle": bundle.manifest.name,
            "onnx": "model.onnx",
            "onnx_sha256": artefact_digest(bundle.manifest, bundle.artefact("fp32")),
            "precision": "fp32",
            "max_depth": 10.0,
            "size_multiple": 32,
            "tensorrt": "10.3.0",
            "cuda": "12.6",
            "gpu": "Orin",
            "sm": "8.7",
            "profiles": parse_profiles(),
        }
        write_sidecar(Sidecar(**(fields | changes)), path)
        return path

    return put


@pytest.fixture(scope="session")
def rtx_compiler() -> None:
    """Skips where NVIDIA's compiler for RTX cards cannot be."""
    here = f"{sys.platform}-{platform.machine().lower()}"
    if here not in PLATFORMS:
        pytest.skip(f"TensorRT for RTX has packages for {' and '.join(PLATFORMS)}, and this is {here}")
    if importlib.util.find_spec(PACKAGE) is None:
        pytest.skip(f"{PACKAGE} is not installed: pip install 'glpn-deploy[rtx]'")


@pytest.fixture(scope="session")
def cuda_simulator() -> Any:
    """The module tests/cuda_simulator.py."""
    return simulated_cuda


@pytest.fixture(scope="session")
def tensorrt_simulator() -> Any:
    """The module tests/tensorrt_simulator.py."""
    return simulated_tensorrt


@pytest.fixture
def make_gpu(cuda_simulator, tensorrt_stand_in, tensorrt_simulator, monkeypatch):
    """Puts a machine under the tensorrt backend."""

    from glpn_deploy.runtimes import rt_tensorrt
    from glpn_deploy.runtimes.engine import cuda_memory

    def make(version: str = "10.3.0", integrated: bool = False, devices: int = 1) -> Any:
        cuda = cuda_simulator.CudaSimulator(devices)
        gpu = tensorrt_simulator.SimulatedGpu(cuda, tensorrt_stand_in(version), integrated)
        monkeypatch.setattr(rt_tensorrt, "find_device", lambda: gpu.device)
        monkeypatch.setattr(rt_tensorrt, "import_tensorrt", lambda: gpu.trt)
        monkeypatch.setattr(rt_tensorrt, "import_tensorrt_rtx", lambda: gpu.trt)
        monkeypatch.setattr(cuda_memory, "open_driver", gpu.cuda.driver)
        return gpu

    return make


@pytest.fixture
def gpu(make_gpu):
    """A machine whose memory and rules are looked at when the test is over."""
    gpu = make_gpu()
    yield gpu
    assert not gpu.cuda.misuse
