"""What ONNX Runtime's TensorRT provider is told. No test here runs it: that needs a GPU."""

from __future__ import annotations

import os
import sys

import pytest

from glpn_deploy.bundle.engine_profile import Profile
from glpn_deploy.errors import BackendError, InputError, WriteError
from glpn_deploy.runtimes.onnx_file.header import read_header
from glpn_deploy.runtimes.ort_tensorrt import EngineFolder, linked_tensorrt, provider_options, start_hint
from tests.refusals import refused

FLAGS = ("trt_fp16_enable", "trt_int8_enable")


@pytest.fixture(scope="module")
def header(tiny_onnx):
    return read_header(tiny_onnx)


@pytest.mark.parametrize(
    ("precision", "tensorrt", "flags"),
    [
        ("fp32", 8, ()),
        ("fp16", 8, FLAGS[:1]),
        ("int8", 8, FLAGS),
        ("fp16", 10, ()),  # strongly typed: the provider makes such networks only where no flag is set
        ("int8", 10, ()),
        ("fp8", 10, ()),
        ("bf16", None, ()),
    ],
)
def test_flags_agree_with_the_graph(precision, tensorrt, flags, header, tmp_path):
    told = provider_options(header, precision, None, tmp_path, tensorrt)
    assert tuple(flag for flag in FLAGS if told.get(flag)) == flags
    assert not [name for name in told if "profile" in name]
    assert told["trt_engine_cache_path"] == str(tmp_path)


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_what_tensorrt_8_has_not(precision, header, tmp_path):
    with refused(InputError, got=f"not run {precision} on TensorRT 8", expected="one of fp32, fp16, int8"):
        provider_options(header, precision, None, tmp_path, 8)


def test_profile(header, tmp_path):
    profile = Profile((1, 256, 320), (1, 480, 640), (4, 480, 640))
    told = provider_options(header, "fp32", profile, tmp_path, 10)
    shapes = [told[f"trt_profile_{end}_shapes"] for end in ("min", "opt", "max")]
    sides = ("1x3x256x320", "1x3x480x640", "4x3x480x640")
    assert shapes == [f"{header.input}:{side}" for side in sides]


@pytest.mark.parametrize(
    ("content", "major"),
    [
        (b"\x7fELF\0libnvinfer_plugin.so.10\0libnvinfer.so.10\0libcudart.so.12\0", 10),
        (b"\x7fELF\0libnvinfer.so.8\0", 8),
        (b"\x7fELF\0libnvinfer.so\0", None),
    ],
)
def test_the_tensorrt_it_was_linked_to(content, major, tmp_path):
    (tmp_path / "capi").mkdir()
    (tmp_path / "capi/libonnxruntime_providers_tensorrt.so").write_bytes(content)
    assert linked_tensorrt(tmp_path) == major


def test_the_hint_names_the_package():
    assert "pip install 'tensorrt-cu13>=10,<11'" in start_hint(10, "13.0")
    assert "pip install 'tensorrt>=8,<9'" in start_hint(8, "")
    assert "release notes" in start_hint(None, "13.0")


def test_no_provider_library(tmp_path):
    assert linked_tensorrt(tmp_path) is None


def test_engines_of_one_file_and_one_version(header, tmp_path):
    first = EngineFolder(tmp_path / "cache", header, "1.31.1")
    assert first.empty
    (first.path / "TensorrtExecutionProvider_graph_sm87.engine").write_bytes(b"plan")
    assert not EngineFolder(tmp_path / "cache", header, "1.31.1").empty
    assert EngineFolder(tmp_path / "cache", header, "1.32.0").empty
    first.close()
    assert first.path.is_dir()
    if os.name == "posix":
        assert first.path.stat().st_mode & 0o077 == 0


def test_engines_without_a_cache_go_with_the_session(header):
    folder = EngineFolder(None, header, "1.31.1")
    (folder.path / "a.engine").write_bytes(b"plan")
    assert not folder.empty
    folder.close()
    assert not folder.path.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_engines_that_others_may_write_are_refused(header, tmp_path):
    path = EngineFolder(tmp_path, header, "1").path
    path.chmod(0o770)
    with refused(BackendError, got="others may write to the engines in", fix="chmod go-w"):
        EngineFolder(tmp_path, header, "1")


def test_a_cache_that_cannot_be_made(header, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with refused(WriteError, got=("the cache folder", "cannot be made")):
        EngineFolder(tmp_path / "cache", header, "1")
