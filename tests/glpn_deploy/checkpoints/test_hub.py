"""Hub ids: the cache, revisions, offline mode, and a sentence for each thing the hub can answer."""

import fnmatch
import os
import shutil
import socket
import sys
import time

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from huggingface_hub import errors
from huggingface_hub.utils.tqdm import are_progress_bars_disabled

from glpn_deploy import DepthEstimator, GLPNConfig, GLPNForDepthEstimation
from glpn_deploy.checkpoints import hub
from glpn_deploy.checkpoints.files import describe_checkpoint
from glpn_deploy.checkpoints.hub import HubOptions, resolve_checkpoint
from glpn_deploy.errors import BundleError, CheckpointError, MissingDependencyError
from glpn_deploy.model.pretrained import ScaleWarning
from glpn_deploy.optional import install_line
from tests.refusals import refused

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SMALL = GLPNConfig(depths=(1, 1, 1, 1), hidden_sizes=(4, 8, 10, 16), decoder_hidden_size=6)


@pytest.fixture
def cache(tmp_path):
    """A hub cache with one model in it, laid out as huggingface-hub lays it out."""
    repository = tmp_path / "hub" / "models--someone--glpn-kitti-small"
    snapshot = repository / "snapshots" / COMMIT
    torch.manual_seed(0)
    transformers.GLPNForDepthEstimation(transformers.GLPNConfig(**SMALL.to_dict())).save_pretrained(snapshot)
    (snapshot / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    blobs = repository / "blobs"
    blobs.mkdir()
    for number, file in enumerate(sorted(snapshot.iterdir())):  # files are links into blobs
        file.rename(blobs / str(number))
        file.symlink_to(f"../../blobs/{number}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return tmp_path / "hub"


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_offline_reads_the_hubs_cache(cache, revision):
    path = resolve_checkpoint(
        "someone/glpn-kitti-small", HubOptions(revision=revision, offline=True, cache_dir=cache)
    )
    assert path == cache / "models--someone--glpn-kitti-small" / "snapshots" / COMMIT
    model = GLPNForDepthEstimation.from_pretrained(
        "someone/glpn-kitti-small", max_depth=80, offline=True, cache_dir=cache
    )
    assert model.config == SMALL.replace(max_depth=80)
    again = GLPNForDepthEstimation.from_pretrained(
        "someone/glpn-kitti-small", max_depth=80, revision=revision, offline=True, cache_dir=cache
    )
    assert torch.equal(again.head.head[0].weight, model.head.head[0].weight)


def test_the_hubs_own_offline_switch_is_respected(cache, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert resolve_checkpoint("someone/glpn-kitti-small", HubOptions(cache_dir=cache)).name == COMMIT
    with refused(CheckpointError, got="someone/else could not be fetched from the hub"):
        resolve_checkpoint("someone/else", HubOptions(cache_dir=cache))


def test_a_kitti_hub_id_warns(cache):
    with pytest.warns(ScaleWarning, match=r"someone/glpn-kitti-small seems to be trained on KITTI"):
        GLPNForDepthEstimation.from_pretrained("someone/glpn-kitti-small", offline=True, cache_dir=cache)
    with pytest.warns(ScaleWarning):  # and the same folder by its path
        GLPNForDepthEstimation.from_pretrained(
            cache / "models--someone--glpn-kitti-small" / "snapshots" / COMMIT
        )


def test_description_of_a_hub_checkpoint(cache):
    info = describe_checkpoint("someone/glpn-kitti-small", HubOptions(offline=True, cache_dir=cache))
    assert (info.source, info.revision, info.licence) == ("someone/glpn-kitti-small", COMMIT, "apache-2.0")
    assert info.files == ("config.json", "model.safetensors")
    path = resolve_checkpoint("someone/glpn-kitti-small", HubOptions(offline=True, cache_dir=cache))
    assert describe_checkpoint(path) == describe_checkpoint(path / "model.safetensors") == info


def test_an_offline_miss_says_so(cache):
    for hub_id, revision in [("someone/else", None), ("someone/glpn-kitti-small", "v2")]:
        with refused(
            CheckpointError, got="offline mode forbids", fix="run once without offline mode"
        ) as caught:
            GLPNForDepthEstimation.from_pretrained(hub_id, revision=revision, offline=True, cache_dir=cache)
        assert hub_id in str(caught.value)


@pytest.fixture(params=["refuses", "hangs"])
def cut_off(request, monkeypatch):
    """A hub that refuses connections, or takes them and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        if request.param == "refuses":
            server.close()
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        monkeypatch.setattr(hub, "_PATIENCE_S", 0.3)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        yield


def test_a_cached_model_without_a_hub_is_there_at_once_and_said_in_a_line(cut_off, cache, monkeypatch):
    """The hub's client asks six times, with pauses: that took 24 s."""
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waits {seconds} s for the hub"))
    with pytest.warns(UserWarning, match=f"cannot be reached .*taken from its cache, at commit {COMMIT[:8]}"):
        path = resolve_checkpoint("someone/glpn-kitti-small", HubOptions(cache_dir=cache))
    assert path.name == COMMIT


def test_a_bundle_in_the_hubs_cache_is_a_source(tiny_bundle, tmp_path, monkeypatch):
    """Its files are links into blobs there; a link to anywhere else is refused as ever."""
    repository = tmp_path / "hub" / "models--someone--bundle"
    snapshot, blobs = repository / "snapshots" / COMMIT, repository / "blobs"
    shutil.copytree(tiny_bundle, snapshot)
    blobs.mkdir()
    for number, file in enumerate(sorted(f for f in snapshot.rglob("*") if f.is_file())):
        file.rename(blobs / str(number))
        file.symlink_to(os.path.relpath(blobs / str(number), file.parent))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    with DepthEstimator.load(tiny_bundle, "onnxruntime") as estimator:
        expected = estimator(image).depth
    with DepthEstimator.load("someone/bundle", "onnxruntime", offline=True) as estimator:
        np.testing.assert_array_equal(estimator(image).depth, expected)
    (snapshot / "golden" / "0.npy").unlink()
    (snapshot / "golden" / "0.npy").symlink_to(tmp_path / "secret")
    with refused(BundleError, got="outside the bundle"):
        DepthEstimator.load("someone/bundle", "onnxruntime", offline=True)


class Hub:
    """Stands in for ``snapshot_download``: "downloads" what the patterns ask for."""

    def __init__(self, folder, *files):
        self.folder, self.files, self.calls = folder, files, []

    def __call__(self, repo_id, **options):
        if options["local_files_only"]:
            raise errors.LocalEntryNotFoundError("nothing is in the cache")
        self.calls.append((repo_id, options))
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in self.files:
            if any(fnmatch.fnmatch(name, pattern) for pattern in options["allow_patterns"]):
                (self.folder / name).write_text("---\nlicense: mit\n---\n")
        return str(self.folder)


def test_only_what_is_needed_is_downloaded(tmp_path, monkeypatch):
    files = ("config.json", "model.safetensors", "pytorch_model.bin", "tf_model.h5", "LICENSE", "README.md")
    stand_in = Hub(tmp_path / COMMIT, *files)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", stand_in)
    folder = resolve_checkpoint("vinvino02/glpn-nyu", HubOptions(revision="v1", cache_dir=tmp_path))
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors", "LICENSE", "README.md"}
    assert {repo for repo, _ in stand_in.calls} == {"vinvino02/glpn-nyu"}
    assert [options["revision"] for _, options in stand_in.calls] == ["v1", COMMIT]
    assert all(options["cache_dir"] == tmp_path for _, options in stand_in.calls)
    assert not any(options["local_files_only"] for _, options in stand_in.calls)


def test_the_pickle_is_downloaded_where_there_are_no_safetensors(tmp_path, monkeypatch):
    stand_in = Hub(tmp_path / COMMIT, "config.json", "pytorch_model.bin", "optimizer.bin")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", stand_in)
    folder = resolve_checkpoint("vinvino02/glpn-nyu")
    assert {p.name for p in folder.iterdir()} == {"config.json", "pytorch_model.bin"}


def test_a_model_without_a_readme_is_no_failure(tmp_path, monkeypatch):
    stand_in = Hub(tmp_path / COMMIT, "config.json", "model.safetensors")

    def download(repo_id, **options):
        if "README.md" in options["allow_patterns"]:
            raise errors.LocalEntryNotFoundError("no README in the cache")
        return stand_in(repo_id, **options)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve_checkpoint("vinvino02/glpn-nyu").name == COMMIT


@pytest.mark.parametrize("progress", [True, False])
@pytest.mark.parametrize("terminal", [True, False])
def test_progress_bars_show_on_a_terminal_only_and_are_left_as_they_were(
    tmp_path, monkeypatch, progress, terminal
):
    seen = []

    def download(repo_id, **options):
        seen.append(are_progress_bars_disabled())
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    before = are_progress_bars_disabled()
    resolve_checkpoint("vinvino02/glpn-nyu", HubOptions(progress=progress))
    assert set(seen) == {not (progress and terminal)}
    assert are_progress_bars_disabled() == before


def http_error(kind, message="404 Client Error."):
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    return error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            http_error(errors.RepositoryNotFoundError),
            "the hub has no public model of that name; expected a checkpoint",
        ),
        (http_error(errors.GatedRepoError), "only to people who accepted its terms; accept them at https://"),
        (
            http_error(errors.RevisionNotFoundError),
            "the hub's a/b has no revision 'v9'; choose one listed at",
        ),
        (errors.HFValidationError("Repo id must ..."), "'a/b' is no folder here and no valid hub id"),
        (
            errors.LocalEntryNotFoundError("Got: ConnectError: [Errno -2]\nAn error"),
            "(Got: ConnectError: [Errno -2])",
        ),
        (
            http_error(errors.HfHubHTTPError, "503 Server Error"),
            "at revision 'v9' could not be fetched from the hub (503",
        ),
        (OSError(28, "No space left on device"), "No space left on device); expected a folder 'a/b'"),
        (TimeoutError(), "could not be fetched from the hub (TimeoutError)"),
    ],
)
def test_every_answer_of_the_hub_has_its_sentence(monkeypatch, error, text):
    def download(repo_id, **options):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(CheckpointError) as caught:
        GLPNForDepthEstimation.from_pretrained("a/b", revision="v9")
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ctrl_c_passes(monkeypatch):
    def download(repo_id, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(KeyboardInterrupt):
        GLPNForDepthEstimation.from_pretrained("a/b")


@pytest.mark.parametrize(
    "source",
    [
        "",
        "glpn-nyu",
        "./a/b",
        "../b",
        "/no/such/folder",
        "a/b/c",
        "a b/c",
        "runs/best.ckpt",
        "a\\b",
        "x" * 5000,
        "nul\0byte",
        "~nobody-of-that-name/x",
        "https://huggingface.co/a/b",
    ],
)
def test_what_is_neither_a_path_nor_a_hub_id_is_refused_without_asking_the_hub(source, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: pytest.fail("asked the hub"))
    with refused(CheckpointError, got="there is no file or folder", expected="a checkpoint folder"):
        resolve_checkpoint(source)


def test_local_paths_come_back_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert str(resolve_checkpoint("owner/name")) == "owner/name", "a folder wins over the hub"
    (tmp_path / "x.ckpt").write_bytes(b"")
    assert resolve_checkpoint(tmp_path / "x.ckpt") == tmp_path / "x.ckpt"


def test_without_huggingface_hub_the_pip_line_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with refused(MissingDependencyError, fix=install_line("export")):
        resolve_checkpoint("vinvino02/glpn-nyu")


def test_without_safetensors_the_pip_line_is_named(cache, monkeypatch):
    folder = resolve_checkpoint("someone/glpn-kitti-small", HubOptions(offline=True, cache_dir=cache))
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with refused(MissingDependencyError, fix=install_line("export")):
        GLPNForDepthEstimation.from_pretrained(folder, max_depth=80)
