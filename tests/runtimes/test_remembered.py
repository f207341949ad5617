"""What glpn-bench remembered: who uses it, who does not, and how it ends."""

from __future__ import annotations

import dataclasses
import json

import pytest

from glpn_deploy import DepthEstimator
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.errors import WriteError
from glpn_deploy.reading import file_digest
from glpn_deploy.runtimes.options import LoadOptions, RuntimeOptions
from glpn_deploy.runtimes.remembered import (
    Fastest,
    Remembered,
    forget,
    machine_now,
    network_digest,
    recall,
    remember,
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bundle(tiny_bundle) -> Bundle:
    return Bundle.open(tiny_bundle)


@pytest.fixture
def found(bundle) -> Remembered:
    """The backend that the rule takes second here, and bf16, which it never takes unasked."""
    with DepthEstimator.load(bundle.folder) as estimator:
        other = {"openvino": "onnxruntime", "onnxruntime": "openvino"}[estimator.runtime.backend]
    return Remembered(
        network=network_digest(bundle),
        manifest=file_digest(bundle.folder / "manifest.json"),
        bundle="tiny",
        machine=machine_now(),
        device="auto",
        threads=None,
        date="2026-11-28",
        shape="1x480x640",
        precision="fp32",
        fastest={"fp32": Fastest(backend=other, median_ms=41.9, abs_rel=1e-7)},
    )


def loaded(bundle, **options):
    with DepthEstimator.load(bundle.folder, **options) as estimator:
        return estimator.runtime.backend, estimator.runtime.why


def test_auto_takes_what_was_remembered_and_says_so(bundle, found):
    before, _ = loaded(bundle)
    path = remember(found)
    backend, why = loaded(bundle)
    assert backend == found.fastest["fp32"].backend != before
    assert why.startswith(f"auto took {backend}: remembered from glpn-bench of 2026-11-28: fp32 in 41.9 ms")
    assert loaded(bundle, backend=before)[0] == before  # a name is a name
    path.unlink()
    assert loaded(bundle)[0] == before


@pytest.mark.parametrize(
    "change",
    [
        {"machine": "another processor, onnxruntime 1.0"},
        {"network": "0" * 64},
        {"device": "cuda"},
        {"threads": 7},
    ],
)
def test_what_was_measured_otherwise_is_not_used(change, bundle, found):
    remember(dataclasses.replace(found, **change))
    assert recall(bundle, LoadOptions()) is None
    assert "remembered" not in loaded(bundle)[1]


def test_another_version_of_a_backend_makes_it_stale(bundle, found, monkeypatch):
    remember(found)
    assert recall(bundle, LoadOptions()) == found
    versions = {"openvino": "2099.1"}
    monkeypatch.setattr("importlib.metadata.version", lambda name: versions.get(name, "0"))
    assert recall(bundle, LoadOptions()) is None


def test_threads_are_those_asked_for(bundle, found):
    remember(dataclasses.replace(found, threads=1))
    assert recall(bundle, LoadOptions(runtime=RuntimeOptions(threads=1))) is not None


def test_a_lower_precision_is_for_the_bundle_whose_error_is_known(bundle, found):
    both = {**found.fastest, "bf16": Fastest(backend="openvino", median_ms=20.0, abs_rel=0.004)}
    remember(dataclasses.replace(found, precision="bf16", fastest=both))
    assert recall(bundle, LoadOptions()).precision == "bf16"
    _, why = loaded(bundle)
    assert "bf16 in 20 ms at 1x480x640, AbsRel 0.004" in why
    _, why = loaded(bundle, precision="fp32")
    assert "fp32 in 41.9 ms" in why
    remember(dataclasses.replace(found, precision="bf16", fastest=both, manifest="0" * 64))
    assert recall(bundle, LoadOptions()).precision == "fp32"


def test_a_newer_finding_takes_the_place_of_the_older_and_all_can_be_forgotten(bundle, found):
    first = remember(found)
    assert remember(dataclasses.replace(found, date="2026-11-29")) == first
    stale = remember(dataclasses.replace(found, machine="another"))
    foreign = remember(dataclasses.replace(found, network="0" * 64))
    assert recall(bundle, LoadOptions()).date == "2026-11-29"
    assert forget(bundle) == 2
    assert not first.exists()
    assert not stale.exists()
    assert foreign.exists()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": "glpn-deploy-fastest", "format_version": 1}'])
def test_a_damaged_file_is_as_none(text, bundle, found):
    path = remember(found)
    path.write_text(text)
    assert recall(bundle, LoadOptions()) is None


def test_a_backend_that_is_none_is_passed_over(bundle, found):
    path = remember(found)
    values = json.loads(path.read_text())
    values["fastest"]["fp32"]["backend"] = "warp"
    path.write_text(json.dumps(values))
    assert "remembered" not in loaded(bundle)[1]


def test_a_user_without_a_home_remembers_nothing(bundle, found, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("pathlib.Path.home", no_home)
    assert recall(bundle, LoadOptions()) is None
    assert forget(bundle) == 0
    with pytest.raises(WriteError) as caught:
        remember(found)
    assert "XDG_CACHE_HOME" in caught.value.fix


def test_a_cache_that_cannot_be_written_says_so(cache, found):
    cache.write_text("a file")
    with pytest.raises(WriteError) as caught:
        remember(found)
    assert str(cache) in caught.value.got
