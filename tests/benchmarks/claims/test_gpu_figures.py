"""What is claimed of GPUs is worked out from rows; the bundles for it are read back as they were written."""

from __future__ import annotations

import numpy as np
import pytest

from glpn_deploy.benchmarks.claims import gpu_figures
from glpn_deploy.benchmarks.claims.gpu_bundles import BATCHES, DEMO, PROFILE, SIZES, _write_goldens, golden
from glpn_deploy.benchmarks.claims.gpu_figures import judge
from glpn_deploy.errors import BackendError
from glpn_deploy.runtimes.rt_torch import TorchRuntime

BUDGET = {"abs_rel": 4e-4, "non_finite": 0}


def named_row(named, row, ms, **changes):
    """A row whose rounds all took ``ms``."""
    backend, precision = named.split()
    samples = {number: [ms, ms] for number in range(8)}
    return row(samples, backend=backend, precision=precision, **changes)


@pytest.fixture
def rows(row):
    times = {
        "hf-eager fp32": 40.0,
        "hf-eager fp16": 18.0,
        "torch-compile fp16": 11.0,
        "hf-compile fp16": 9.0,
        "tensorrt-nograph fp16": 6.0,
        "tensorrt fp16": 5.0,
    }
    return [named_row(name, row, ms, error=BUDGET) for name, ms in times.items()]


def test_ratios_are_to_the_better_of_two_compiled_networks(rows) -> None:
    found = judge(rows)
    assert found["times_hf_eager_fp32"] == {"value": 8.0, "asked": 4.0, "reached": True}
    assert found["times_hf_eager_fp16"]["value"] == pytest.approx(3.6)
    assert found["times_torch_compile_fp16"]["value"] == pytest.approx(1.8)
    assert found["times_without_cuda_graph"]["value"] == pytest.approx(1.2)
    assert found["fp16_abs_rel"]["reached"] is True
    assert "share_of_fp16_product" not in found


def test_a_figure_that_is_missed_and_one_that_was_not_taken(rows, row) -> None:
    slow = [one for one in rows if one.backend == "hf-eager"]
    slow.append(named_row("tensorrt fp16", row, 20.0, error={"abs_rel": 0.002, "non_finite": 0}))
    found = judge(slow)
    assert found["times_hf_eager_fp32"]["reached"] is False
    assert found["times_torch_compile_fp16"] == {"value": None, "asked": 1.0, "reached": None}
    assert found["fp16_abs_rel"]["reached"] is False


def test_the_share_of_the_ceiling_is_asked_of_large_batches(row) -> None:
    large = [named_row("tensorrt fp16", row, 20.0, batch=16, product_share=0.4)]
    assert judge(large)["share_of_fp16_product"] == {"value": 0.4, "asked": 0.35, "reached": True}


def test_goldens_are_read_back_for_every_batch(tiny_bundle, tiny_model, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("glpn_deploy.benchmarks.claims.gpu_bundles.SIZES", ((64, 96), (96, 64)))
    (tmp_path / DEMO).symlink_to(tiny_bundle)
    reference = TorchRuntime(tiny_model)
    _write_goldens(tmp_path, DEMO, reference)
    batch = golden(tmp_path, DEMO, (8, 96, 64))
    assert batch.pixel_values.shape == (8, 3, 96, 64)
    np.testing.assert_allclose(reference.run(batch.pixel_values), batch.depth, atol=1e-5)
    assert not np.array_equal(batch.depth[0], batch.depth[1])


def test_the_goldens_span_the_profile() -> None:
    shapes = {(n, *size) for size in SIZES for n in BATCHES}
    assert {PROFILE.min, PROFILE.opt, PROFILE.max} <= shapes
    assert all(PROFILE.holds(shape) for shape in shapes)
    assert {"landscape" if h < w else "portrait" for h, w in SIZES if h != w} == {"landscape", "portrait"}


def test_without_a_gpu_it_says_so(call, monkeypatch, tmp_path, capsys) -> None:
    def none() -> None:
        raise BackendError("the NVIDIA driver finds no GPU")

    monkeypatch.setattr(gpu_figures, "find_device", none)
    assert call(gpu_figures.main, tmp_path, "--out", tmp_path / "out") == BackendError.exit_code
    assert "no GPU" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_measured_where_nothing_is_named(call, monkeypatch, tmp_path) -> None:
    asked = []

    def sweep(bundle, options):
        asked.append(options)
        raise BackendError("planted")

    monkeypatch.setattr(gpu_figures, "find_device", lambda: None)
    monkeypatch.setattr(gpu_figures, "run_sweep", sweep)
    words = ([], ["--batch", "1,16", "--backend", "tensorrt", "--peers", "optimum"])
    assert [call(gpu_figures.main, tmp_path, "--out", tmp_path, *more) for more in words] == [1, 1]
    every, some = asked
    assert (every.backends, every.peers, every.baseline) == (
        gpu_figures.BACKENDS,
        gpu_figures.PEERS,
        "hf-eager",
    )
    assert (some.backends, some.batches, some.baseline) == (("tensorrt",), (1, 16), None)
    assert {every.device, some.device} == {"cuda"}
