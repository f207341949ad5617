"""bundle -> TensorRT engine: built where it stands, proved, and put into the bundle with its sidecar."""

from __future__ import annotations

import dataclasses
import math
import warnings
from pathlib import Path
from typing import Any

from glpn_deploy.atomic import staging_folder
from glpn_deploy.bundle.bundle import CONFIGS, Bundle
from glpn_deploy.bundle.engine_profile import Profile
from glpn_deploy.bundle.engine_sidecar import (
    ENGINES,
    Sidecar,
    artefact_digest,
    engine_name,
    sidecar_path,
    write_sidecar,
)
from glpn_deploy.bundle.engine_trust import remember_engine
from glpn_deploy.bundle.manifest import MANIFEST, Artefact
from glpn_deploy.errors import BundleError, InputError, WriteError
from glpn_deploy.exporters.engine.carry import link_or_copy
from glpn_deploy.exporters.engine.engine_config import check_targets
from glpn_deploy.exporters.engine.engine_options import EngineOptions
from glpn_deploy.exporters.engine.timing_cache import read_timings
from glpn_deploy.exporters.to_engine import to_engine
from glpn_deploy.gpu.cuda_device import CudaDevice, find_device, find_device_or_none
from glpn_deploy.gpu.tensorrt_rtx import import_tensorrt_rtx, rtx_of
from glpn_deploy.gpu.tensorrt_versions import TensorRT, import_tensorrt, known_problem, tensorrt_of
from glpn_deploy.proof.engine_proof import prove_engine, require_comparisons
from glpn_deploy.reading import file_digest
from glpn_deploy.runtimes.base import Precision, RuntimeOptions
from glpn_deploy.runtimes.onnx_file.artefact_file import artefact_path
from glpn_deploy.runtimes.onnx_file.header import read_header
from glpn_deploy.runtimes.registry import load_runtime

_KINDS = {"ampere_plus": "ampere-plus", "same_compute_capability": "same-sm"}


@dataclasses.dataclass(frozen=True)
class EnginePlan:
    """An engine that could be built; no GPU is needed to say which.

    Attributes:
        bundle: Its bundle.
        artefact: What it is built from.
        onnx: Its file, the digest checked.
        options: How.
    """

    bundle: Bundle
    artefact: Artefact
    onnx: Path
    options: EngineOptions

    def file_name(self, tensorrt: str = "*", sm: str = "*") -> str:
        """The engine's file name, with ``*`` for what only the machine that builds it knows."""
        given = self.options
        marks = {
            _KINDS.get(given.hardware_compatibility, ""): given.hardware_compatibility != "none",
            "version-compatible": given.version_compatible,
            "stripped": given.strip,
            "refittable": given.refit,
            "tf32": given.tf32,
        }
        kinds = [mark for mark, wanted in marks.items() if wanted]
        name = self.bundle.manifest.name
        if given.targets:
            sm = "-".join(given.targets)
        product = "rtx" if given.targets else "trt"
        return engine_name(name, self.artefact.precision, given.profiles, tensorrt, sm, kinds, product)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        options = {f.name: getattr(self.options, f.name) for f in dataclasses.fields(self.options)}
        return {
            "bundle": str(self.bundle.folder),
            "onnx": self.artefact.file,
            "engine": f"{ENGINES}/{self.file_name()}",
            **options,
            "timing_cache": str(self.options.timing_cache),
            "profiles": [profile.to_dict() for profile in self.options.profiles],
        }


def require_tensorrt(opset: int = 0) -> tuple[CudaDevice, TensorRT]:
    """The GPU and the TensorRT of this machine.

    Args:
        opset: The ONNX opset that it shall read.

    Raises:
        BackendError: No driver, no GPU, or a driver or TensorRT that is too old.
        MissingDependencyError: TensorRT is not installed.
        InputError: It does not read the opset.
    """
    device = find_device()  # before TensorRT is imported or asked: some versions crash without a GPU
    trt = tensorrt_of(import_tensorrt())
    if opset > trt.newest_tried:
        raise InputError(
            f"opset {opset}, which TensorRT {trt.text} does not read",
            expected=f"at most {trt.max_opset}",
            fix="export with --opset 17, or use a later TensorRT",
        )
    return device, trt


def default_precision(bundle: Bundle) -> Precision:
    """What is built where nothing is asked for: FP16 where the bundle has it, else FP32."""
    have = {artefact.precision for artefact in bundle.manifest.artefacts}
    return "fp16" if "fp16" in have else "fp32"


def plan_engine(
    folder: str | Path,
    precision: Precision | None = None,
    options: EngineOptions = EngineOptions(),
) -> EnginePlan:
    """Says what `build_engine` would build, having checked what can be checked without a GPU.

    Args:
        folder: The bundle.
        precision: Which of its artefacts; None takes `default_precision`.
        options: How; their ``precision`` is replaced.

    Raises:
        BundleError: There is no bundle, it is damaged, or it has no such artefact, or one for CPUs only.
        ExportError: A target of TensorRT for RTX does not compute in the precision.
        InputError: The network does not take the sides of a profile, the timing cache cannot be read, or an
            option means nothing to TensorRT for RTX.
    """
    bundle = Bundle.open(folder)
    precision = default_precision(bundle) if precision is None else precision
    artefact = bundle.artefact(precision)
    multiple = math.lcm(bundle.manifest.config.size_multiple, bundle.processor.size_divisor)
    for profile in options.profiles:
        _check_sides(profile, multiple)
    onnx = artefact_path(bundle, artefact)
    if read_header(onnx).target == "cpu":
        raise BundleError(
            f"{artefact.file} was made for CPUs, whose quantisation TensorRT does not run well",
            fix="export it again with --target tensorrt",
        )
    read_timings(options.timing_cache)
    options = dataclasses.replace(options, precision=precision)
    if options.targets:
        check_targets(options)
    return EnginePlan(bundle, artefact, onnx, options)


def build_engine(
    folder: str | Path,
    precision: Precision | None = None,
    options: EngineOptions = EngineOptions(),
    verify: bool = True,
) -> Path:
    """Builds one engine of a bundle for this machine's GPU, proves it, and puts it into the bundle.

    With ``options.targets`` TensorRT for RTX builds it for the cards of others, and no GPU is needed. It is
    proved where this machine has one of those cards; else its sidecar says that it was not, and
    `glpn_deploy.proof.verification` proves it where it runs.

    An engine of the same name is replaced. The plan comes first and its sidecar second, each in one step:
    whatever interrupts it leaves an engine whose sidecar is its own, or one that is refused.

    Args:
        folder: The bundle.
        precision: Which of its artefacts; None takes `default_precision`.
        options: How; their ``precision`` is replaced.
        verify: Hold the engine against the goldens and the FP32 artefact before it is kept, where it runs.

    Returns:
        The engine's path; `glpn_deploy.bundle.engine_sidecar.read_sidecar` tells what is known of it.

    Raises:
        BackendError: There is no usable GPU or TensorRT here.
        BundleError: The bundle is damaged or lacks the artefact.
        ExportError: TensorRT could not build it.
        ParityError: Its depth is not the reference's, and it is not kept; or nothing could be compared with
            it where TensorRT is known to give wrong results, and it is not built.
        WriteError: The bundle cannot be written to.
    """
    plan = plan_engine(folder, precision, options)
    bundle, artefact, options = plan.bundle, plan.artefact, plan.options
    device: CudaDevice | None = None
    if options.targets:
        trt = rtx_of(import_tensorrt_rtx())
    else:
        device, trt = require_tensorrt(artefact.opset)
        _heed_known_problem(plan, trt, device, verify=verify)
    sm = "" if device is None else device.capability
    target = _place(bundle.folder) / plan.file_name(trt.text, sm)
    with staging_folder(target) as work:
        built = _as_in_a_bundle(work, bundle, artefact) / target.name
        report = to_engine(plan.onnx, built, options)
        sidecar = Sidecar(
            engine=target.name,
            sha256=file_digest(built),
            bytes=built.stat().st_size,
            bundle=bundle.manifest.name,
            onnx=artefact.file,
            onnx_sha256=artefact_digest(bundle.manifest, artefact),
            precision=options.precision,
            max_depth=bundle.manifest.config.max_depth,
            size_multiple=bundle.manifest.config.size_multiple,
            tensorrt=report.tensorrt,
            cuda=report.cuda,
            gpu="" if device is None else device.name,
            sm=None if device is None else device.capability,
            sm_count=0 if device is None else device.sm_count,
            board="" if device is None else device.board,
            compatibility=options.hardware_compatibility,
            version_compatible=options.version_compatible,
            stripped=options.strip,
            profiles=options.profiles,
            flags=report.flags,
            layers=report.layers,
            build_s=report.build_s,
            tf32=report.tf32,
            io=artefact.io,
            level=options.level,
            workspace_mb=options.workspace_mb,
            tactic_dram_mb=options.tactic_dram_mb,
            tactic_sources=options.tactic_sources and tuple(map(str.lower, options.tactic_sources)),
            device_memory_bytes=report.device_memory_bytes,
            warnings=report.warnings,
            backend="tensorrt_rtx" if options.targets else "tensorrt",
            targets=options.targets,
        )
        write_sidecar(sidecar, built)
        remember_engine(sidecar)
        if verify and (device is not None or _runs_here(options)):
            runtime = load_runtime(
                sidecar.backend, built, RuntimeOptions(device="cuda", precision=options.precision)
            )
            with runtime:
                proof = prove_engine(bundle, artefact, runtime, options.profiles, tf32=report.tf32)
            proof.require()
            sidecar = dataclasses.replace(sidecar, parity=proof.to_dict())
            write_sidecar(sidecar, built)
        built.replace(target)
        sidecar_path(built).replace(sidecar_path(target))
    return target


def _runs_here(options: EngineOptions) -> bool:
    """Whether this machine has a GPU that TensorRT for RTX compiles for."""
    device = find_device_or_none()
    return device is not None and device.capability in options.targets


def _as_in_a_bundle(work: Path, bundle: Bundle, artefact: Artefact) -> Path:
    """Makes ``work`` a bundle of this artefact alone, so that the engine is proved as it will be opened.

    Returns:
        The folder for its engine.
    """
    for name in (MANIFEST, *CONFIGS, artefact.file, *artefact.data):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(bundle.folder / name, work / name)
    (work / ENGINES).mkdir()
    return work / ENGINES


def _check_sides(profile: Profile, multiple: int) -> None:
    for shape in (profile.min, profile.opt, profile.max):
        for side in shape[1:]:
            if side % multiple:
                raise InputError(
                    f"a profile with a side of {side} px ({profile.name})",
                    expected=f"multiples of {multiple} px, which this network takes",
                )


def _heed_known_problem(plan: EnginePlan, trt: TensorRT, device: CudaDevice, *, verify: bool) -> None:
    """Warns of what this TensorRT gets wrong, and insists on a proof that is not empty there."""
    precision = plan.options.precision
    problem = known_problem(trt.version, precision, device.sm)
    if problem is None:
        return
    if not verify:
        raise InputError(
            f"--no-verify with TensorRT {trt.text} and {precision}: {problem}",
            fix="leave out --no-verify: only the comparison shows whether this engine is right",
        )
    require_comparisons(plan.bundle, plan.options.profiles, problem)
    warnings.warn(problem, stacklevel=3)


def _place(folder: Path) -> Path:
    place = folder / ENGINES
    try:
        place.mkdir(exist_ok=True)
    except OSError as error:
        raise WriteError(
            f"{place} cannot be made ({error.strerror})", fix=f"check your permissions in {folder}"
        ) from None
    return place
