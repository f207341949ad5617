"""What must not be opened is refused in a sentence, and the process goes on as if nothing had been."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from glpn_deploy.benchmarks.claims.gpu_bundles import DEMO
from glpn_deploy.bundle.engine_sidecar import read_sidecar, sidecar_path, write_sidecar
from glpn_deploy.errors import EngineError

SHAPE = (1, 480, 640)
ROOT = Path(__file__).parent.parent.parent


def opened(path):
    from glpn_deploy.runtimes.base import RuntimeOptions
    from glpn_deploy.runtimes.registry import load_runtime

    return load_runtime("tensorrt", path, RuntimeOptions(device="cuda"))


@pytest.fixture
def copy(engine, tmp_path):
    """An engine outside its bundle, to damage."""
    path = engine(DEMO, "fp16")
    for file in (path, sidecar_path(path)):
        shutil.copy2(file, tmp_path / file.name)
    return tmp_path / path.name


def claim(path, **changes):
    """A sidecar that says of the file what is wanted; digest and size are the file's own."""
    sidecar = read_sidecar(path)
    content = path.read_bytes()
    own = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    write_sidecar(dataclasses.replace(sidecar, **own, **changes), path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gpu": "Orin", "sm": "8.7"}, "was built for Orin"),
        ({"tensorrt": "7.2.3"}, "was built with TensorRT 7.2.3"),
        ({"platform": "linux-elsewhere"}, "was built on linux-elsewhere"),
    ],
)
def test_an_engine_from_elsewhere(copy, changes, words):
    claim(copy, **changes)
    with pytest.raises(EngineError, match=words) as refused:
        opened(copy)
    assert "glpn-build" in refused.value.fix


def test_an_engine_without_a_sidecar(copy):
    sidecar_path(copy).unlink()
    with pytest.raises(EngineError, match="no sidecar"):
        opened(copy)


def test_an_engine_of_another_bundle(engine, bundle):
    """One whose ONNX file has another digest than the bundle it lies in."""
    path = engine(DEMO, "fp16")
    place = path.with_name(f"other.{path.name}")
    shutil.copy2(path, place)
    sidecar = dataclasses.replace(read_sidecar(path), engine=place.name, onnx_sha256="0" * 64)
    write_sidecar(sidecar, place)
    try:
        with pytest.raises(EngineError, match="glpn-build"):
            opened(place)
    finally:
        place.unlink()
        sidecar_path(place).unlink()


@pytest.mark.parametrize("damage", ["half", "one byte"])
def test_a_damaged_plan_never_reaches_tensorrt(copy, damage):
    content = bytearray(copy.read_bytes())
    if damage == "half":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 1
    copy.write_bytes(content)
    with pytest.raises(EngineError) as refused:
        opened(copy)
    assert "glpn-build" in str(refused.value)


_OPEN_BOTH = """
import sys, numpy as np
from pathlib import Path
from glpn_deploy.errors import GlpnError
from glpn_deploy.runtimes.base import RuntimeOptions
from glpn_deploy.runtimes.registry import load_runtime
bad, good, pixels, depth = sys.argv[1:]
options, x = RuntimeOptions(device="cuda"), np.load(pixels)
before = load_runtime("tensorrt", Path(good), options)
expected = before.run(x)
try:
    load_runtime("tensorrt", Path(bad), options)
except GlpnError as error:
    print("refused:", error)
else:
    print("opened")
assert np.array_equal(before.run(x), expected)
before.close()
with load_runtime("tensorrt", Path(good), options) as again:
    np.save(depth, again.run(x))
"""


@pytest.mark.parametrize("content", ["half", "random", "empty head"])
def test_a_plan_that_tensorrt_is_shown_and_cannot_read(engine, copy, goldens, tmp_path, content, record):
    """A forged sidecar lets it through to TensorRT, in a process of its own that must live on."""
    good = engine(DEMO, "fp16")
    plan = copy.read_bytes()
    contents = {
        "half": plan[: len(plan) // 2],
        "random": np.random.default_rng(0).bytes(len(plan)),
        "empty head": bytes(4096) + plan[4096:],
    }
    copy.write_bytes(contents[content])
    claim(copy)
    pixels, depth = tmp_path / "pixels.npy", tmp_path / "depth.npy"
    batch = goldens(DEMO, SHAPE)
    np.save(pixels, batch.pixel_values)
    done = subprocess.run(
        [sys.executable, "-c", _OPEN_BOTH, *map(str, (copy, good, pixels, depth))],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    record(said=done.stdout[-500:], exit_status=done.returncode)
    assert done.returncode == 0, done.stderr[-1000:]
    assert "refused:" in done.stdout
    assert "does not take" in done.stdout
    np.testing.assert_allclose(np.load(depth), batch.depth, rtol=0.05)


def test_the_report_of_an_engine_is_json(engine):
    assert json.loads(sidecar_path(engine(DEMO, "fp16")).read_text())["kind"] == "glpn-deploy-engine"
