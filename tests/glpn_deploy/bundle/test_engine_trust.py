"""Engines of others are opened only where that was asked for."""

from __future__ import annotations

import os

import pytest

from glpn_deploy import DepthEstimator
from glpn_deploy.bundle.engine_sidecar import read_sidecar
from glpn_deploy.bundle.engine_trust import remember_engine, require_trusted
from glpn_deploy.errors import EngineError, WriteError
from tests.refusals import refused


@pytest.fixture
def stranger(make_gpu, tmp_path):
    return make_gpu().engine(tmp_path / "engines", stranger=True)


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def test_a_strangers_engine_is_refused_unless_trusted(stranger, state):
    with pytest.raises(EngineError) as refused:
        DepthEstimator.load(stranger)
    assert "not built on this machine by this user" in refused.value.got
    assert "--trust-engines" in refused.value.fix
    with DepthEstimator.load(stranger, trust_engines=True) as estimator:
        assert estimator.runtime.backend == "tensorrt"
    remember_engine(read_sidecar(stranger))
    DepthEstimator.load(stranger).close()


def test_a_record_that_others_may_write_counts_for_nothing(stranger, state):
    sidecar = read_sidecar(stranger)
    remember_engine(sidecar)
    require_trusted(stranger, sidecar, trust=False)
    (folder,) = (state / "glpn-deploy" / "engines").iterdir()
    assert [path.name for path in folder.iterdir()] == [sidecar.sha256]
    if os.name == "posix":
        folder.chmod(0o777)
        with pytest.raises(EngineError):
            require_trusted(stranger, sidecar, trust=False)


def test_records_are_a_machines_own(stranger, state, monkeypatch):
    sidecar = read_sidecar(stranger)
    remember_engine(sidecar)
    monkeypatch.setattr("platform.node", lambda: "another")
    with pytest.raises(EngineError):
        require_trusted(stranger, sidecar, trust=False)


def test_a_record_that_cannot_be_written(stranger, state):
    state.write_text("a file")
    with refused(WriteError, fix="XDG_STATE_HOME"):
        remember_engine(read_sidecar(stranger))
