"""Reading the weights files of a checkpoint, and saying which they were: nothing in them is executed."""

from __future__ import annotations

import dataclasses
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glpn_deploy.checkpoints.card import read_card
from glpn_deploy.checkpoints.hub import HubOptions, cached_as, local_path, resolve_checkpoint
from glpn_deploy.checkpoints.original import is_original, to_hf_names
from glpn_deploy.checkpoints.wrapping import unwrapped
from glpn_deploy.errors import CheckpointError
from glpn_deploy.optional import needs
from glpn_deploy.reading import check_regular, files_digest, is_regular, read_json

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
_INDEX_SUFFIX = ".index.json"
WEIGHT_FILES = (
    WEIGHTS_NAME,
    WEIGHTS_NAME + _INDEX_SUFFIX,
    "pytorch_model.bin",
    "pytorch_model.bin" + _INDEX_SUFFIX,
)
_MOST_BYTES = 2 << 30  # a file of holes can be of any size, and would be hashed for hours
_MOST_SHARED = 4  # times that tensors may take what their file holds: some share weights
_LFS_POINTER = b"version https://git-lfs"
_UNSUPPORTED_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_UNSUPPORTED = re.compile(r"^Unsupported .*", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class CheckpointInfo:
    """Where weights came from, as a bundle's manifest records it.

    Attributes:
        source: The hub id, or the name (not the path) of the local folder or file.
        revision: The commit of a hub id, if known.
        digest: `checkpoint_digest` of the files.
        licence: What the source says of itself, if anything.
        files: Names of the files that the digest covers.
        trained_on: What its model card says it was trained on, if that is one kind of image only.
        train_size: Height and width [px] of those, if the card says so.
    """

    source: str
    revision: str | None
    digest: str
    licence: str | None
    files: tuple[str, ...]
    trained_on: str | None = None
    train_size: tuple[int, int] | None = None


def load_state_dict(
    source: str | Path, *, variant: str | None = None, safetensors: bool | None = None
) -> dict[str, Tensor]:
    """Reads all tensors of a local checkpoint, on the CPU, under HF's names.

    Args:
        source: A folder with ``model.safetensors`` or ``pytorch_model.bin`` (either may be sharded
            with an index), or one such file, or the authors' ``.ckpt``.
        variant: Which of a folder's weights, as in ``model.fp16.safetensors``.
        safetensors: Whether a folder's weights are to be safetensors (True) or a pickle of tensors (False).

    Raises:
        CheckpointError: No weights are there, or a file is damaged, holds Python code or lies
            outside the folder.
        MissingDependencyError: A safetensors file without safetensors installed.
    """
    weights = _weights_files(Path(source), variant, safetensors)
    tensors: dict[str, Tensor] = {}
    for path in weights[1:] if _is_index(weights[0]) else weights:
        tensors.update(_read_file(path))
    return as_hf(tensors)


def as_hf(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under HF's names: without what training tools put before them, the authors' translated."""
    tensors = unwrapped(tensors)
    return to_hf_names(tensors) if is_original(tensors) else tensors


def checkpoint_digest(source: str | Path) -> str:
    """SHA-256 over the lines ``<sha256 of the file>  <its name>`` of weights and config, sorted by name."""
    files = sorted(_covered_files(Path(source)), key=lambda path: path.name)
    for path in files:
        _check_size(path)
    try:
        return files_digest(files)
    except OSError as error:
        raise _unreadable(Path(error.filename), error) from None


def describe_checkpoint(source: str | Path, options: HubOptions = HubOptions()) -> CheckpointInfo:
    """Says what a checkpoint is, for a manifest; the arguments are `resolve_checkpoint`'s."""
    path = resolve_checkpoint(source, options)
    name = str(source) if local_path(source) is None else path.name or path.resolve().name
    hub_id, commit = cached_as(path) or (name, options.revision)
    origin = read_card(path)
    return CheckpointInfo(
        source=hub_id,
        revision=commit,
        digest=checkpoint_digest(path),
        licence=origin.licence,
        trained_on=origin.trained_on,
        train_size=origin.train_size,
        files=tuple(sorted(file.name for file in _covered_files(path))),
    )


def _covered_files(source: Path) -> list[Path]:
    weights = _weights_files(source)
    config = weights[0].parent / CONFIG_NAME
    return [*weights, config] if config.is_file() else weights


def _weights_files(source: Path, variant: str | None = None, safetensors: bool | None = None) -> list[Path]:
    """The files that hold a checkpoint's tensors; an index comes first, then its shards."""
    path = source
    if source.is_dir():
        names = [weights_name(name, variant) for name in WEIGHT_FILES]
        if safetensors is not None:
            names = names[:2] if safetensors else names[2:]
        found = [source / name for name in names if (source / name).is_file()]
        if not found:
            others = sorted(p.name for p in source.iterdir() if p.suffix in {".ckpt", ".pth", ".pt", ".bin"})
            raise CheckpointError(
                f"the folder {source} holds no weights",
                expected=f"{' or '.join(names[::2])}, whole or in shards",
                fix=f"give the file itself: {source / others[0]}" if others else "",
            )
        path = found[0]
    elif not source.is_file():
        raise CheckpointError(f"there is no checkpoint {source}", expected="a folder or a file")
    elif source.suffix == ".onnx":
        raise CheckpointError(
            f"{source} is an ONNX file already",
            expected="the checkpoint that it was made from: a folder in HF format, a hub id or a .ckpt",
            fix=f"give that, or run the file as it is with glpn-predict {source} photo.jpg",
        )
    return [path, *_shards(path)] if _is_index(path) else [path]


def _is_index(path: Path) -> bool:
    """``model.safetensors.index.json`` and its like, with or without a variant before ``json``."""
    return path.suffix == ".json" and ".index." in path.name


def weights_name(name: str, variant: str | None) -> str:
    """A weights file's name in a variant: ``model.safetensors`` becomes ``model.fp16.safetensors``."""
    if not variant:
        return name
    start, end = name.rsplit(".", 1)
    return f"{start}.{variant}.{end}"


def _shards(index: Path) -> list[Path]:
    """The shards that an index names, each a file beside it."""
    try:
        names = sorted(set(read_json(index)["weight_map"].values()))
        usable = bool(names) and all(isinstance(name, str) for name in names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        usable = False
    if not usable:
        raise CheckpointError(
            f"{index} is no index of shards", expected='JSON with a "weight_map" of file names'
        )
    for name in names:
        if name in {"", ".", ".."} or "/" in name or "\\" in name or "\0" in name or ":" in name:
            raise CheckpointError(
                f"{index} points outside its folder, to {name!r}",
                expected="names of files beside it",
                fix="do not use this checkpoint unless you know where it came from",
            )
        if not is_regular(index.parent / name):
            raise CheckpointError(
                f"the shard {name} named in {index} is missing",
                expected=f"all {len(names)} shards beside it",
                fix="download the checkpoint again",
            )
    return [index.parent / name for name in names]


def _read_file(path: Path) -> dict[str, Tensor]:
    _check_size(path)
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS_POINTER))
    except OSError as error:
        raise _unreadable(path, error) from None
    if start == _LFS_POINTER:
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the weights", fix="run `git lfs pull` beside it"
        )
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with needs(f"reading {path}", "export"):
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise _damaged(path, "safetensors", error) from None


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """Reads what ``torch.save`` wrote, tensors and plain containers only."""
    _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on pickle protocols; what cannot be read is refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise nearly anything
        found = _UNSUPPORTED_GLOBAL.search(str(error))
        if found:
            raise CheckpointError(
                f"{path} holds Python objects besides tensors ({found[1]}); nothing in it was run",
                expected="a file of plain tensors",
                fix="do not use it unless you know where it came from; then save its state_dict() alone",
            ) from None
        raise _damaged(path, "PyTorch checkpoint", error) from None
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    return _checked(path, content)


def _checked(path: Path, content: Any) -> dict[str, Tensor]:
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}", expected="a dictionary of tensors (a state_dict)"
        )
    other = [key for key, value in content.items() if not (isinstance(key, str) and _is_plain(value))]
    if other or not content:
        what = f"the entry {other[0]!r}, which is no plain tensor" if other else "no tensor"
        raise CheckpointError(f"{path} holds {what}", expected="a dictionary of tensors (a state_dict)")
    _check_storage(path, content)
    return {name: tensor.detach().clone() for name, tensor in content.items()}  # some may share memory


def _check_archive(path: Path) -> None:
    """Refuses an archive that unpacks to more than it is; torch.save packs nothing."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # the form of before torch 1.6, or damage, of which torch.load tells
    if unpacked > path.stat().st_size:
        raise CheckpointError(
            f"{path} unpacks to {unpacked} bytes", expected="an archive that torch.save wrote, unpacked"
        )


def _check_storage(path: Path, tensors: dict[str, Tensor]) -> None:
    """Refuses tensors whose values repeat what the file holds once (``expand``): copies take it all."""
    held = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors.values()
    }
    sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in tensors.items()}
    wide = [name for name, size in sizes.items() if size > tensors[name].untyped_storage().nbytes()]
    if wide or sum(sizes.values()) > _MOST_SHARED * sum(held.values()):
        what = f"{wide[0]} is expanded" if wide else "its tensors share their memory"
        raise CheckpointError(
            f"{path} holds {sum(held.values())} bytes and its tensors take {sum(sizes.values())} ({what})",
            expected="tensors with values of their own",
            fix="save them anew, each with .contiguous()",
        )


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"


def _damaged(path: Path, kind: str, error: Exception) -> CheckpointError:
    text = str(error).strip()
    if "weights_only" in text:  # torch's first lines advise to load it with code and all
        text = found[0] if (found := _UNSUPPORTED.search(text)) else "not plain tensors"
    reason = f"{type(error).__name__}: {text.splitlines()[0][:150]}" if text else type(error).__name__
    return CheckpointError(
        f"{path} is damaged or no {kind} ({reason})",
        expected="a complete file",
        fix="download or copy it again",
    )


def _check_size(path: Path) -> None:
    try:
        size = check_regular(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    if size > _MOST_BYTES:
        raise CheckpointError(
            f"{path} has {size} bytes",
            expected=f"at most {_MOST_BYTES}: the largest GLPN has an eighth of that",
        )


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"{path} cannot be read ({error.strerror})")
