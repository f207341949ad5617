"""Checking a bundle's TensorRT engines: whole, of this bundle, and giving the reference's depth here."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from glpn_deploy import progress
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.bundle.engine_sidecar import (
    ENGINES,
    Sidecar,
    bundle_engines,
    check_bundle,
    check_machine,
    read_plan,
    read_sidecar,
)
from glpn_deploy.bundle.engine_trust import require_trusted
from glpn_deploy.errors import BackendError, EngineError
from glpn_deploy.gpu.cuda_device import find_device
from glpn_deploy.proof.artefact_check import known_precision
from glpn_deploy.proof.engine_proof import prove_engine
from glpn_deploy.proof.findings import BrokenEngine, NotRun, Verification
from glpn_deploy.proof.parity_report import conclude
from glpn_deploy.runtimes.base import Runtime, RuntimeOptions
from glpn_deploy.runtimes.registry import load_runtime
from glpn_deploy.runtimes.rt_tensorrt import find_tensorrt


def check_engines(
    bundle: Bundle, precisions: tuple[str, ...] | None, options: RuntimeOptions
) -> Verification:
    """Checks every engine of a bundle as far as this machine can.

    Each plan is held against its sidecar's digest, and the sidecar against the manifest; no GPU is needed
    for that. Where the GPU and the TensorRT are those it was built for, it is run as ``glpn-build`` ran it.
    Damage and reports that failed are returned, not raised.

    Args:
        precisions: Those to check; None takes all. An engine whose sidecar cannot be read is looked at in
            any case.
        options: Where to run; engines are not run where that is the CPU.
    """
    sound: list[tuple[Path, Sidecar]] = []
    found = Verification()
    engines = bundle_engines(bundle.folder)
    if not engines:
        return found
    with progress.step("engine files", len(engines)) as step:
        for engine in engines:
            try:
                sidecar = read_sidecar(engine)
                if precisions is None or sidecar.precision in precisions:
                    check_bundle(engine, sidecar, bundle.manifest)
                    read_plan(engine, sidecar)
                    sound.append((engine, sidecar))
            except EngineError as error:
                found += Verification(broken=(_broken(engine, error),))
            step.advance(engine.name)
        step.finish(f"{len(sound)} whole, {len(found.broken)} broken")
    return sum((_run(bundle, engine, sidecar, options) for engine, sidecar in sound), found)


def _run(bundle: Bundle, engine: Path, sidecar: Sidecar, options: RuntimeOptions) -> Verification:
    """Runs a sound engine, or says why it cannot be run here."""
    file = f"{ENGINES}/{engine.name}"
    artefact = check_bundle(engine, sidecar, bundle.manifest)
    try:
        runtime = _open(
            engine, sidecar, RuntimeOptions(device=options.device, precision=known_precision(artefact))
        )
    except EngineError as error:  # whole, and TensorRT does not take it
        return Verification(broken=(_broken(engine, error),))
    except BackendError as error:
        return Verification(not_run=(NotRun(file, sidecar.precision, str(error).rstrip(".")),))
    with runtime, progress.step(file) as step:
        proof = prove_engine(bundle, artefact, runtime, sidecar.profiles, tf32=sidecar.tf32)
        conclude(step, proof.reports)
    about = {"precision": sidecar.precision, "file": file, "run": "native"}
    reports = (dataclasses.replace(r, candidate={**r.candidate, **about}) for r in proof.reports)
    left_out = (
        NotRun(file, sidecar.precision, f"at {shape}: {reason}")
        for shape, reason in proof.not_checked.items()
    )
    return Verification(tuple(reports), tuple(left_out), fits=True)


def _open(engine: Path, sidecar: Sidecar, options: RuntimeOptions) -> Runtime:
    """Opens an engine where it belongs to this machine.

    Raises:
        BackendError: It does not, or there is no GPU, no TensorRT or no room for it.
        EngineError: TensorRT does not take it.
    """
    if options.device == "cpu":
        raise BackendError("TensorRT runs on NVIDIA GPUs only", fix="leave out --device cpu to run it")
    device = find_device()
    try:
        check_machine(engine, sidecar, device, find_tensorrt(sidecar.backend).text)
        require_trusted(engine, sidecar, options.trust_engines)
    except EngineError as error:  # in order, and for another place
        raise BackendError(error.got, expected=error.expected, fix=error.fix) from None
    return load_runtime(sidecar.backend, engine, options)


def _broken(engine: Path, error: EngineError) -> BrokenEngine:
    return BrokenEngine(f"{ENGINES}/{engine.name}", str(error).rstrip("."))
