"""What an install adds is counted right, from wheels made here."""

from __future__ import annotations

import zipfile

import pytest

from glpn_deploy.benchmarks.claims.jetson_size import JETPACKS, requirements, table, unpacked_bytes


def test_a_wheel_is_counted_unpacked(tmp_path):
    wheel = tmp_path / "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("thing/__init__.py", "x = 1\n" * 1000)
        archive.writestr("thing/library.so", b"\0" * 50_000)
    files, code = unpacked_bytes(wheel, tmp_path / "out")
    assert files == 6_000 + 50_000
    assert code > 0
    assert wheel.stat().st_size < 5_000


def test_sums_with_and_without_numpy():
    text = table({"numpy 2.2.6": (49_500_000, 500_000), "thing 1.0": (10_000_000, 1_000_000)})
    assert "| **all** | **59.5 MB** | **61.0 MB** |" in text
    assert "| **all but numpy** | **10.0 MB** | **11.0 MB** |" in text
    assert text.index("numpy 2.2.6") < text.index("thing 1.0")


@pytest.mark.parametrize("python", JETPACKS)
def test_a_jetson_gets_no_library_of_cuda(python):
    """JetPack has them; the driver is called itself."""
    pytest.importorskip("tomllib", reason="Python 3.11 brings tomllib")
    names = requirements(python)
    assert not [name for name in names if name.startswith(("cuda", "nvidia", "torch", "tensorrt", "onnx"))]
    assert any(name.startswith("numpy") for name in names)
