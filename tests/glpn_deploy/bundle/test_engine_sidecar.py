"""An engine is opened only where its sidecar says that it belongs, and every refusal holds the way out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shlex
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glpn_deploy.bundle import engine_sidecar
from glpn_deploy.bundle.engine_profile import Profile, parse_profiles
from glpn_deploy.bundle.engine_sidecar import (
    Sidecar,
    artefact_digest,
    bundle_engines,
    check_bundle,
    check_machine,
    engine_name,
    read_plan,
    read_sidecar,
    rebuild_command,
    sidecar_path,
    write_sidecar,
)
from glpn_deploy.bundle.manifest import Artefact
from glpn_deploy.errors import BundleError, EngineError
from glpn_deploy.gpu.cuda_device import CudaDevice
from tests.refusals import refused

PLAN = bytes(range(256)) * 8
ORIN = CudaDevice(0, "Orin", (8, 7), 32 << 30, True, (12, 6))
A6000 = CudaDevice(0, "NVIDIA RTX A6000", (8, 6), 48 << 30, False, (12, 6))
RTX3090 = dataclasses.replace(A6000, name="NVIDIA GeForce RTX 3090")
H100 = CudaDevice(0, "NVIDIA H100 PCIe", (9, 0), 80 << 30, False, (12, 6))
T4 = CudaDevice(0, "Tesla T4", (7, 5), 16 << 30, False, (12, 6))
ONNX = "ab" * 32
ADDED = (
    "level",
    "workspace_mb",
    "tactic_dram_mb",
    "tactic_sources",
    "device_memory_bytes",
    "warnings",
    "backend",
    "targets",
)
"""Fields that sidecars of the first releases do not have."""


def make(gpu: CudaDevice = A6000, **changes) -> Sidecar:
    values = {
        "engine": "net.engine",
        "sha256": hashlib.sha256(PLAN).hexdigest(),
        "bytes": len(PLAN),
        "bundle": "glpn-nyu",
        "onnx": "model.fp16.onnx",
        "onnx_sha256": ONNX,
        "precision": "fp16",
        "max_depth": 10.0,
        "size_multiple": 32,
        "tensorrt": "10.3.0",
        "cuda": "12.6",
        "gpu": gpu.name,
        "sm": gpu.capability,
        "profiles": parse_profiles(["480x640"], "1:4"),
        "flags": ("DIRECT_IO",),
        "layers": {"fp16": 210, "fp32": 8},
        "build_s": 61.5,
        "parity": {"passed": True, "reports": []},
    }
    return Sidecar(**{**values, **changes})


@pytest.fixture
def engine(tmp_path):
    """An engine of a bundle, with its sidecar."""
    path = tmp_path / "my bundle" / "engines" / "net.engine"
    path.parent.mkdir(parents=True)
    path.write_bytes(PLAN)
    write_sidecar(make(), path)
    return path


def check_engine(engine, sidecar, device, tensorrt, onnx) -> None:
    """What is asked of an engine before it is opened, in the backend's order."""
    check_machine(engine, sidecar, device, tensorrt)
    if onnx is not None:
        artefact = Artefact(sidecar.onnx, "onnx", sidecar.precision, "", 17, 1)
        files = {sidecar.onnx: {"sha256": onnx, "bytes": 1}}
        check_bundle(engine, sidecar, SimpleNamespace(artefacts=(artefact,), files=files))
    assert read_plan(engine, sidecar) == PLAN


def refusal(engine, sidecar=None, device=A6000, tensorrt="10.3.0", onnx=ONNX) -> EngineError:
    with pytest.raises(EngineError) as refused:
        check_engine(engine, sidecar or read_sidecar(engine), device, tensorrt, onnx)
    folder = shlex.quote(str(engine.parent.parent))
    assert f"glpn-build {folder} --precision fp16 --size 480x640 --batch 1:4" in refused.value.fix
    assert refused.value.exit_code == 2
    return refused.value


def edit(engine, changes: dict) -> None:
    path = sidecar_path(engine)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# What fits -------------------------------------------------------------------------------------------


def test_what_was_written_is_read(engine):
    assert read_sidecar(engine) == make()
    values = json.loads(sidecar_path(engine).read_text())
    assert (values["kind"], values["format"]) == ("glpn-deploy-engine", 1)
    assert values["profiles"] == [{"min": [1, 480, 640], "opt": [1, 480, 640], "max": [4, 480, 640]}]


def test_it_runs_where_it_was_built(engine):
    check_engine(engine, read_sidecar(engine), A6000, "10.3.0", ONNX)
    check_engine(engine, read_sidecar(engine), A6000, "10.3.0", None)
    assert read_plan(engine, read_sidecar(engine)) == PLAN


@pytest.mark.parametrize(
    ("compatibility", "built", "here", "fits"),
    [
        ("none", A6000, A6000, True),
        ("none", A6000, RTX3090, False),  # the same capability, but another kind of GPU
        ("none", A6000, H100, False),
        ("same_compute_capability", A6000, RTX3090, True),
        ("same_compute_capability", A6000, H100, False),
        ("same_compute_capability", A6000, ORIN, False),
        ("ampere_plus", A6000, H100, True),
        ("ampere_plus", H100, A6000, True),
        ("ampere_plus", A6000, T4, False),
        ("ampere_plus", A6000, ORIN, False),  # JetPack has no such engines
        ("ampere_plus", ORIN, ORIN, True),
    ],
)
def test_gpus(engine, compatibility, built, here, fits):
    sidecar = make(built, compatibility=compatibility)
    if fits:
        check_engine(engine, sidecar, here, "10.3.0", ONNX)
        return
    with pytest.raises(EngineError) as refused:
        check_engine(engine, sidecar, here, "10.3.0", ONNX)
    assert f"was built for {built.name} (compute capability {built.capability})" in refused.value.got
    assert f"this GPU is {here.name} (compute capability {here.capability})" in refused.value.got


@pytest.mark.parametrize(
    ("built", "here", "fits"), [(8, 8, True), (8, 16, False), (0, 16, True), (8, 0, True)]
)
def test_orins_of_one_name_are_told_apart_by_their_multiprocessors(engine, built, here, fits):
    sidecar = make(ORIN, sm_count=built, board="NVIDIA Jetson Orin Nano Developer Kit")
    device = dataclasses.replace(ORIN, sm_count=here, board="a carrier of somebody's")
    if fits:  # 0 is not known: of a sidecar from before
        check_engine(engine, sidecar, device, "10.3.0", ONNX)
        return
    assert f"{here} multiprocessors" in refusal(engine, sidecar, device).got


@pytest.mark.parametrize(
    ("compatible", "built", "here", "fits"),
    [
        (False, "10.3.0", "10.3.0", True),
        (False, "10.3.0", "10.3.1", False),
        (False, "10.3.0", "10.7.0", False),
        (False, "10.3.0", "8.6.2", False),
        (True, "10.3.0", "10.3.0", True),
        (True, "10.3.0", "10.16.1", False),  # that would take 10.3's lean runtime, which nothing loads
        (True, "10.16.1", "10.3.0", False),
        (True, "10.3.1", "10.3.0", False),
        (True, "8.6.2", "10.3.0", False),
        (True, "10.3.0", "11.4.1", False),
    ],
)
def test_versions(engine, compatible, built, here, fits):
    sidecar = make(tensorrt=built, version_compatible=compatible)
    if fits:
        check_engine(engine, sidecar, A6000, here, ONNX)
        return
    error = refusal(engine, sidecar, tensorrt=here)
    assert f"was built with TensorRT {built}; this is TensorRT {here}" in error.got
    assert error.expected.startswith(built)
    assert ("lean runtime, which is not loaded here" in error.expected) == compatible


def test_another_platform(engine):
    error = refusal(engine, make(platform="linux-riscv64"))
    assert "was built on linux-riscv64" in error.got


def test_another_bundle(engine):
    error = refusal(engine, onnx="cd" * 32)
    assert "was built from another model.fp16.onnx than this bundle's" in error.got


# What is not the file that was written ----------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, len(PLAN) // 2, len(PLAN) - 1])
def test_an_engine_cut_off(engine, size):
    os.truncate(engine, size)
    assert f"has {size} bytes" in refusal(engine).got
    with refused(EngineError, got=f"{size} bytes"):
        read_plan(engine, read_sidecar(engine))


def test_an_engine_with_more_behind_it(engine):
    with engine.open("ab") as file:
        file.write(b"more")
    refusal(engine)


@pytest.mark.parametrize("place", [0, 100, len(PLAN) - 1])
def test_a_flipped_bit(engine, place):
    content = bytearray(PLAN)
    content[place] ^= 1
    engine.write_bytes(content)
    assert "changed since it was built" in refusal(engine).got
    with refused(EngineError, got="SHA-256 differs"):
        read_plan(engine, read_sidecar(engine))


def test_killed_between_the_two_files(engine):
    """A new plan whose sidecar did not follow any more: the old sidecar refuses it."""
    sidecar = read_sidecar(engine)
    engine.write_bytes(PLAN[::-1])
    assert "SHA-256 differs" in refusal(engine, sidecar).got


def test_without_its_engine(engine):
    engine.unlink()
    with refused(EngineError, got="there is no engine", fix="build it: glpn-build '"):
        read_sidecar(engine)


def test_without_its_sidecar(engine):
    sidecar_path(engine).unlink()
    with refused(
        EngineError, got=("has no sidecar net.json", "executable"), fix=("glpn-build '", "my bundle'")
    ):
        read_sidecar(engine)


def test_the_sidecar_of_another_engine(engine):
    other = engine.with_name("other.engine")
    other.write_bytes(PLAN)
    sidecar_path(other).write_bytes(sidecar_path(engine).read_bytes())
    with refused(EngineError, got="is the sidecar of net.engine, not of other.engine"):
        read_sidecar(other)


@pytest.mark.parametrize("cut", [0, 1, 30, -3])
def test_a_sidecar_cut_off(engine, cut):
    path = sidecar_path(engine)
    path.write_bytes(path.read_bytes()[:cut])
    with refused(EngineError, got="it is not JSON"):
        read_sidecar(engine)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"format": ' + b"9" * 5000 + b"}",
        b"[]",
        b"null",
        b'"glpn-deploy-engine"',
        b'{"format": "glpn-deploy-bundle", "format_version": 1}',
        b'{"kind": ["glpn-deploy-engine"]}',
        b'{"kind": "glpn-deploy-engine"}',
        b" " * (5 << 20),
    ],
)
def test_what_is_no_sidecar(engine, content):
    sidecar_path(engine).write_bytes(content)
    with pytest.raises(EngineError) as refused:
        read_sidecar(engine)
    assert sidecar_path(engine).name in refused.value.got
    assert "glpn-build" in refused.value.fix


def test_a_later_format(engine):
    edit(engine, {"format": 2})
    with refused(EngineError, got="has format 2", expected="at most 1", fix="upgrade"):
        read_sidecar(engine)


def test_later_additions_are_passed_over(engine):
    edit(engine, {"colour": "green"})
    assert read_sidecar(engine) == make()


HUGE = 10**400
HOSTILE = [
    *({"engine": name} for name in ("../net.engine", "/net.engine", "", "a\nb", None, "x" * 600, "c:net")),
    *({"onnx": name} for name in ("../model.onnx", "/etc/passwd", "a/../../b", "..\\x", "\x1b[2Jx", 3)),
    *({"sha256": digest} for digest in ("", "ab", "G" * 64, "AB" * 32, "ab" * 32 + "\n", None)),
    *({"bytes": size} for size in (0, -1, HUGE, 1.5, True, "10", None)),
    *({"max_depth": depth} for depth in (0, -1, HUGE, float("nan"), float("inf"), True, "10", None)),
    *({"size_multiple": n} for n in (0, HUGE, 32.0, None)),
    *({"tensorrt": version} for version in ("", "10", "ten", "10.3.0; rm -rf", "1" * 600, 10.3, None)),
    *({"sm": sm} for sm in ("", "87", "8.7.1", 8.7, None)),
    *({"precision": precision} for precision in ("int4", "", None, ["fp16"], {})),
    *({"compatibility": level} for level in ("all", None, [])),
    *({"profiles": profiles} for profiles in (None, [], {}, [1], [{}], [HUGE], [{"min": [1, 33, 32]}])),
    {"profiles": [Profile.fixed((1, 32, 32)).to_dict()] * 1000},
    *({"flags": flags} for flags in (None, "TF32", [1], ["x\n"], ["x"] * 1000)),
    *({"layers": layers} for layers in (None, [], {"fp16": -1}, {"fp16": HUGE}, {"\x1b": 1}, {"fp16": "1"})),
    *({"build_s": s} for s in (-1, float("inf"), HUGE, "1", None)),
    *({"tf32": flag} for flag in (1, None, "true")),
    *({"gpu": gpu} for gpu in (None, 5, "\x1b[31mred", "x" * 600)),
    *({"parity": parity} for parity in (1, [], "yes")),
    *({"io": io} for io in (None, "", "FP 32", 1)),
    *({"level": level} for level in (None, -1, 6, HUGE, True, "3")),
    *({"workspace_mb": mb} for mb in (0, HUGE, 1.5, "512; rm -rf")),
    *({"tactic_dram_mb": mb} for mb in (0, HUGE, True)),
    *({"tactic_sources": sources} for sources in ("cublas", [], [1], ["$(id)"], ["cublas"] * 100)),
    *({"device_memory_bytes": size} for size in (-1, HUGE, 1.5, "1")),
    *({"warnings": texts} for texts in (None, "x", [1], ["a\x1b[2J"], ["x" * 600], ["x"] * 1000)),
    {"format": 0},
    {"format": True},
    {"format": "1"},
]


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: f"{next(iter(change))}-{str(change)[:30]!r}")
def test_a_hostile_value_is_refused(engine, change):
    edit(engine, change)
    with pytest.raises(EngineError) as refused:
        read_sidecar(engine)
    assert next(iter(change)) in str(refused.value) or "profile" in str(refused.value)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1000


def test_a_sidecar_of_the_first_releases_is_read(engine):
    path = sidecar_path(engine)
    values = json.loads(path.read_text())
    for name in ADDED:
        del values[name]
    path.write_text(json.dumps(values))
    assert read_sidecar(engine) == make()
    assert rebuild_command(engine, read_sidecar(engine)) == rebuild_command(engine, make())


@pytest.mark.parametrize(
    "name",
    [f.name for f in dataclasses.fields(Sidecar) if f.default is f.default_factory is dataclasses.MISSING]
    + ["platform"],
)
def test_a_missing_field_is_refused(engine, name):
    path = sidecar_path(engine)
    values = json.loads(path.read_text())
    del values[name]
    path.write_text(json.dumps(values))
    with refused(EngineError, got=f"{name} is missing"):
        read_sidecar(engine)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from([field.name for field in dataclasses.fields(Sidecar)]), JSON)
def test_whatever_stands_in_a_field_it_is_read_or_refused(tmp_path_factory, name, value):
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    folder.mkdir(exist_ok=True)
    engine = folder / "net.engine"
    engine.write_bytes(PLAN)
    write_sidecar(make(), engine)
    edit(engine, {name: value})
    try:
        sidecar = read_sidecar(engine)
    except EngineError:
        return
    write_sidecar(sidecar, engine)
    assert read_sidecar(engine) == sidecar


# Names and commands ------------------------------------------------------------------------------------


def test_the_name_of_an_engine():
    profiles = parse_profiles(["480x640"], "1:4")
    assert engine_name("glpn-nyu", "fp16", profiles, "10.3.0", "8.7") == (
        "glpn-nyu.fp16.480x640.b1-4.trt10.3.sm87.engine"
    )
    assert engine_name("glpn-nyu", "int8", profiles, "8.6.2", "12.0", ["stripped", "tf32"]) == (
        "glpn-nyu.int8.480x640.b1-4.stripped.tf32.trt8.6.sm120.engine"
    )


@given(st.text(max_size=300), st.lists(st.sampled_from(["480x640", "256x320", "32x64"]), min_size=1))
def test_any_bundle_name_gives_a_file_name(bundle, shapes):
    name = engine_name(bundle, "fp16", parse_profiles(shapes), "10.13.3", "10.0", ["ampere-plus", "tf32"])
    assert len(name.encode()) < 255
    assert name.endswith(".engine")
    assert name[0] not in ".-"
    assert not set(name) & set("/\\:\0 \n")


def test_the_rebuild_command_repeats_how_it_was_built(engine):
    sidecar = make(compatibility="ampere_plus", version_compatible=True, stripped=True, tf32=True)
    command = rebuild_command(engine, sidecar, (Profile.parse("1x32x32:1x32x32:2x64x64"),))
    assert shlex.split(command) == [
        "glpn-build",
        str(engine.parent.parent),
        *("--precision", "fp16"),
        *("--profile", "1x32x32:1x32x32:2x64x64"),
        *("--hardware-compatible", "ampere"),
        "--version-compatible",
        "--strip",
        "--tf32",
    ]
    assert rebuild_command(engine, make(flags=("REFIT",))).endswith("--batch 1:4 --refit")
    tuned = make(level=5, workspace_mb=512, tactic_dram_mb=1024, tactic_sources=("cublas", "cudnn"))
    assert rebuild_command(engine, tuned).endswith(
        "--batch 1:4 --workspace 512 --tactic-memory 1024 --level 5 --tactic-sources cublas,cudnn"
    )
    assert rebuild_command(engine.parent.parent / "net.engine").startswith("glpn-build BUNDLE")


def test_the_engines_of_a_bundle(engine):
    (engine.parent / "a.engine").write_bytes(b"")
    (engine.parent / ".partial.engine").write_bytes(b"")
    (engine.parent / "folder.engine").mkdir()
    assert [path.name for path in bundle_engines(engine.parent.parent)] == ["a.engine", "net.engine"]
    assert bundle_engines(engine.parent) == []


def test_weights_in_files_of_their_own_are_part_of_the_digest(tiny_bundle):
    from glpn_deploy.bundle.bundle import Bundle

    manifest = Bundle.open(tiny_bundle).manifest
    (artefact,) = manifest.artefacts
    assert artefact_digest(manifest, artefact) == manifest.files["model.onnx"]["sha256"]
    apart = dataclasses.replace(artefact, data=("model.onnx.data",))
    with refused(BundleError, got="no digest for 'model.onnx.data'"):
        artefact_digest(manifest, apart)
    found = set()
    for digest in ("1" * 64, "2" * 64):
        files = {**manifest.files, "model.onnx.data": {"sha256": digest, "bytes": 1}}
        found.add(artefact_digest(dataclasses.replace(manifest, files=files), apart))
    assert len(found) == 2
    assert artefact_digest(manifest, artefact) not in found


def test_a_failed_write_leaves_the_old_sidecar(engine, monkeypatch):
    before = sidecar_path(engine).read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        write_sidecar(make(build_s=float("nan")), engine)
    assert sidecar_path(engine).read_bytes() == before
    assert sorted(path.name for path in engine.parent.iterdir()) == ["net.engine", "net.json"]


def test_the_platform_is_this_one():
    assert make().platform == engine_sidecar.current_platform()
    assert "-" in make().platform
