"""Small files from anyone: regular ones alone, bounded."""

from __future__ import annotations

import os

import pytest

from glpn_deploy.reading import MOST_TEXT_BYTES, check_regular, is_regular, parse_json, read_json, read_text


@pytest.fixture
def place(tmp_path):
    (tmp_path / "file").write_text('{"a": [1]}', encoding="utf-8")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "link").symlink_to("file")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(3 << 30)
    return tmp_path


@pytest.mark.parametrize("name", ["file", "link"])
def test_a_file(name, place):
    assert check_regular(place / name) == 10
    assert is_regular(place / name)
    assert read_json(place / name) == {"a": [1]}


@pytest.mark.parametrize("name", ["pipe", "device", "circle", "missing", ".", "x" * 300, "sparse"])
def test_what_is_none(name, place):
    with pytest.raises(OSError, match=r"\w"):
        read_text(place / name)
    assert is_regular(place / name) == (name == "sparse")


def test_a_name_that_no_file_has(place):
    assert not is_regular(place / "a\0b")


def test_the_limit_is_what_it_says(place):
    (place / "file").write_bytes(b" " * MOST_TEXT_BYTES)
    assert len(read_text(place / "file")) == MOST_TEXT_BYTES
    (place / "file").write_bytes(b" " * (MOST_TEXT_BYTES + 1))
    with pytest.raises(OSError, match="larger than 8 MiB"):
        read_text(place / "file")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[" * 65 + "]" * 65,
        '{"a":' * 65 + "1" + "}" * 65,
        "",
        "NaN1",
    ],
)
def test_json_that_is_none_or_too_deep(text):
    with pytest.raises(ValueError, match=r"\w"):
        parse_json(text)


def test_json_of_a_depth_within_reason():
    assert parse_json("[" * 63 + "]" * 63)
