"""The work of glpn-serve: the repository, and how it is served."""

from __future__ import annotations

import json
from pathlib import Path

from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.cli.console import output, print_json, runnable, say_next
from glpn_deploy.scale.triton.options import ServeOptions
from glpn_deploy.scale.triton.writing import write_repository


def run(bundle: Path, target: Path, options: ServeOptions, *, as_json: bool) -> None:
    """Writes the repository, and says how to start a server on it.

    Raises:
        GlpnError: The bundle or the options cannot be used, or a file could not be written.
    """
    console = output(as_json=as_json)
    repository = write_repository(Bundle.open(bundle), target, options)
    if as_json:
        print_json(json.loads(repository.to_json()))
    about = repository.network
    made = f", built with TensorRT {about['tensorrt']} on {about['gpu']}" if "tensorrt" in about else ""
    console.print(f"  network: {about['file']} ({about['precision']}{made})", markup=False)
    if "tensorrt" in about:
        console.print(
            "  The server needs exactly this TensorRT: see the release notes of Triton's containers.",
            markup=False,
        )
    say_next(
        console,
        f"tritonserver --model-repository={target.resolve()} --http-address=127.0.0.1 "
        "--grpc-address=127.0.0.1",
        f"{runnable('glpn-verify')} {target}",
        f"{runnable('glpn-bench')} --server http://127.0.0.1:8000",
        where=", where Triton is (docs/serving.md)",
    )
