"""Which backend auto takes on which machine, what it says, and what measuring changes."""

from __future__ import annotations

import importlib.util
import re

import numpy as np
import pytest

from glpn_deploy.errors import BackendError, InputError, MissingDependencyError
from glpn_deploy.optional import install_line
from glpn_deploy.runtimes import choose
from glpn_deploy.runtimes.base import InputSpec, Reason
from glpn_deploy.runtimes.measured import MeasuredRuntime
from glpn_deploy.runtimes.rt_null import NullRuntime
from tests.refusals import refused

AVX2, AVX512 = frozenset({"avx", "avx2"}), frozenset({"avx", "avx2", "avx512f"})
GOOD = np.zeros((1, 3, 64, 96), np.float32)


@pytest.fixture
def machine(monkeypatch):
    """A machine with a processor, packages and perhaps a GPU of one's choice."""

    def make(flags=AVX2, packages=("onnxruntime", "openvino"), cuda=False):
        monkeypatch.setattr(choose, "cpu_flags", lambda: flags)
        monkeypatch.setattr(choose, "_has_cuda", lambda: cuda)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in packages else None)

    return make


def taken(precision="fp32", have=("fp32",), device="auto", backend="auto"):
    return [
        (choice.backend, choice.file)
        for choice in choose.choices(backend, precision, have, device, "a bundle")
    ]


BOTH, SWAPPED = (
    [("openvino", "fp32"), ("onnxruntime", "fp32")],
    [("onnxruntime", "fp32"), ("openvino", "fp32")],
)


@pytest.mark.parametrize(
    ("flags", "packages", "cuda", "expected"),
    [
        (AVX512, ("onnxruntime", "openvino"), False, BOTH),
        (AVX2, ("onnxruntime", "openvino"), False, SWAPPED),
        (None, ("onnxruntime", "openvino"), False, BOTH),
        (AVX512, ("onnxruntime",), False, [("onnxruntime", "fp32")]),
        (AVX2, ("openvino",), False, [("openvino", "fp32")]),
        (AVX512, ("onnxruntime", "openvino"), True, [("onnxruntime", "fp32")]),
        (AVX512, ("openvino",), True, [("openvino", "fp32")]),
    ],
)
def test_the_rule_in_fp32(flags, packages, cuda, expected, machine):
    machine(flags, packages, cuda)
    assert taken() == expected


@pytest.mark.parametrize(
    ("precision", "have", "expected"),
    [
        ("bf16", ("fp32",), [("openvino", "fp32")]),
        ("bf16", ("fp32", "bf16"), [("openvino", "fp32"), ("onnxruntime", "bf16")]),
        ("fp16", ("fp32",), [("openvino", "fp32")]),
        ("fp16", ("fp32", "fp16"), [("onnxruntime", "fp16"), ("openvino", "fp16")]),
        ("int8", ("fp32", "int8"), [("onnxruntime", "int8"), ("openvino", "int8")]),
        ("int8", ("fp32",), []),
        ("fp8", ("fp32", "int8"), []),
    ],
)
def test_other_precisions_are_never_changed_for_one_that_is_there(precision, have, expected, machine):
    machine(AVX2)
    assert taken(precision, have) == expected


def test_the_gpu_is_asked_for_or_kept_away_from(machine):
    machine(AVX512, cuda=True)
    assert taken(device="cuda") == [("onnxruntime", "fp32")]
    assert taken(device="cpu") == BOTH


def test_a_name_is_a_name(machine):
    machine(AVX512, packages=())
    assert taken(backend="onnxruntime") == [("onnxruntime", "fp32")]
    with refused(
        InputError, got="'torch' does not run a bundle", expected="auto or one of onnxruntime, openvino"
    ):
        taken(backend="torch")


@pytest.mark.parametrize(("precision", "extra"), [("fp32", "cpu"), ("bf16", "openvino")])
def test_nothing_installed(precision, extra, machine):
    machine(packages=())
    with refused(MissingDependencyError, fix=install_line(extra)):
        taken(precision)


@pytest.mark.parametrize(
    ("flags", "packages", "precision", "words"),
    [
        (AVX512, ("onnxruntime", "openvino"), "fp32", "openvino: OpenVINO is the faster one on AVX-512"),
        (
            AVX2,
            ("onnxruntime", "openvino"),
            "fp32",
            "onnxruntime: OpenVINO is no faster without AVX-512",
        ),
        (
            AVX512,
            ("onnxruntime",),
            "fp32",
            rf"openvino is not installed .*{re.escape(install_line('openvino'))}",
        ),
        (AVX2, ("openvino",), "fp32", "onnxruntime is not installed"),
        (
            AVX512,
            ("onnxruntime", "openvino"),
            "int8",
            "onnxruntime: OpenVINO's INT8 is not known to be faster",
        ),
        (AVX512 | {"avx512_vnni"}, ("onnxruntime", "openvino"), "int8", "openvino: OpenVINO is the faster"),
        (
            AVX2 | {"avx_vnni"},
            ("onnxruntime", "openvino"),
            "int8",
            "onnxruntime: OpenVINO is no faster without",
        ),
        (AVX2, ("onnxruntime", "openvino"), "bf16", "openvino: it alone has bf16 for a bundle here"),
    ],
)
def test_why(flags, packages, precision, words, machine):
    machine(flags, packages)
    found = choose.choices("auto", precision, ["fp32", "int8"], "auto", "a bundle")
    assert re.search(words, f"{found[0].backend}: {found[0].why}")


# Measuring ------------------------------------------------------------------------------------------------


class Named(NullRuntime):
    def __init__(self, name, delay_ms=0.0, fails=False, depth_m=1.0):
        super().__init__(depth_m, delay_ms)
        self.backend, self.fails, self.runs = name, fails, 0

    def _infer(self, pixel_values):
        self.runs += 1
        if self.fails:
            raise BackendError("out of memory")
        return super()._infer(pixel_values)


@pytest.mark.parametrize("order", [1, -1])
def test_the_fastest_is_kept_and_the_others_closed(order):
    quick, slow = Named("quick", 5, depth_m=1), Named("slow", 25, depth_m=2)
    runtime = MeasuredRuntime([quick, slow][::order], rounds=3)
    assert "auto measures" in runtime.describe()["why"]
    assert runtime.run(GOOD)[0, 0, 0] == 1  # the winner's own depth
    about = runtime.describe()
    assert about["backend"] == "quick"
    assert about["why"].startswith("auto took quick, measured on 1x64x96: ")
    assert (quick.runs, slow.runs) == (4, 4)
    with refused(BackendError, got="closed"):
        slow.run(GOOD)
    runtime.run(GOOD)
    assert quick.runs == 5
    runtime.close()
    with refused(BackendError, got="closed"):
        quick.run(GOOD)


def test_a_warm_up_measures():
    quick, slow = Named("quick", 1), Named("slow", 25)
    runtime = MeasuredRuntime([quick, slow], rounds=2)
    runtime.warm_up(GOOD)
    assert runtime.describe()["backend"] == "quick"
    done = quick.runs
    runtime.run(GOOD)
    assert quick.runs == done + 1


def test_measuring_takes_no_longer_than_it_may():
    slow, slower = Named("a", 30), Named("b", 40)
    MeasuredRuntime([slow, slower], rounds=100, enough_s=0.1).run(GOOD)
    assert slow.runs <= 4


def test_one_that_fails_is_left_out_and_said():
    runtime = MeasuredRuntime([Named("broken", fails=True), Named("works")])
    runtime.run(GOOD)
    assert runtime.describe()["backend"] == "works"
    assert "broken failed (out of memory.)" in runtime.describe()["why"]


def test_the_winner_s_own_reasons_stay_whatever_they_say():
    """They were told from why it came first by their wording once."""
    quick, slow = Named("quick", 1), Named("slow", 25)
    quick.reasons = (Reason("auto took quick: first", of_choice=True), Reason("auto took its time; really"))
    runtime = MeasuredRuntime([quick, slow])
    runtime.run(GOOD)
    assert [reason.of_choice for reason in runtime.reasons] == [True, False]
    assert runtime.reasons[1] == quick.reasons[1]


def test_all_fail():
    with refused(BackendError, got="out of memory"):
        MeasuredRuntime([Named("a", fails=True), Named("b", fails=True)]).run(GOOD)


def test_closed_before_it_ran():
    parts = [Named("a"), Named("b")]
    MeasuredRuntime(parts).close()
    for part in parts:
        with refused(BackendError, got="closed"):
            part.run(GOOD)


def test_the_stricter_shape_holds():
    loose, strict = Named("a"), Named("b")
    strict.spec = InputSpec(size_multiple=64)
    assert MeasuredRuntime([loose, strict]).spec.size_multiple == 64


# Engines ----------------------------------------------------------------------------------------------


def with_engines(backend="auto", device="auto", engines=("tensorrt",)):
    return choose.choices(backend, "fp32", ["fp32"], device, "a bundle", engines)


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_engines_come_first(device, machine):
    machine(AVX2, ("onnxruntime", "openvino"), cuda=True)
    found = with_engines(device=device)
    assert [choice.backend for choice in found] == ["tensorrt", "onnxruntime"]
    assert found[0].why == "a bundle has engines for this GPU"


def test_engines_alone_are_enough(machine):
    machine(packages=())
    assert [choice.backend for choice in with_engines()] == ["tensorrt"]


def test_engines_are_left_alone(machine):
    machine()
    assert with_engines(device="cpu") == with_engines(device="cpu", engines=())
    assert [choice.backend for choice in with_engines("openvino")] == ["openvino"]
    assert "tensorrt" not in [choice.backend for choice in with_engines(engines=())]


def test_an_onnx_file_is_no_engine(machine):
    machine()
    with refused(InputError, got="'tensorrt' does not run an .onnx file", fix="with glpn-build"):
        choose.choices("tensorrt", "fp32", ["fp32"], "auto", "an .onnx file")


def test_what_engines_are_refused_for_is_told_by_what_is_taken_instead():
    def open_choice(choice):
        if choice.backend == "tensorrt":
            raise BackendError("there is no NVIDIA driver")
        return Named(choice.backend)

    found = [choose.Choice("tensorrt", "fp32", "first"), choose.Choice("quick", "fp32", "it is fast")]
    runtime = choose.load(found, open_choice, measure=False)
    assert (
        runtime.why == "auto took quick: it is fast; tensorrt does not load it (there is no NVIDIA driver.)"
    )
