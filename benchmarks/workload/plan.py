"""What of a bundle can be measured on this machine, before any of it is loaded."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from glpn_deploy.benchmarks.workload.cases import PEERS, VARIANTS, CaseId, NotRun, Runner
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.bundle.engine_sidecar import bundle_engines, check_machine, read_sidecar
from glpn_deploy.errors import GlpnError, InputError
from glpn_deploy.gpu.cuda_device import CudaDevice
from glpn_deploy.runtimes.base import PRECISIONS, Precision
from glpn_deploy.runtimes.onnx_file.artefact_file import artefact_path
from glpn_deploy.runtimes.onnx_file.foreign import find_onnx
from glpn_deploy.runtimes.onnx_file.header import read_header
from glpn_deploy.runtimes.options import RunPrecision
from glpn_deploy.runtimes.registry import BACKENDS, Backend


def plan_runners(
    bundle: Bundle,
    checkpoint: Path | None,
    backends: Sequence[str] | None = None,
    precisions: Sequence[RunPrecision] | None = None,
    peers: Sequence[str] = (),
    gpu: CudaDevice | None = None,
    elsewhere: Collection[str] = (),
) -> tuple[list[Runner], list[NotRun]]:
    """Every backend and artefact that can be tried here.

    A backend that takes ``.onnx`` files gets every artefact, and the FP32 one again for BF16 where the
    bundle has no BF16 file: OpenVINO computes in BF16 from it. One that takes checkpoints gets FP32 and BF16,
    and FP16 on a GPU or where it is asked for. TensorRT gets the bundle's engines that were built for this
    GPU. The null backend, which measures nothing, `VARIANTS` and int8+bf16 run only where they are named.

    Args:
        bundle: The opened bundle; digests are checked here, engines' when they are loaded.
        checkpoint: What it was exported from, or None where that is not known.
        backends: Names; None takes all but null and `VARIANTS`.
        precisions: Names; None takes all.
        peers: Names of transformers' `PEERS`, and files of other software as ``NAME=PLACE`` (a file, or a
            folder as Optimum writes it) or as the file alone.
        gpu: The GPU to run on, or None.
        elsewhere: Backends and peers whose packages are another Python's, where they are not looked for.

    Returns:
        What to try, and what cannot be tried, with reasons.

    Raises:
        InputError: A name is unknown.
    """
    for name in backends or ():
        if name not in BACKENDS and name not in VARIANTS:
            raise InputError(
                f"the backend {name!r} is unknown", expected=f"some of {', '.join((*BACKENDS, *VARIANTS))}"
            )
    for precision in precisions or ():
        if precision not in (*PRECISIONS, "int8+bf16"):
            raise InputError(
                f"the precision {precision!r} is unknown",
                expected=f"some of {', '.join((*PRECISIONS, 'int8+bf16'))}",
            )
    found: list[Runner | NotRun] = []
    for name, backend in _rows(backends):
        install = None if backend.name in elsewhere else backend.missing()
        if install is not None:
            found.append(NotRun(CaseId(name), f"{backend.package} is not installed; {install}"))
        elif backend.runs == "nothing":
            found.append(Runner(backend=name, precision="fp32"))
        elif backend.runs == "checkpoint":
            half: tuple[Precision, ...] = ("fp32", "bf16") if gpu is None else ("fp32", "fp16", "bf16")
            found += _from_checkpoint(name, checkpoint, half if precisions is None else precisions)
        elif backend.runs == "engine":
            found += _from_engines(name, backend, bundle, precisions, gpu)
        else:
            found += _from_bundle(name, bundle, precisions)
    for name in peers:
        if "=" in name or name.endswith((".onnx", ".xml")):
            found += _foreign(name, precisions)
        else:
            wanted = [p for p in precisions or ("fp32", "fp16") if p == "fp32" or gpu is not None]
            found += _peer(name, checkpoint, wanted, name in elsewhere)
    runners = [one for one in found if isinstance(one, Runner)]
    return runners, [one for one in found if isinstance(one, NotRun)]


def _rows(backends: Sequence[str] | None) -> list[tuple[str, Backend]]:
    """What is to be tried, by the name of its rows."""
    known = {**BACKENDS, **{name: BACKENDS[variant.of] for name, variant in VARIANTS.items()}}
    if backends is None:
        return [(name, backend) for name, backend in BACKENDS.items() if backend.runs != "nothing"]
    return [(name, backend) for name, backend in known.items() if name in backends]


def _from_checkpoint(
    name: str, checkpoint: Path | None, precisions: Sequence[RunPrecision]
) -> Iterator[Runner | NotRun]:
    if checkpoint is None:
        reason = "it runs checkpoints, and the bundle's is not on this machine; pass --reference CHECKPOINT"
        yield NotRun(CaseId(name), reason)
        return
    size = disk_bytes(checkpoint)
    for precision in precisions:
        if precision in ("fp32", "fp16", "bf16"):
            yield Runner(backend=name, precision=precision, path=checkpoint, bytes=size)


def _from_engines(
    name: str,
    backend: Backend,
    bundle: Bundle,
    precisions: Sequence[RunPrecision] | None,
    gpu: CudaDevice | None,
) -> Iterator[Runner | NotRun]:
    """The engines that were built for this GPU; whether they fit TensorRT shows when they are loaded."""
    found = [path for path in bundle_engines(bundle.folder) if _backend_of(path) in (backend.name, None)]
    if not found:
        option = " --rtx" if backend.name == "tensorrt_rtx" else ""
        reason = f"the bundle has no engine; build one: glpn-build {shlex.quote(str(bundle.folder))}{option}"
        yield NotRun(CaseId(name), reason)
        return
    if gpu is None:
        yield NotRun(CaseId(name), "engines run on NVIDIA GPUs only, and none is used")
        return
    fitting = []
    for path in found:
        try:
            sidecar = read_sidecar(path)
            check_machine(path, sidecar, gpu, sidecar.tensorrt)
        except GlpnError as error:
            yield NotRun(CaseId(f"{name}@{path.stem}"), str(error))
            continue
        if precisions is None or sidecar.precision in precisions:
            fitting.append((path, sidecar))
    for path, sidecar in fitting:
        rivals = [about for _, about in fitting if about.precision == sidecar.precision]
        yield Runner(
            backend=name,
            precision=next(p for p in PRECISIONS if p == sidecar.precision),
            path=path,
            bytes=path.stat().st_size,
            label=f"{name}@{path.stem}" if len(rivals) > 1 else "",
            profiles=sidecar.profiles,
        )


def _backend_of(engine: Path) -> str | None:
    """The backend of an engine; None where its sidecar does not say."""
    try:
        return read_sidecar(engine).backend
    except GlpnError:
        return None


def _from_bundle(
    name: str, bundle: Bundle, precisions: Sequence[RunPrecision] | None
) -> Iterator[Runner | NotRun]:
    """Each precision from its own file, or from the FP32 one where the bundle has none."""
    have = {artefact.precision: artefact for artefact in reversed(bundle.manifest.artefacts)}
    if precisions is None:
        precisions = [precision for precision in PRECISIONS if precision in (*have, "bf16")]
    for precision in precisions:
        if precision == "int8+bf16" and name != "openvino":
            yield NotRun(CaseId(name, precision), "only OpenVINO runs it")
            continue
        own = precision.partition("+")[0]
        artefact = have.get(own) or have.get("fp32")
        if artefact is None:
            continue
        try:
            path = artefact_path(bundle, artefact)
        except GlpnError as error:
            yield NotRun(CaseId(name, precision), str(error))
            continue
        files = (path, *(bundle.folder / data for data in artefact.data))
        size = sum(file.stat().st_size for file in files)
        probe = own not in have or precision == "int8+bf16"
        yield Runner(backend=name, precision=precision, path=path, bytes=size, probe=probe)


def _peer(
    name: str, checkpoint: Path | None, precisions: Sequence[RunPrecision], elsewhere: bool
) -> Iterator[Runner | NotRun]:
    if name not in PEERS:
        expected = f"one of {', '.join(PEERS)}, or NAME=FILE.onnx"
        raise InputError(f"the peer {name!r} is unknown", expected=expected)
    if not elsewhere and not is_installed(PEERS[name]):
        way = f"pip install transformers, or pass --python {name}=PYTHON of an environment that has it"
        yield NotRun(CaseId(name), f"{PEERS[name]} is not installed; {way}")
    elif checkpoint is None or not checkpoint.is_dir():
        yield NotRun(CaseId(name), "it needs the checkpoint's folder; pass --reference CHECKPOINT")
    else:
        size = disk_bytes(checkpoint)
        chosen: list[Precision] = [p for p in precisions if p == "fp32" or p == "fp16"] or ["fp32"]
        for precision in chosen:
            yield Runner(backend=name, precision=precision, path=checkpoint, bytes=size)


def is_installed(module: str) -> bool:
    """Whether a module can be imported here."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False


def _foreign(peer: str, precisions: Sequence[RunPrecision] | None) -> Iterator[Runner | NotRun]:
    """A file of other software as its users run it: ONNX on ONNX Runtime, OpenVINO's own on OpenVINO."""
    name, _, place = peer.rpartition("=")
    path = Path(place) if place.endswith(".xml") else find_onnx(place)
    if path is None or not path.is_file():
        raise InputError(
            f"the peer {peer!r} names no ONNX or OpenVINO file",
            expected=".onnx, .xml, or a folder with model.onnx in it",
        )
    label = name or path.stem
    backend = BACKENDS["openvino" if path.suffix == ".xml" else "onnxruntime"]
    install = backend.missing()
    if install is not None:
        yield NotRun(CaseId(label), f"{backend.package} is not installed; {install}")
        return
    if path.suffix == ".xml":  # in what it holds, and with BF16 for the rest: the rows that ours has as well
        quantized = any('type="FakeQuantize"' in line for line in path.open(encoding="utf-8"))
        files = [path, path.with_suffix(".bin")]
        gives: tuple[RunPrecision, ...] = ("int8", "int8+bf16") if quantized else ("fp32", "bf16")
    else:
        header = read_header(path)
        files, gives = list(header.files), (header.precision,)
    size = sum(file.stat().st_size for file in files if file.is_file())
    chosen = [precision for precision in gives if precisions is None or precision in precisions]
    for precision in chosen:
        yield Runner(
            backend=backend.name,
            precision=precision,
            path=path,
            bytes=size,
            label=label,
            probe=precision != gives[0],
        )
    if not chosen:
        yield NotRun(CaseId(label), f"{path} is {gives[0]}")


def disk_bytes(path: Path) -> int:
    """Size of a file, or of a checkpoint folder's weights [bytes]."""
    if path.is_file():
        return path.stat().st_size
    weights = [p for p in path.iterdir() if p.suffix in (".safetensors", ".bin") and p.is_file()]
    return sum(p.stat().st_size for p in weights)
