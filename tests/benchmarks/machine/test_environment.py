"""What a report says of the machine it was made on."""

from __future__ import annotations

from glpn_deploy.benchmarks.machine.environment import describe_environment


def test_the_environment_names_machine_and_versions() -> None:
    environment = describe_environment()
    assert {"python", "psutil", "onnxruntime", "torch"} <= environment["versions"].keys()
    assert "cores" in environment["processor"]
