"""The reference backend gives what the network gives."""

from __future__ import annotations

import dataclasses
import importlib
import shutil
from typing import Any

import numpy as np
import pytest
import torch

from glpn_deploy import GLPNConfig
from glpn_deploy.errors import BackendError, InputError, UnavailableError
from glpn_deploy.runtimes.base import RuntimeOptions
from glpn_deploy.runtimes.rt_torch import TorchRuntime, load
from tests.refusals import refused

CPU = RuntimeOptions(device="cpu")


def test_equals_the_network(tiny_model, pixels):
    x = pixels(2, 64, 96)
    with TorchRuntime(tiny_model, CPU) as runtime:
        assert (runtime.device, runtime.precision, runtime.max_depth) == ("cpu", "fp32", 10)
        depth = runtime.run(x)
    with torch.inference_mode():
        expected = tiny_model(torch.from_numpy(x)).predicted_depth.numpy()
    np.testing.assert_allclose(depth, expected, rtol=0, atol=1e-5)
    assert depth.dtype == np.float32


def test_loads_a_checkpoint(tiny_checkpoint, tiny_model, pixels):
    x = pixels(1, 32, 32)
    with load(tiny_checkpoint, CPU) as ours, TorchRuntime(tiny_model, CPU) as reference:
        # Not bit by bit: torch takes other paths for memory that is aligned otherwise.
        np.testing.assert_allclose(ours.run(x), reference.run(x), rtol=0, atol=1e-5)


def test_bf16_is_near_and_not_equal(tiny_model, pixels):
    x = pixels(1, 64, 64)
    depth = TorchRuntime(tiny_model, RuntimeOptions(device="cpu", precision="bf16")).run(x)
    expected = TorchRuntime(tiny_model, CPU).run(x)
    assert depth.dtype == np.float32
    assert 0 < np.abs(depth - expected).max() < 0.05 * 10


def test_bf16_is_what_autocast_gives_and_its_weights_are_cast_once(tiny_model, pixels):
    x = torch.from_numpy(pixels(1, 64, 64))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = tiny_model(x).predicted_depth.float().numpy()
    before = {name: parameter.dtype for name, parameter in tiny_model.named_parameters()}
    runtime = TorchRuntime(tiny_model, RuntimeOptions(device="cpu", precision="bf16"))
    np.testing.assert_array_equal(runtime.run(x.numpy()), expected)
    assert {name: parameter.dtype for name, parameter in tiny_model.named_parameters()} == before
    own = {
        type(module): {parameter.dtype for parameter in module.parameters(recurse=False)}
        for module in runtime._model.modules()
    }  # autocast leaves alone what is of its type
    assert own[torch.nn.Conv2d] == own[torch.nn.Linear] == {torch.bfloat16}
    assert own[torch.nn.LayerNorm] == {torch.float32}


def test_fp32_on_a_gpu_is_no_tf32(monkeypatch):
    class Elsewhere(Small):
        def to(self, *where):
            return self

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    flags: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [flag.allow_tf32 for flag in flags]
    try:
        for flag in flags:
            flag.allow_tf32 = True
        runtime = TorchRuntime(Elsewhere(), RuntimeOptions(device="cuda"))
        assert [flag.allow_tf32 for flag in flags] == [False, False]
        assert runtime.describe()["tf32"] is False
    finally:
        for flag, value in zip(flags, before, strict=True):
            flag.allow_tf32 = value


@pytest.mark.parametrize(("precision", "words"), [("int8", "fp32, fp16 or bf16"), ("fp16", "bf16 or fp32")])
def test_precisions_it_does_not_run(precision, words, tiny_model):
    with pytest.raises(UnavailableError) as caught:
        TorchRuntime(tiny_model, RuntimeOptions(device="cpu", precision=precision))
    assert (precision in caught.value.got, caught.value.expected) == (True, words)


def test_no_cuda(tiny_model, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with refused(UnavailableError, got="torch finds no CUDA device"):
        TorchRuntime(tiny_model, RuntimeOptions(device="cuda"))


def test_out_of_memory_is_one_sentence(tiny_model, pixels, monkeypatch):
    def full(*args, **options):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] can't allocate memory")

    runtime = TorchRuntime(tiny_model, CPU)
    monkeypatch.setattr(runtime._model, "forward", full)
    with refused(BackendError, got=("(2, 3, 64, 96)", "allocate memory"), fix="smaller batch"):
        runtime.run(pixels(2, 64, 96))


# Compiled -----------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Output:
    predicted_depth: torch.Tensor


class Small(torch.nn.Module):
    """As little of a network as compiles in seconds."""

    def __init__(self):
        super().__init__()
        self.config = GLPNConfig()
        self.weight = torch.nn.Parameter(torch.tensor([0.2, 0.3, 0.5]))
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x):
        if not torch.compiler.is_compiling():
            self.shapes.append(tuple(x.shape))
        return Output(10 * torch.sigmoid(x.transpose(1, 3) @ self.weight).mT)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on the CPU")
def test_compiled_equals_uncompiled(monkeypatch, tmp_path, pixels):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(importlib.import_module("torch._inductor.config"), "compile_threads", 1)
    model = Small()
    with TorchRuntime(model, RuntimeOptions(device="cpu", compile="default")) as runtime:
        assert runtime.describe()["compile"] == "default"
        for batch, height, width in ((1, 32, 64), (1, 64, 32), (1, 32, 64)):
            x = pixels(batch, height, width)
            expected = 10 / (1 + np.exp(-np.einsum("nchw,c->nhw", x, [0.2, 0.3, 0.5])))
            np.testing.assert_allclose(runtime.run(x), expected, rtol=1e-5)
        assert model.shapes == [(1, 3, 64, 32)]  # came once only: not worth compiling
    assert list(tmp_path.rglob("*.cpp"))  # inductor made code, and did not go on uncompiled


def test_no_more_shapes_than_torch_allows(tiny_model, monkeypatch, pixels):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model, **how: compiled.append(how) or model)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    runtime = TorchRuntime(tiny_model, RuntimeOptions(device="cpu", compile="max-autotune"))
    for _ in range(3):
        for side in range(1, 13):
            runtime.run(pixels(1, 32, 32 * side))
    assert compiled == [{"mode": "max-autotune", "fullgraph": True, "dynamic": False}] * 8
    assert importlib.import_module("torch._dynamo.config").recompile_limit >= 8


def test_a_shape_that_was_warmed_up_is_compiled_already(tiny_model, monkeypatch, pixels):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model, **how: compiled.append(how) or model)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    runtime = TorchRuntime(tiny_model, RuntimeOptions(device="cpu", compile="default"))
    for side in range(1, 11):  # torch allows 8
        runtime.warm_up(pixels(1, 32, 32 * side))
        done = len(compiled)
        for _ in range(3):
            runtime.run(pixels(1, 32, 32 * side))
        assert len(compiled) == done == min(side, 8)


def test_no_compiler(tiny_model, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with refused(BackendError, got="torch.compile needs a C++ compiler", fix="apt install g++"):
        TorchRuntime(tiny_model, RuntimeOptions(device="cpu", compile="default"))


def test_what_does_not_compile_is_one_sentence(monkeypatch, pixels):
    class Unsupported(Small):
        def forward(self, x):
            torch._dynamo.graph_break()
            return super().forward(x)

    monkeypatch.setattr(shutil, "which", lambda name: name)
    with refused(
        BackendError, got=("torch.compile failed on", "(1, 3, 32, 32)"), fix='compile="no"'
    ) as caught:
        TorchRuntime(Unsupported(), RuntimeOptions(device="cpu", compile="default")).run(pixels(1, 32, 32))
    assert "\n" not in str(caught.value)


def test_an_unknown_mode():
    with refused(InputError, got="compile is 'fast'", expected="one of no, default, max-autotune"):
        RuntimeOptions(compile="fast")
