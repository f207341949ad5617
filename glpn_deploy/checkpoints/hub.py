"""Turning what a user calls a checkpoint (folder, file or hub id) into a path on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from glpn_deploy.errors import CheckpointError, first_line
from glpn_deploy.optional import needs

DEMO = "demo"
"""The name of the small checkpoint that the package carries. As text it always means that one; a folder of
the user's own by that name is ``./demo`` (or a `Path`, which always means a place on disk)."""
DEMO_FOLDER = Path(__file__).parent.parent / "demo_checkpoint"
"""Where the package carries it."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILE_SUFFIXES = (".safetensors", ".bin", ".ckpt", ".pt", ".pth", ".json", ".onnx")
_WHAT = "a checkpoint folder, a checkpoint file, a hub id such as vinvino02/glpn-nyu, or demo"

_SAFETENSORS = ["model*.safetensors", "model.safetensors.index*.json"]
_PICKLES = ["pytorch_model*.bin", "pytorch_model.bin.index*.json"]
_CONFIGS = ["config.json", "preprocessor_config.json"]
_BUNDLE = "manifest.json"
_ONNX = ["model.onnx*", "onnx/model.onnx*"]  # for Optimum and transformers.js, without weights
_ABOUT = ["README.md", "LICENSE*"]
_PATIENCE_S = 4.0
_SERVER_ERRORS = 500


@dataclasses.dataclass(frozen=True)
class HubOptions:
    """How files come from the hub, named as in HF's ``from_pretrained``.

    Attributes:
        revision: Branch, tag or commit of a hub id.
        offline: Use the hub's cache only.
        cache_dir: The hub's cache, instead of its own place.
        token: For private models: the token itself, True for the one that ``hf auth login`` keeps, or False.
        force_download: Fetch again what the cache has.
        subfolder: Where in the folder or repository the files are.
        progress: Show the hub's progress bars, if standard error is a terminal.
    """

    revision: str | None = None
    offline: bool = False
    cache_dir: str | Path | None = None
    token: str | bool | None = None
    force_download: bool = False
    subfolder: str = ""
    progress: bool = True


_KEYWORDS = {"local_files_only": "offline"} | {
    name: name for name in ("cache_dir", "force_download", "offline", "revision", "subfolder", "token")
}


def hub_options(keywords: Mapping[str, Any]) -> tuple[HubOptions, dict[str, Any]]:
    """HF's keywords of the hub as options, and the other keywords."""
    mine = {_KEYWORDS[name]: value for name, value in keywords.items() if name in _KEYWORDS}
    return HubOptions(**mine), {name: value for name, value in keywords.items() if name not in _KEYWORDS}


def resolve_checkpoint(
    source: str | Path, options: HubOptions = HubOptions(), *, safetensors: bool | None = None
) -> Path:
    """Finds a checkpoint, downloading it where it is a hub id.

    Args:
        source: An existing folder or file, given back as it is, a hub id (``owner/name``), or ``"demo"``
            for the package's own small checkpoint, which a folder ``./demo`` does not replace.
        safetensors: Fetch weights in this format only (True), or only pickles of tensors (False).

    Returns:
        The local folder or file.

    Raises:
        CheckpointError: Nothing is there, or the hub did not give it.
        MissingDependencyError: A hub id without huggingface-hub installed.
    """
    name = str(source)
    if is_demo(source):
        return _demo_folder()
    path = local_path(source)
    if path is not None:
        return path / options.subfolder if path.is_dir() else path
    if not is_hub_id(source):
        raise CheckpointError(
            f"there is no file or folder {name!r}", expected=_WHAT, fix="check the spelling"
        )
    weights = [_SAFETENSORS, _PICKLES] if safetensors is None else [_SAFETENSORS if safetensors else _PICKLES]
    return _download(name, options, weights)


def is_hub_id(source: str | Path) -> bool:
    """Whether a source is nothing on this machine and has the form of a hub id (``owner/name``)."""
    name = str(source)
    return (
        not is_demo(source)
        and local_path(source) is None
        and _HUB_ID.fullmatch(name) is not None
        and not name.endswith(_FILE_SUFFIXES)
    )


def has_weights(folder: Path) -> bool:
    """Whether a folder holds weights as a checkpoint has them."""
    return folder.is_dir() and any(
        any(folder.glob(pattern)) for pattern in ("*.safetensors", "pytorch_model*.bin")
    )


def is_demo(source: str | Path) -> bool:
    """Whether a source is the name of the package's own checkpoint; ``./demo`` and a `Path` are not."""
    return isinstance(source, str) and source == DEMO


def _demo_folder() -> Path:
    if not (DEMO_FOLDER / "config.json").is_file():
        raise CheckpointError(
            "this installation carries no demo checkpoint",
            expected=f"{DEMO_FOLDER}",
            fix="install a released glpn-deploy, or give a checkpoint of your own; "
            "a folder called demo is written ./demo",
        )
    here = Path(DEMO)
    if any((here / name).is_file() for name in ("config.json", "manifest.json")):
        warnings.warn(
            "demo means the checkpoint that comes with glpn-deploy; for the folder of that name write ./demo",
            stacklevel=3,
        )
    return DEMO_FOLDER


def local_path(source: str | Path) -> Path | None:
    """The path that a source names on this machine, or None if nothing is there (or it is ``"demo"``)."""
    if is_demo(source):
        return None
    try:
        path = Path(source).expanduser()
        return path if str(source) and path.exists() else None
    except (OSError, ValueError, RuntimeError):  # a name too long, with a NUL, or with an unknown ~user
        return None


def cached_as(path: Path) -> tuple[str, str] | None:
    """Hub id and commit of a path in the hub's cache (``models--owner--name/snapshots/commit``)."""
    for folder in (path, path.parent):
        repository = folder.parent.parent.name
        if folder.parent.name == "snapshots" and repository.startswith("models--"):
            return repository.removeprefix("models--").replace("--", "/"), folder.name
    return None


def fetch_files(hub_id: str, patterns: Sequence[str], options: HubOptions) -> Path:
    """Fetches the files of a hub id that match, in its subfolder, and gives the folder they are in.

    Raises:
        CheckpointError: The hub did not give them.
        MissingDependencyError: huggingface-hub is not installed.
    """
    with _progress_bars(hub_id, options):
        try:
            return _fetch(hub_id, options, patterns, options.revision) / options.subfolder
        except Exception as error:  # the hub client's three HTTP libraries share no base class
            raise _hub_error(error, hub_id, options.revision, options.offline) from error


def _fetch(hub_id: str, options: HubOptions, patterns: Sequence[str], revision: str | None) -> Path:
    """The repository's folder with the files of some patterns at a revision."""
    import huggingface_hub

    prefix = f"{options.subfolder.strip('/')}/" if options.subfolder else ""
    folder = huggingface_hub.snapshot_download(
        hub_id,
        revision=revision,
        cache_dir=options.cache_dir,
        local_files_only=options.offline,
        allow_patterns=[prefix + pattern for pattern in patterns],
        token=options.token,
        force_download=options.force_download,
    )
    return Path(folder)


def _download(hub_id: str, options: HubOptions, weights: list[list[str]]) -> Path:
    """The folder with config and weights, of the first kind of ``weights`` that the hub has."""
    with _progress_bars(hub_id, options):
        options = _offline_where_cut_off(hub_id, options)
        fetch, revision = functools.partial(_fetch, hub_id, options), options.revision
        try:
            folder = fetch([*_CONFIGS, _BUNDLE, *weights[0]], revision)
            commit = folder.name if re.fullmatch(r"[0-9a-f]{40}", folder.name) else revision
            for others in (*weights[1:], _ONNX):
                inside = folder / options.subfolder
                if not has_weights(inside):
                    folder = fetch(["*"] if (inside / _BUNDLE).is_file() else _CONFIGS + others, commit)
        except Exception as error:  # the hub client's three HTTP libraries share no base class
            raise _hub_error(error, hub_id, revision, options.offline) from error
        with contextlib.suppress(Exception):  # the licence is worth having, not worth failing for
            fetch(_ABOUT, commit)
    return folder / options.subfolder


def _offline_where_cut_off(hub_id: str, options: HubOptions) -> HubOptions:
    """The options, offline where the hub cannot be reached and its cache has the model.

    The hub's client finds that out as well, and asks again for 23 s (1.x, at a known commit). It is asked
    once here, and waited for no longer than `_PATIENCE_S`.
    """
    from huggingface_hub import constants

    if options.offline or options.force_download or constants.HF_HUB_OFFLINE:
        return options
    cached = dataclasses.replace(options, offline=True)
    folder = None
    with contextlib.suppress(Exception):  # not in the cache: whatever is wrong shows when it is fetched
        folder = _fetch(hub_id, cached, _CONFIGS, options.revision)
    if folder is None or not has_weights(folder / options.subfolder):
        return options
    reason = _unreachable(hub_id, options)
    if reason is None:
        return options
    warnings.warn(
        f"The hub cannot be reached ({reason}): {hub_id} is taken from its cache, at commit "
        f"{folder.name[:8]}.",
        stacklevel=4,
    )
    return cached


def _unreachable(hub_id: str, options: HubOptions) -> str | None:
    """Why the hub does not answer, or None where it does, be it with a refusal."""
    import huggingface_hub

    try:
        huggingface_hub.HfApi(token=options.token).model_info(
            hub_id, revision=options.revision, timeout=_PATIENCE_S
        )
    except Exception as error:  # as below; an answer of the hub has a status
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is None or status >= _SERVER_ERRORS:
            return first_line(error)
    return None


@contextlib.contextmanager
def _progress_bars(hub_id: str, options: HubOptions) -> Iterator[None]:
    """Imports the hub's client, and switches its progress bars, a global of its own, off for a while."""
    with needs(f"there is no folder {hub_id!r}, and fetching it from the hub", "export"):
        import huggingface_hub  # noqa: F401
        from huggingface_hub.utils.tqdm import (
            are_progress_bars_disabled,
            disable_progress_bars,
            enable_progress_bars,
        )
    if (options.progress and sys.stderr.isatty()) or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _hub_error(error: Exception, hub_id: str, revision: str | None, offline: bool) -> CheckpointError:
    """The sentence for whatever the hub's client raised."""
    from huggingface_hub import errors

    page = f"https://huggingface.co/{hub_id}"
    if isinstance(error, errors.GatedRepoError):
        return CheckpointError(
            f"the hub gives {hub_id} only to people who accepted its terms",
            fix=f"accept them at {page}, run `hf auth login`, and try again",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return CheckpointError(
            f"the hub's {hub_id} has no revision {revision!r}",
            fix=f"choose one listed at {page}/commits/main",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return CheckpointError(
            f"there is no folder {hub_id!r}, and the hub has no public model of that name",
            expected=_WHAT,
            fix="check the spelling; for a private model run `hf auth login`",
        )
    if isinstance(error, errors.HFValidationError):
        return CheckpointError(f"{hub_id!r} is no folder here and no valid hub id", expected=_WHAT)
    which = hub_id if revision is None else f"{hub_id} at revision {revision!r}"
    if offline:
        return CheckpointError(
            f"{which} is not completely in the hub's cache, and offline mode forbids fetching it",
            expected=f"a folder {hub_id!r} or a cached download",
            fix="run once without offline mode, or copy the checkpoint folder here and give its path",
        )
    return CheckpointError(
        f"{which} could not be fetched from the hub ({first_line(error)})",
        expected=f"a folder {hub_id!r}, a cached download or a connection to the hub",
        fix="check the network and the free disk space and try again, or give the path of a local copy",
    )
