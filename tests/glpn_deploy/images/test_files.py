"""The images that a person names: files, folders, globs; and a name for each one's results."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from glpn_deploy.errors import ImageError
from glpn_deploy.images import files
from glpn_deploy.images.files import find_images, unique_stems


@pytest.fixture
def shots(tmp_path, monkeypatch):
    """A folder as people have them, which the test stands beside."""
    folder = tmp_path / "shots"
    (folder / "more").mkdir(parents=True)
    for name in ("b.JPG", "a.png", "notes.txt", "paper.pdf", "c.webp", "more/d.png", "[1].png"):
        (folder / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return folder


pytestmark = pytest.mark.filterwarnings("ignore:Passed over")


def names(paths: list[Path]) -> list[str]:
    return [path.as_posix() for path in paths]


def test_a_folder_gives_what_pillow_reads_in_order(shots):
    found = names(find_images(["shots"]))
    assert found == ["shots/[1].png", "shots/a.png", "shots/b.JPG", "shots/c.webp"]


def test_every_suffix_taken_is_one_that_pillow_opens(tmp_path):
    for suffix in Image.registered_extensions():
        (tmp_path / f"x{suffix}").touch()
    readable = Image.OPEN
    for path in find_images([str(tmp_path)]):
        assert Image.registered_extensions()[path.suffix] in readable


def test_what_is_passed_over_is_counted_and_named(shots, monkeypatch):
    monkeypatch.setattr(files, "readable_formats", lambda: ("PNG", "JPEG", "WEBP"))
    (shots / "IMG_1.HEIC").touch()
    with pytest.warns(UserWarning, match=r"3 files .*IMG_1\.HEIC, notes\.txt, paper\.pdf\..*heif") as told:
        assert len(find_images(["shots"])) == 4
    assert len(told) == 1
    (shots.parent / "phone").mkdir()
    (shots.parent / "phone" / "IMG_2.heic").touch()
    with pytest.raises(ImageError) as refused:
        find_images(["phone"])
    assert "heif" in refused.value.fix


def test_results_and_hidden_files_are_no_images(shots):
    for name in ("a.depth_mm.png", "a.depth_color.png", "a.depth.tiff", "a.depth.npy", "._a.png", "a.ply"):
        (shots / name).touch()
    for name in ("notes.txt", "paper.pdf"):
        (shots / name).unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert names(find_images(["shots"])) == [
            "shots/[1].png",
            "shots/a.png",
            "shots/b.JPG",
            "shots/c.webp",
        ]
        assert names(find_images(["shots/a*.png"])) == ["shots/a.png"]
        assert names(find_images(["shots/a.depth_mm.png"])) == ["shots/a.depth_mm.png"]


def test_globs(shots):
    assert names(find_images(["shots/*.png"])) == ["shots/[1].png", "shots/a.png"]
    assert names(find_images(["shots/**/*.png"])) == ["shots/[1].png", "shots/a.png", "shots/more/d.png"]
    assert names(find_images([str(shots / "[ab].*")])) == [(shots / n).as_posix() for n in ("a.png", "b.JPG")]


def test_a_file_is_taken_by_its_name_whatever_it_is(shots):
    assert names(find_images(["shots/notes.txt", "shots/[1].png"])) == ["shots/notes.txt", "shots/[1].png"]


def test_each_path_once_in_the_order_named(shots):
    found = names(find_images(["shots/c.webp", "shots", "./shots/c.webp"]))
    assert found == ["shots/c.webp", "shots/[1].png", "shots/a.png", "shots/b.JPG"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.png", "nowhere.png: nothing is there; expected an image, a folder"),
        ("shots/*.gif", "nothing is there"),
        ("empty", "empty: the folder has no images"),
        ("x" * 5000, "cannot be read"),
        ("nul\0.png", "nothing is there"),
    ],
)
def test_nothing_found(name, words, shots):
    (shots.parent / "empty").mkdir()
    with pytest.raises(ImageError, match=words):
        find_images([name])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(shots):
    shots.chmod(0)
    try:
        with pytest.raises(ImageError, match="Permission denied"):
            find_images(["shots"])
    finally:
        shots.chmod(0o755)


@pytest.mark.parametrize(
    ("paths", "stems"),
    [
        (["x/a.png", "x/b.png"], ["a", "b"]),
        (["a.png", "a.jpg"], ["a_png", "a_jpg"]),
        (["x/a.png", "y/a.png"], ["x_a_png", "y_a_png"]),
        (["p/x/a.png", "q/x/a.png"], ["x_a_png", "x_a_png_2"]),
        ([], []),
    ],
)
def test_stems_tell_paths_apart(paths, stems):
    assert unique_stems([Path(path) for path in paths]) == stems


@given(
    st.lists(st.sampled_from(["p/x/a.png", "q/x/a.png", "r/x/a.png", "x/a.png_2", "q/x/a_png.2", "a.jpg"]))
)
def test_stems_are_always_unique(paths):
    stems = unique_stems([Path(path) for path in paths])
    assert len(set(stems)) == len(stems) == len(paths)
