"""The one session: what the file says decides how it is opened, whoever opens it."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from glpn_deploy.errors import BackendError
from glpn_deploy.runtimes.ort_session import open_session


def with_metadata(source: Path, path: Path, about: dict[str, str]) -> Path:
    model = onnx.load(str(source))
    helper.set_model_props(model, about)
    onnx.save_model(model, str(path))
    return path


def settings(session: ort.InferenceSession) -> tuple[str, object]:
    options = session.get_session_options()
    try:
        as_it_stands = options.get_session_config_entry("session.disable_quant_qdq")
    except RuntimeError:  # it was not set
        as_it_stands = "0"
    return as_it_stands, options.graph_optimization_level


ALL, BASIC, NONE = (
    ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
)


@pytest.mark.parametrize(
    ("about", "asked", "expected"),
    [
        ({"precision": "int8", "target": "tensorrt"}, {}, ("1", ALL)),
        ({"precision": "int8", "target": "cpu"}, {}, ("0", ALL)),
        ({"precision": "fp8", "target": "tensorrt"}, {}, ("1", BASIC)),
        ({}, {"precision": "fp8"}, ("0", BASIC)),
        ({"precision": "fp32"}, {"as_typed": True}, ("1", BASIC)),
        ({"precision": "fp32"}, {"as_typed": True, "optimize": False}, ("1", NONE)),
    ],
)
def test_the_file_decides_and_the_rest_is_asked_for(about, asked, expected, tiny_onnx, tmp_path):
    path = with_metadata(tiny_onnx, tmp_path / "m.onnx", about)
    assert settings(open_session(path, threads=1, **asked)) == expected
    assert settings(open_session(path.read_bytes(), threads=1, **asked)) == expected


def test_a_serialized_graph_gives_what_its_file_gives(tiny_onnx, pixels):
    feed = {"pixel_values": pixels(1, 32, 64)}
    (first,) = open_session(tiny_onnx, threads=1).run(None, feed)
    (second,) = open_session(tiny_onnx.read_bytes(), threads=1, arena=False).run(None, feed)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("content", [b"", b"no graph", b"\xff" * 100])
def test_what_is_no_graph_is_refused(content, tmp_path):
    (tmp_path / "m.onnx").write_bytes(content)
    for source in (tmp_path / "m.onnx", content):
        with pytest.raises(BackendError) as caught:
            open_session(source)
        assert caught.value.__cause__ is not None


def test_nobody_else_opens_sessions():
    """Only the comparison with other exporters' files takes ONNX Runtime's defaults."""
    own = {"runtimes/ort_session.py", "benchmarks/claims/main_job.py"}
    root = Path(__file__).parent.parent.parent
    opening = {
        path.relative_to(root).as_posix()
        for room in ("glpn_deploy", "exporters", "runtimes", "benchmarks")
        for path in (root / room).glob("**/*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("InferenceSession")
    }
    assert "runtimes/ort_session.py" in opening
    assert opening <= own
