"""Engines of every precision: built, inspected, and the reference's depth over the whole profile."""

from __future__ import annotations

import pytest

from glpn_deploy.benchmarks.claims.gpu_bundles import BATCHES, DEMO, PROFILE, SIZES
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.bundle.engine_sidecar import check_machine, read_plan, read_sidecar
from glpn_deploy.errors import InputError

HALF = {"fp16", "int8"}


def test_it_builds_with_layers_of_its_precision(network, precision, engine, device, trt, record):
    path = engine(network, precision)
    sidecar = read_sidecar(path)
    record(build_s=sidecar.build_s, bytes=sidecar.bytes, layers=sidecar.layers, flags=list(sidecar.flags))
    check_machine(path, sidecar, device, sidecar.tensorrt)
    read_plan(path, sidecar)
    assert sidecar.layers.get(precision, 0) > 0
    if precision in HALF:  # the products, which are most layers, are not left in FP32
        total = sum(sidecar.layers.values())
        assert sum(sidecar.layers.get(name, 0) for name in HALF) >= total / 2, sidecar.layers


def test_its_depth_is_the_references_over_the_profile(network, precision, load, goldens, bundle, record):
    """Minimum, optimum and maximum, batches of 1 to 8, landscape and portrait."""
    from glpn_deploy.proof.engine_proof import engine_limit
    from glpn_deploy.proof.parity import compare_batches

    opened = Bundle.open(bundle(network))
    limit = engine_limit(opened, opened.artefact(precision))
    shapes = [(n, *size) for size in SIZES for n in BATCHES]
    assert {PROFILE.min, PROFILE.opt, PROFILE.max} <= set(shapes)
    batches = (goldens(network, shape) for shape in shapes)
    about = {"backend": "golden", "precision": "fp32"}
    report = compare_batches(load(network, precision), batches, about, limit)
    record(
        shapes=len(report.cases),
        worst_abs_rel=max(case.stats.abs_rel for case in report.cases),
        worst_m=max(case.stats.max_abs_m for case in report.cases),
        limit=str(limit),
    )
    report.require()


def test_what_glpn_build_keeps_has_been_proved(bundle, sources, record):
    """The whole way of the command, with its own comparison, at one small shape."""
    from glpn_deploy.bundle.engine_profile import Profile
    from glpn_deploy.exporters.engines import build_engine
    from glpn_deploy.exporters.to_engine import EngineOptions

    options = EngineOptions(profiles=(Profile.fixed((1, 480, 640)),), tactic_sources=sources)
    path = build_engine(bundle(DEMO), "fp16", options)
    parity = read_sidecar(path).parity
    record(parity_passed=parity["passed"], not_checked=parity["not_checked"])
    assert parity["passed"]
    assert parity["reports"]


@pytest.mark.parametrize("shape", [(9, 480, 640), (1, 672, 640), (1, 224, 256)])
def test_a_shape_outside_the_profile_names_it_and_the_command(load, shape):
    import numpy as np

    runtime = load()
    n, height, width = shape
    with pytest.raises(InputError) as refused:
        runtime.run(np.zeros((n, 3, height, width), np.float32))
    assert PROFILE.name in str(refused.value)
    assert "glpn-build" in str(refused.value)
    assert runtime.run(np.zeros((1, 3, 480, 640), np.float32)).shape == (1, 480, 640)
