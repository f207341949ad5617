"""What a report says of the machine it was made on."""

from __future__ import annotations

from glpn_deploy.benchmarks.machine.environment import describe_environment


def test_the_environment_names_machine_and_versions() -> None:
    environment = describe_environment()
    assert environment["versions"]["torch"]
    assert "cores" in environment["processor"]
    assert environment["python"].startswith("3.")
