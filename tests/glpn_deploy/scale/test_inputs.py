"""What INPUT means, and that results never leave their folder; without Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from glpn_deploy.errors import InputError, MissingDependencyError
from glpn_deploy.scale.options import BatchOptions

pytest.importorskip("pyarrow", reason="the extra ray brings it")

from glpn_deploy.scale.inputs import find_source
from glpn_deploy.scale.storage import Folder, relative_name


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.PNG", "sub/c.jpg", "sub/deep/d.jpeg", "e.txt", ".hidden.jpg", "f.depth_mm.png"):
        path = tmp_path / "shots" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "shots"


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("", ["a.jpg", "b.PNG", "sub/c.jpg", "sub/deep/d.jpeg"]),
        ("/*.jpg", ["a.jpg"]),
        ("/**/*.jp*g", ["a.jpg", "sub/c.jpg", "sub/deep/d.jpeg"]),
        ("/*/*.jpg", ["sub/c.jpg"]),
        ("/[!a].*", ["b.PNG"]),
        ("/?.jpg", ["a.jpg"]),
    ],
)
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_folders_and_globs(shots: Path, given: str, names: list[str], scheme: str) -> None:
    found = find_source(f"{scheme}{shots}{given}")
    assert found.kind == "listed"
    assert [path for path, _ in found.images] == [f"{shots}/{name}" for name in names]
    assert [name for _, name in found.images] == names


def test_a_list(shots: Path) -> None:
    file = shots / "list.txt"
    file.write_text(f"a.jpg\n\n{shots}/sub/c.jpg\na.jpg\n../shots/b.PNG\n")
    found = find_source(str(file))
    assert [path for path, _ in found.images] == [
        f"{shots}/a.jpg",
        f"{shots}/sub/c.jpg",
        f"{shots}/../shots/b.PNG",
    ]
    assert [name for _, name in found.images] == ["a.jpg", f"{shots}/sub/c.jpg"[1:], "__/shots/b.PNG"]


@pytest.mark.parametrize(("suffix", "kind"), [(".parquet", "parquet"), (".tar", "webdataset")])
def test_shards_come_before_images(shots: Path, suffix: str, kind: str) -> None:
    for name in ("0", "1"):
        (shots / (name + suffix)).touch()
    for given in (shots, f"{shots}/*{suffix}", f"{shots}/0{suffix}"):
        found = find_source(str(given))
        assert found.kind == kind
        assert found.files[0] == f"{shots}/0{suffix}"


@pytest.mark.parametrize("given", ["nowhere", "shots/*.bmp", "shots/e.txt", "nosuch://x/y"])
def test_nothing_is_said(shots: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.chdir(shots.parent)
    with pytest.raises(InputError):
        find_source(given)


def test_an_image_in_place_of_a_list(shots: Path) -> None:
    (shots / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(InputError) as caught:
        find_source(str(shots / "a.jpg"))
    assert "glpn-predict" in caught.value.expected


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("s3://bucket/a/b.jpg", "bucket/a/b.jpg"),
        ("/etc/../b.jpg", "etc/__/b.jpg"),
        ("../../b.jpg", "__/__/b.jpg"),
        ("./a//b", "a/b"),
    ],
)
def test_names_stay_within(address: str, name: str) -> None:
    assert relative_name(address) == name


def test_writing_is_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = Folder.of(str(tmp_path))
    folder.write("deep/a", b"old")

    def half() -> None:
        with folder.writing("deep/a") as stream:
            stream.write(b"ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert folder.read("deep/a") == b"old"
    assert folder.files("deep") == ["deep/a"]


@pytest.mark.parametrize(
    "wrong", [{"address": "ray://head:10001"}, {"gpus_per_worker": 1.5}, {"workers": 0}, {"into": "zip"}]
)
def test_options(wrong: dict) -> None:
    with pytest.raises(InputError):
        BatchOptions(**wrong)


def test_without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from glpn_deploy.scale.batch import run_batch

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError):
        run_batch("demo", str(tmp_path), str(tmp_path / "out"))
