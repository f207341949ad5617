"""The file beside every TensorRT engine: what it was built from, for and with, and whether it fits here."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform as host
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from glpn_deploy.atomic import atomic_path
from glpn_deploy.bundle.engine_fields import (
    DEFAULT_LEVEL,
    FORMAT,
    MAX_WARNINGS,
    Capability,
    Compatibility,
    Digest,
    EngineBackend,
    FileName,
    FileSize,
    Level,
    Megabytes,
    MemorySize,
    Meters,
    PathInBundle,
    Seconds,
    TacticSource,
    TensorRTVersion,
    TensorType,
    Text,
)
from glpn_deploy.bundle.engine_profile import MAX_PROFILES, Profile, profile_options, profiles_name
from glpn_deploy.bundle.manifest import RE_EXPORT, Artefact, Manifest
from glpn_deploy.decoding import REQUIRED, Document, count, within
from glpn_deploy.errors import BundleError, EngineError
from glpn_deploy.gpu.cuda_device import CudaDevice, gpu_title
from glpn_deploy.gpu.tensorrt_rtx import NAME as RTX
from glpn_deploy.gpu.tensorrt_rtx import PLATFORMS as RTX_PLATFORMS
from glpn_deploy.precisions import Precision
from glpn_deploy.reading import read_bytes

KIND = "glpn-deploy-engine"
ENGINES = "engines"
"""The folder of a bundle that its engines stand in."""

_HARDWARE_OPTIONS = {"ampere_plus": "ampere", "same_compute_capability": "same-sm"}  # of glpn-build


def current_platform() -> str:
    """Operating system and processor, across which engines are not portable: ``linux-aarch64``."""
    return f"{sys.platform}-{host.machine().lower()}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sidecar:
    """What is known of one engine.

    Attributes:
        onnx: File within the bundle that it was built from.
        onnx_sha256: Its digest, as `artefact_digest` gives it.
        max_depth: The network's scale [m].
        size_multiple: Sides of images are multiples of this [px].
        tensorrt: Version it was built with (``10.3.0``), of the product that ``backend`` names.
        cuda: CUDA version of the driver or runtime it was built with; empty where there was none.
        gpu: Name of the GPU it was built on; empty where there was none.
        sm: Compute capability of that GPU (``8.7``); None likewise.
        sm_count: Its multiprocessors, which tell boards apart whose GPUs have one name; 0 where not known.
        board: What the board calls itself, or empty. It is told only: power modes and carriers change it.
        platform: Operating system and processor (``linux-aarch64``).
        compatibility: GPUs it runs on: only this kind, all of its compute capability, Ampere and later.
        version_compatible: Whether programs that load this version's lean runtime can run it with a later
            TensorRT; this package runs it with its own version only.
        stripped: Whether its weights were left out, to be refitted from the ONNX file.
        flags: Builder flags that were set, by TensorRT's names.
        layers: Layers by precision, as the engine inspector told.
        build_s: Time that building took [s].
        io: Type of its input and output tensors.
        parity: How it was verified after building, or None where it was not.
        level: How long kernels were searched for, 0 to 5.
        workspace_mb: The limit that was asked for on a kernel's own memory [MiB], or None.
        tactic_dram_mb: The limit that was asked for on memory to try kernels in [MiB], or None.
        tactic_sources: Where kernels were allowed to come from, in lower case, or None for TensorRT's choice.
        device_memory_bytes: Memory that one execution context takes beside the weights [bytes], or None where
            TensorRT did not tell.
        warnings: What TensorRT warned of while it built.
        backend: What runs it: TensorRT, or TensorRT for RTX.
        targets: Compute capabilities that TensorRT for RTX compiled it for (``8.6``); empty for TensorRT.
    """

    format: int = FORMAT
    engine: FileName
    sha256: Digest
    bytes: FileSize
    bundle: Text
    onnx: PathInBundle
    onnx_sha256: Digest
    precision: Precision
    max_depth: Meters
    size_multiple: Annotated[int, within(1, 4096)]
    tensorrt: TensorRTVersion
    cuda: Text
    gpu: Text
    sm: Capability | None
    sm_count: Annotated[int, within(0, 1 << 16)] = 0
    board: Text = ""
    platform: Text = dataclasses.field(default_factory=current_platform, metadata=REQUIRED)
    compatibility: Compatibility = "none"
    version_compatible: bool = False
    stripped: bool = False
    profiles: Annotated[tuple[Profile, ...], count(1, MAX_PROFILES)]
    flags: Annotated[tuple[Text, ...], count(0, 256)] = ()
    layers: Annotated[dict[Text, Annotated[int, within(0, 10**7)]], count(0, 64)] = dataclasses.field(
        default_factory=dict
    )
    build_s: Seconds = 0.0
    tf32: bool = False
    io: TensorType = "fp32"
    parity: dict[str, Any] | None = None
    level: Level = DEFAULT_LEVEL
    workspace_mb: Megabytes | None = None
    tactic_dram_mb: Megabytes | None = None
    tactic_sources: Annotated[tuple[TacticSource, ...], count(1, 32)] | None = None
    device_memory_bytes: MemorySize | None = None
    warnings: Annotated[tuple[Text, ...], count(0, MAX_WARNINGS)] = ()
    backend: EngineBackend = "tensorrt"
    targets: Annotated[tuple[Capability, ...], count(0, 32)] = ()

    def to_json(self) -> str:
        """The text of the sidecar."""
        values = {"kind": KIND} | {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["profiles"] = [profile.to_dict() for profile in self.profiles]
        return json.dumps(values, indent=2, allow_nan=False) + "\n"


_DOCUMENT = Document(
    into=Sidecar,
    what="an engine's sidecar",
    name=KIND,
    name_key="kind",
    version=FORMAT,
    version_key="format",
    error=EngineError,
)


def artefact_digest(manifest: Manifest, artefact: Artefact) -> str:
    """What an engine's ``onnx_sha256`` is held against: the ONNX file's digest, its data files' with it."""
    try:
        digests = [manifest.files[name]["sha256"] for name in (artefact.file, *sorted(artefact.data))]
    except KeyError as error:
        raise BundleError(f"the manifest has no digest for {error}", fix=RE_EXPORT) from None
    return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()


def sidecar_path(engine: Path) -> Path:
    """``x.engine`` gives ``x.json``."""
    return engine.with_suffix(".json")


def bundle_engines(folder: Path) -> list[Path]:
    """The engines of a bundle, sorted by name; whether they can be opened is not looked at."""
    place = folder / ENGINES
    return sorted(path for path in place.glob("*.engine") if path.is_file() and path.name[0] != ".")


def engine_name(
    bundle: str,
    precision: str,
    profiles: Sequence[Profile],
    tensorrt: str,
    sm: str,
    kinds: Sequence[str] = (),
    product: str = "trt",
) -> str:
    """The file name of an engine: ``glpn-nyu.fp16.480x640.b1-4.trt10.3.sm87.engine``.

    Args:
        bundle: The bundle's name; what file systems mind is replaced.
        precision: ``fp16`` and so on.
        profiles: The shapes it takes.
        tensorrt: TensorRT's version; its first two numbers are named.
        sm: Compute capability (``8.7``), or several with ``-`` between them.
        kinds: What sets the engine apart from a plain one (``tf32``, ``stripped``).
        product: ``trt``, or ``rtx`` for TensorRT for RTX.
    """
    clean = re.sub(r"[^A-Za-z0-9_.-]+", "-", bundle).strip("-.")[:60] or "bundle"
    version = ".".join(tensorrt.split(".")[:2])
    marks = "".join(f".{kind}" for kind in kinds)
    made = f"{product}{version}.sm{sm.replace('.', '')}"
    return f"{clean}.{precision}.{profiles_name(profiles)}{marks}.{made}.engine"


def write_sidecar(sidecar: Sidecar, engine: Path) -> Path:
    """Writes the sidecar beside its engine, in one step, and returns its path."""
    path = sidecar_path(engine)
    with atomic_path(path, sync=True) as temporary:
        temporary.write_text(sidecar.to_json(), encoding="utf-8")
    return path


def read_sidecar(engine: Path) -> Sidecar:
    """Reads the sidecar of an engine, trusting nothing in it.

    Raises:
        EngineError: There is no engine or no sidecar, or the sidecar is damaged, of a later format, or
            of another engine.
    """
    path = sidecar_path(engine)
    again = f"copy both files again, or build it again: {rebuild_command(engine)}"
    if not engine.is_file():
        raise EngineError(f"there is no engine {engine}", fix=f"build it: {rebuild_command(engine)}")
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        raise EngineError(
            f"{engine} has no sidecar {path.name}, without which an engine is not opened: "
            "engines are executable code",
            fix=f"build it again: {rebuild_command(engine)}",
        ) from None
    except OSError as error:
        raise EngineError(f"{path} cannot be read ({error.strerror})", fix=again) from None
    sidecar = _DOCUMENT.read(content, str(path), again)
    if len({sidecar.sm is None, bool(sidecar.targets), sidecar.backend == "tensorrt_rtx"}) > 1:
        raise EngineError(
            f"{path} names the backend {sidecar.backend}, sm {sidecar.sm} and {len(sidecar.targets)} targets",
            expected="targets for tensorrt_rtx, else sm",
            fix=again,
        )
    if sidecar.engine != engine.name:
        raise EngineError(
            f"{path} is the sidecar of {sidecar.engine}, not of {engine.name}",
            fix=f"give both files their own names again, or build it again: {rebuild_command(engine)}",
        )
    return sidecar


def check_bundle(engine: Path, sidecar: Sidecar, manifest: Manifest) -> Artefact:
    """Refuses an engine that was not built from a bundle, or from an older state of it.

    Returns:
        The artefact it was built from; its files are not looked at.
    """
    for artefact in manifest.artefacts:
        if artefact.file == sidecar.onnx and artefact.precision == sidecar.precision:
            if artefact_digest(manifest, artefact) != sidecar.onnx_sha256:
                raise EngineError(
                    f"{engine.name} was built from another {sidecar.onnx} than this bundle's (SHA-256 "
                    "differs)",
                    fix=f"build it again here: {rebuild_command(engine, sidecar)}",
                )
            return artefact
    raise EngineError(
        f"{engine.name} was built from {sidecar.onnx} ({sidecar.precision}), which this bundle does not have",
        fix=f"build one of what it has: {rebuild_command(engine)}",
    )


def read_plan(engine: Path, sidecar: Sidecar) -> bytes:
    """The plan's bytes, the very ones whose size and digest were checked, for TensorRT to deserialize."""
    again = f"copy it again, or build it again: {rebuild_command(engine, sidecar)}"
    try:
        size = engine.stat().st_size
        if size != sidecar.bytes:
            raise EngineError(f"{engine} has {size} bytes", expected=f"{sidecar.bytes}, as built", fix=again)
        with engine.open("rb") as file:
            plan = file.read(sidecar.bytes + 1)
    except (OSError, MemoryError) as error:
        raise EngineError(f"{engine} cannot be read ({error})", fix=again) from None
    if hashlib.sha256(plan).hexdigest() != sidecar.sha256:
        raise EngineError(f"the content of {engine} changed since it was built (SHA-256 differs)", fix=again)
    return plan


def check_machine(engine: Path, sidecar: Sidecar, device: CudaDevice, tensorrt: str) -> None:
    """Refuses an engine of another GPU, platform or TensorRT; its file is not looked at."""
    again = f"build it again here: {rebuild_command(engine, sidecar)}"
    made = gpu_title(sidecar.gpu, str(sidecar.sm), sidecar.sm_count)
    if sidecar.targets:
        made = f"GPUs of compute capability {', '.join(sidecar.targets)}"
    if not _gpu_fits(sidecar, device):
        raise EngineError(f"{engine.name} was built for {made}; this GPU is {device.title}", fix=again)
    portable = sidecar.backend == "tensorrt_rtx" and current_platform() in RTX_PLATFORMS
    if sidecar.platform != current_platform() and not portable:
        raise EngineError(
            f"{engine.name} was built on {sidecar.platform}; this is {current_platform()}", fix=again
        )
    name = RTX if sidecar.backend == "tensorrt_rtx" else "TensorRT"
    if sidecar.tensorrt != tensorrt:
        lean = " (a later one needs its lean runtime, which is not loaded here)"
        raise EngineError(
            f"{engine.name} was built with {name} {sidecar.tensorrt}; this is {name} {tensorrt}",
            expected=f"{sidecar.tensorrt}{lean if sidecar.version_compatible else ''}",
            fix=again,
        )


def rebuild_command(
    engine: Path, sidecar: Sidecar | None = None, profiles: Sequence[Profile] | None = None
) -> str:
    """The command that builds an engine again, with ``profiles`` in place of its own where given."""
    inside = engine.parent.name == ENGINES
    folder = shlex.quote(str(engine.parent.parent)) if inside else "BUNDLE"
    if sidecar is None:
        return f"glpn-build {folder}"
    shapes = profile_options(sidecar.profiles if profiles is None else profiles)
    words = [f"glpn-build {folder} --precision {sidecar.precision}", *shapes]
    if sidecar.compatibility != "none":
        words.append(f"--hardware-compatible {_HARDWARE_OPTIONS[sidecar.compatibility]}")
    sizes = {"--workspace": sidecar.workspace_mb, "--tactic-memory": sidecar.tactic_dram_mb}
    words += [f"{option} {mb}" for option, mb in sizes.items() if mb is not None]
    if sidecar.level != DEFAULT_LEVEL:
        words.append(f"--level {sidecar.level}")
    if sidecar.tactic_sources is not None:
        words.append(f"--tactic-sources {','.join(sidecar.tactic_sources)}")
    if sidecar.targets:
        words.append(f"--rtx --sm {','.join(sidecar.targets).replace('.', '')}")
    chosen = {
        "--version-compatible": sidecar.version_compatible,
        "--strip": sidecar.stripped,
        "--refit": "REFIT" in sidecar.flags,
        "--tf32": sidecar.tf32,
    }
    return " ".join((*words, *(option for option, wanted in chosen.items() if wanted)))


def _gpu_fits(sidecar: Sidecar, device: CudaDevice) -> bool:
    if sidecar.targets:
        return device.capability in sidecar.targets
    same_sm = sidecar.sm == device.capability
    if sidecar.compatibility == "same_compute_capability":
        return same_sm
    if sidecar.compatibility == "ampere_plus" and not device.integrated:  # JetPack has no such engines
        return device.sm >= (8, 0)
    same_count = 0 in (sidecar.sm_count, device.sm_count) or sidecar.sm_count == device.sm_count
    return same_sm and sidecar.gpu == device.name and same_count
