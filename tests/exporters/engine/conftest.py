"""The demo network in every form that a bundle holds, written once and compiled for real."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from glpn_deploy import GLPNForDepthEstimation
from glpn_deploy.exporters.calibration.calibration import Ranges
from glpn_deploy.exporters.options import Form, OnnxOptions
from glpn_deploy.exporters.to_fp8 import fp8_tensors, to_fp8
from glpn_deploy.exporters.to_half import HalfOptions, to_half
from glpn_deploy.exporters.to_int8 import int8_tensors, to_int8
from glpn_deploy.exporters.to_onnx import to_onnx
from glpn_deploy.exporters.to_uint8 import to_uint8
from glpn_deploy.exporters.typed_qdq import QuantizeOptions


def anything(names: list[str]) -> Ranges:
    """Ranges that the compiler takes as well as true ones."""
    return Ranges(dict.fromkeys(names, (-4.0, 4.0)), "minmax", 1, "0" * 64)


class Artefacts:
    """Artefacts of one network by precision, opset and type of input and output."""

    def __init__(self, model: GLPNForDepthEstimation, folder: Path) -> None:
        self._model, self._folder = model, folder

    def __call__(self, precision: str, opset: int, io: str = "fp32") -> Path:
        path = self._folder / f"{precision}.{opset}.{io}.onnx"
        if path.exists():
            return path
        if io == "uint8":
            return to_uint8(self(precision, opset), path)
        if precision in ("fp32", "source"):  # as glpn-export writes a bundle's, and those it makes others of
            form: Form = "any" if precision == "fp32" else "tensorrt"
            return to_onnx(self._model, path, OnnxOptions(opset, form=form))
        source = self("source", opset)
        if precision == "int8":
            options = QuantizeOptions(io=io)
            return to_int8(source, path, anything(int8_tensors(source, options)), options)
        if precision == "fp8":
            options = QuantizeOptions(io=io)
            return to_fp8(source, path, anything(fp8_tensors(source, options)), options)
        return to_half(source, path, HalfOptions(precision, io=io))


@pytest.fixture(scope="session")
def make_artefacts(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Artefacts]:
    return lambda model: Artefacts(model, tmp_path_factory.mktemp("artefacts"))


@pytest.fixture(scope="session")
def artefact(make_artefacts: Callable[..., Artefacts]) -> Artefacts:
    """The demo network's."""
    return make_artefacts(GLPNForDepthEstimation.from_pretrained("demo"))
