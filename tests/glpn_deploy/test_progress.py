"""Silence is the default, and long work reports its steps to whoever listens."""

from __future__ import annotations

from glpn_deploy import progress
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.exporters.build import build_bundle
from glpn_deploy.exporters.options import BuildOptions
from tests.listening import Listener


def test_silence(capfd):
    with progress.step("work", 3) as step:
        step.advance("one")
        step.finish("done")
    assert capfd.readouterr() == ("", "")


def test_an_export_tells_each_of_its_steps(tiny_checkpoint, tmp_path):
    listener = Listener()
    with progress.shown(listener):
        build_bundle(tiny_checkpoint, tmp_path / "out", BuildOptions(verify=False))
    assert [step.title for step in listener.steps] == [
        "load checkpoint",
        "write model.onnx",
        "goldens",
        "write bundle",
    ]
    for step in listener.steps:
        assert step.summary
        assert not step.open
        assert step.total in (None, len(step.advances))
    assert "nodes, opset 17" in listener.steps[1].summary


def test_checking_files_advances_once_a_file(tiny_bundle):
    listener = Listener()
    with progress.shown(listener):
        count = Bundle.open(tiny_bundle).check_files()
    assert listener.steps[0].total == count == len(listener.steps[0].advances)
