"""What of a bundle can be measured on this machine, before any of it is loaded."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

from glpn_deploy.benchmarks.workload.cases import PEERS, VARIANTS, CaseId, NotRun, Runner
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.bundle.engine_sidecar import Sidecar, bundle_engines, check_machine, read_sidecar
from glpn_deploy.errors import GlpnError, InputError
from glpn_deploy.gpu.cuda_device import CudaDevice
from glpn_deploy.runtimes.base import PRECISIONS, Precision
from glpn_deploy.runtimes.onnx_file.artefact_file import artefact_path
from glpn_deploy.runtimes.onnx_file.foreign import find_onnx
from glpn_deploy.runtimes.onnx_file.header import read_header
from glpn_deploy.runtimes.registry import BACKENDS, Backend

_PEER_INSTALL = {
    "hf-eager": "pip install transformers",
    "hf-compile": "pip install transformers",
}


def plan_runners(
    bundle: Bundle,
    checkpoint: Path | None,
    backends: Sequence[str] | None = None,
    precisions: Sequence[Precision] | None = None,
    peers: Sequence[str] = (),
    gpu: CudaDevice | None = None,
    elsewhere: Collection[str] = (),
) -> tuple[list[Runner], list[NotRun]]:
    """Every backend and artefact that can be tried here.

    A backend that takes ``.onnx`` files gets every artefact, and the FP32 one again for BF16 where the
    bundle has no BF16 file: OpenVINO computes in BF16 from it. One that takes checkpoints gets FP32 and BF16,
    and FP16 on a GPU or where it is asked for. TensorRT gets the bundle's engines that were built for this
    GPU. The null backend, which measures nothing, and `VARIANTS` run only where they are named.

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
        if precision not in PRECISIONS:
            raise InputError(
                f"the precision {precision!r} is unknown", expected=f"some of {', '.join(PRECISIONS)}"
            )
    runners: list[Runner] = []
    not_run: list[NotRun] = []
    given = None if precisions is None else tuple(precisions)
    for name, backend in _rows(backends):
        install = None if backend.name in elsewhere else backend.missing()
        if install is not None:
            not_run.append(NotRun(CaseId(name), f"{backend.package} is not installed; {install}"))
        elif backend.runs == "nothing":
            runners.append(Runner(backend=name, precision="fp32"))
        elif backend.runs == "checkpoint":
            half: tuple[Precision, ...] = ("fp32", "bf16") if gpu is None else ("fp32", "fp16", "bf16")
            _from_checkpoint(name, checkpoint, given or half, runners, not_run)
        elif backend.runs == "engine":
            _from_engines(name, backend, bundle, given, gpu, runners, not_run)
        else:
            _from_bundle(name, bundle, precisions, runners, not_run)
    for name in peers:
        if "=" in name or name.endswith((".onnx", ".xml")):
            _foreign(name, precisions, runners, not_run)
            continue
        wanted = [p for p in given or ("fp32", "fp16") if p == "fp32" or gpu is not None]
        _peer(name, checkpoint, wanted, name in elsewhere, runners, not_run)
    return runners, not_run


def _rows(backends: Sequence[str] | None) -> list[tuple[str, Backend]]:
    """What is to be tried, by the name of its rows."""
    known = {**BACKENDS, **{name: BACKENDS[variant.of] for name, variant in VARIANTS.items()}}
    if backends is None:
        return [(name, backend) for name, backend in BACKENDS.items() if backend.runs != "nothing"]
    return [(name, backend) for name, backend in known.items() if name in backends]


def _from_checkpoint(
    name: str,
    checkpoint: Path | None,
    precisions: Sequence[Precision],
    runners: list[Runner],
    not_run: list[NotRun],
) -> None:
    if checkpoint is None:
        reason = "it runs checkpoints, and the bundle's is not on this machine; pass --reference CHECKPOINT"
        not_run.append(NotRun(CaseId(name), reason))
        return
    size = disk_bytes(checkpoint)
    for precision in precisions:
        if precision in ("fp32", "fp16", "bf16"):
            runners.append(Runner(backend=name, precision=precision, path=checkpoint, bytes=size))


def _from_engines(
    name: str,
    backend: Backend,
    bundle: Bundle,
    precisions: Sequence[Precision] | None,
    gpu: CudaDevice | None,
    runners: list[Runner],
    not_run: list[NotRun],
) -> None:
    """The engines that were built for this GPU; whether they fit TensorRT shows when they are loaded."""
    found = [path for path in bundle_engines(bundle.folder) if _backend_of(path) in (backend.name, None)]
    if not found:
        option = " --rtx" if backend.name == "tensorrt_rtx" else ""
        reason = f"the bundle has no engine; build one: glpn-build {shlex.quote(str(bundle.folder))}{option}"
        not_run.append(NotRun(CaseId(name), reason))
        return
    if gpu is None:
        not_run.append(NotRun(CaseId(name), "engines run on NVIDIA GPUs only, and none is used"))
        return
    fitting: list[tuple[Path, Sidecar]] = []
    for path in found:
        try:
            sidecar = read_sidecar(path)
            check_machine(path, sidecar, gpu, sidecar.tensorrt)
        except GlpnError as error:
            not_run.append(NotRun(CaseId(f"{name}@{path.stem}"), str(error)))
            continue
        if precisions is None or sidecar.precision in precisions:
            fitting.append((path, sidecar))
    for path, sidecar in fitting:
        precision = next(p for p in PRECISIONS if p == sidecar.precision)
        rivals = [other for other, about in fitting if about.precision == precision and other != path]
        runners.append(
            Runner(
                backend=name,
                precision=precision,
                path=path,
                bytes=path.stat().st_size,
                label=f"{name}@{path.stem}" if rivals else "",
                profiles=sidecar.profiles,
            )
        )


def _backend_of(engine: Path) -> str | None:
    """The backend of an engine; None where its sidecar does not say."""
    try:
        return read_sidecar(engine).backend
    except GlpnError:
        return None


def _from_bundle(
    name: str,
    bundle: Bundle,
    precisions: Sequence[Precision] | None,
    runners: list[Runner],
    not_run: list[NotRun],
) -> None:
    have: dict[str, Path] = {}
    only = VARIANTS[name].precisions if name in VARIANTS else None
    if only is not None:
        precisions = [precision for precision in only if precisions is None or precision in precisions]
    for artefact in bundle.manifest.artefacts:
        if precisions is not None and artefact.precision not in (*precisions, "fp32"):
            continue
        try:
            path = artefact_path(bundle, artefact)
        except GlpnError as error:
            not_run.append(NotRun(CaseId(name, artefact.precision), str(error)))
            continue
        have[artefact.precision] = path
        if precisions is None or artefact.precision in precisions:
            files = (path, *(bundle.folder / data for data in artefact.data))
            size = sum(file.stat().st_size for file in files)
            precision = next(p for p in PRECISIONS if p == artefact.precision)
            runners.append(Runner(backend=name, precision=precision, path=path, bytes=size))
    for precision in ("bf16",) if precisions is None else precisions:
        if precision not in have and "fp32" in have:
            path = have["fp32"]
            size = path.stat().st_size
            runners.append(Runner(backend=name, precision=precision, path=path, bytes=size, probe=True))


def _peer(
    name: str,
    checkpoint: Path | None,
    precisions: Sequence[Precision],
    elsewhere: bool,
    runners: list[Runner],
    not_run: list[NotRun],
) -> None:
    if name not in PEERS:
        expected = f"one of {', '.join(PEERS)}, or NAME=FILE.onnx"
        raise InputError(f"the peer {name!r} is unknown", expected=expected)
    try:
        found = elsewhere or importlib.util.find_spec(PEERS[name]) is not None
    except ModuleNotFoundError:  # the parent package is missing
        found = False
    if not found:
        way = f"{_PEER_INSTALL[name]}, or pass --python {name}=PYTHON of an environment that has it"
        not_run.append(NotRun(CaseId(name), f"{PEERS[name]} is not installed; {way}"))
    elif checkpoint is None or not checkpoint.is_dir():
        not_run.append(NotRun(CaseId(name), "it needs the checkpoint's folder; pass --reference CHECKPOINT"))
    else:
        size = disk_bytes(checkpoint)
        chosen: list[Precision] = [p for p in precisions if p in ("fp32", "fp16")] or ["fp32"]
        runners += [
            Runner(backend=name, precision=precision, path=checkpoint, bytes=size) for precision in chosen
        ]


def _foreign(
    peer: str, precisions: Sequence[Precision] | None, runners: list[Runner], not_run: list[NotRun]
) -> None:
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
        not_run.append(NotRun(CaseId(label), f"{backend.package} is not installed; {install}"))
        return
    if path.suffix == ".xml":
        _openvino_file(label, path, precisions, runners, not_run)
        return
    header = read_header(path)
    size = sum(file.stat().st_size for file in header.files if file.is_file())
    if precisions is None or header.precision in precisions:
        runner = Runner(backend="onnxruntime", precision=header.precision, path=path, bytes=size, label=label)
        runners.append(runner)
    else:
        not_run.append(NotRun(CaseId(label), f"{path} is {header.precision}"))


def _openvino_file(
    label: str,
    path: Path,
    precisions: Sequence[Precision] | None,
    runners: list[Runner],
    not_run: list[NotRun],
) -> None:
    """OpenVINO's file in what it holds and with bf16 for the rest, the rows that ours has as well."""
    quantized = any('type="FakeQuantize"' in line for line in path.open(encoding="utf-8"))
    size = sum(file.stat().st_size for file in (path, path.with_suffix(".bin")) if file.is_file())
    rows: list[tuple[str, Precision, str]] = [("openvino", "fp32", label), ("openvino", "bf16", label)]
    if quantized:
        fallback = "openvino-fallback-bf16"
        rows = [("openvino", "int8", label), (fallback, "int8", fallback.replace("openvino", label))]
    chosen = [row for row in rows if precisions is None or row[1] in precisions]
    runners += [
        Runner(
            backend=name, precision=p, path=path, bytes=size, label=title, probe=(name, p, title) != rows[0]
        )
        for name, p, title in chosen
    ]
    if not chosen:
        not_run.append(NotRun(CaseId(label), f"{path} is {rows[0][1]}"))


def disk_bytes(path: Path) -> int:
    """Size of a file, or of a checkpoint folder's weights [bytes]."""
    if path.is_file():
        return path.stat().st_size
    weights = [p for p in path.iterdir() if p.suffix in (".safetensors", ".bin") and p.is_file()]
    return sum(p.stat().st_size for p in weights)
