"""What glpn-bench found fastest here, in the user's cache folder, for ``backend="auto"``."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from glpn_deploy.atomic import atomic_path, make_folder, user_folder
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.bundle.manifest import MANIFEST
from glpn_deploy.decoding import Document
from glpn_deploy.errors import BundleError, GlpnError, WriteError
from glpn_deploy.gpu.cuda_device import find_device_or_none
from glpn_deploy.options import Device
from glpn_deploy.precisions import Precision
from glpn_deploy.reading import file_digest, read_bytes
from glpn_deploy.runtimes.choose import Choice
from glpn_deploy.runtimes.options import LoadOptions
from glpn_deploy.runtimes.processor import describe_processor
from glpn_deploy.runtimes.registry import BACKENDS

FORMAT, FORMAT_VERSION = "glpn-deploy-fastest", 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fastest:
    """The fastest backend in one precision.

    Attributes:
        backend: Its name.
        median_ms: Of a run [ms].
        abs_rel: Against PyTorch's FP32 depth.
    """

    backend: str
    median_ms: float
    abs_rel: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Remembered:
    """What one benchmark found of a network on a machine.

    Attributes:
        network: Digest of the architecture: speed is the same whatever the weights.
        manifest: Digest of the bundle's manifest: errors are not.
        bundle: Its name.
        machine: As `machine_now`; measured elsewhere, or with other versions, it is not used.
        device: As it was asked for.
        threads: As they were asked for.
        date: Of the benchmark.
        shape: Batch, height and width of the images.
        precision: What that bundle runs in where none is asked for.
        fastest: By precision.
    """

    network: str
    manifest: str
    bundle: str
    machine: str
    device: Device
    threads: int | None
    date: str
    shape: str
    precision: Precision
    fastest: dict[Precision, Fastest]

    def first(self, found: Sequence[Choice], precision: Precision) -> list[Choice]:
        """The choices in a precision, the remembered one before the others."""
        known = self.fastest.get(precision)
        ours = [choice for choice in found if known is not None and choice.backend == known.backend]
        why = f"remembered from glpn-bench of {self.date}: {self.told(precision)}" if ours else ""
        rest = [choice for choice in found if choice not in ours]
        return [*(dataclasses.replace(choice, why=why) for choice in ours), *rest]

    def told(self, precision: Precision) -> str:
        """``bf16 in 51.9 ms at 1x480x640, AbsRel 0.0047``."""
        found = self.fastest[precision]
        return f"{precision} in {found.median_ms:.3g} ms at {self.shape}, AbsRel {found.abs_rel:.2g}"


_DOCUMENT = Document(
    into=Remembered, what="what glpn-bench remembered", name=FORMAT, version=FORMAT_VERSION, error=BundleError
)


def remember(found: Remembered) -> Path:
    """Keeps it, in place of what was kept of that network on this machine.

    Raises:
        WriteError: It cannot be written.
    """
    key = found.network, found.machine, found.device, found.threads
    path = _folder() / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}.json"
    values = {"format": FORMAT, "format_version": FORMAT_VERSION, **dataclasses.asdict(found)}
    make_folder(path.parent, 0o700)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return path


def recall(bundle: Bundle, asked: LoadOptions) -> Remembered | None:
    """What is remembered of a bundle's network on this machine, for the device and threads asked for."""
    if asked.backend != "auto":
        return None
    network, machine = "", ""
    for _, found in remembered():
        network = network or network_digest(bundle)
        machine = machine or machine_now()
        about = (found.network, found.machine, found.device, found.threads)
        if about == (network, machine, asked.runtime.device, asked.runtime.threads):
            same = found.manifest == file_digest(bundle.folder / MANIFEST)
            return found if same else dataclasses.replace(found, precision="fp32")
    return None


def remembered() -> Iterator[tuple[Path, Remembered]]:
    """All that is remembered, of other machines and versions too; what cannot be read is passed over."""
    with contextlib.suppress(OSError, WriteError):  # no such folder; no home
        for path in sorted(_folder().glob("*.json")):
            with contextlib.suppress(OSError, GlpnError):
                yield path, _DOCUMENT.read(read_bytes(path), str(path), "")


def forget(bundle: Bundle) -> int:
    """Removes what is remembered of a bundle's network, and says how much that was."""
    paths = [path for path, found in remembered() if found.network == network_digest(bundle)]
    for path in paths:
        path.unlink(missing_ok=True)
    return len(paths)


def network_digest(bundle: Bundle) -> str:
    """Which architecture a bundle has."""
    text = json.dumps(bundle.manifest.config.network(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def machine_now() -> str:
    """Processor, GPU, and versions of the backends among which ``auto`` chooses."""
    gpu = find_device_or_none()
    chosen = (backend for backend in BACKENDS.values() if backend.runs in ("onnx", "engine"))
    packages = (name for backend in chosen for name in backend.distributions())
    return ", ".join([describe_processor(), *([gpu.name] if gpu else []), *packages])


def _folder() -> Path:
    return user_folder("cache") / "fastest"
