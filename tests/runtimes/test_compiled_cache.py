"""A cache never fails and never gives out what was changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from glpn_deploy.runtimes import compiled_cache
from glpn_deploy.runtimes.compiled_cache import CompiledCache, files_digest


@pytest.fixture
def cache(tmp_path):
    return CompiledCache(tmp_path / "deep" / "cache", limit_bytes=1000)


def test_what_is_written_is_read(cache):
    assert cache.read("a") is None
    cache.write("a", b"content")
    assert bytes(cache.read("a")) == b"content"
    cache.write("a", b"other")
    assert bytes(cache.read("a")) == b"other"
    assert cache.has("a")
    assert not cache.has("b")
    cache.remove("a")
    cache.remove("a")
    assert cache.read("a") is None


@pytest.mark.parametrize("at", [0, 31, 32, 40])
def test_a_changed_byte_is_found_and_the_entry_removed(at, cache, tmp_path):
    cache.write("a", b"a longer content")
    (path,) = (tmp_path / "deep" / "cache").iterdir()
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    assert cache.read("a") is None
    assert not path.exists()


def test_what_is_read_starts_at_a_page(cache):
    for size in (1, 700):
        cache.write("a", bytes(size))
        content = cache.read("a")
        assert content.size == size
        assert content.ctypes.data % 4096 == 0


@pytest.mark.parametrize("change", ["byte", "order", "cut", "longer"])
def test_content_of_many_blocks_is_held_to_its_digest(change, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(compiled_cache, "_BLOCK", 8)
    whole = bytes(range(61))
    cache.write("a", whole)
    assert bytes(cache.read("a")) == whole
    (path,) = (tmp_path / "deep" / "cache").iterdir()
    written = path.read_bytes()
    head, body = written[:32], written[32:]
    changed = {
        "byte": body[:50] + b"!" + body[51:],
        "order": body[8:16] + body[:8] + body[16:],
        "cut": body[:-8],
        "longer": body + body[:8],
    }
    path.write_bytes(head + changed[change])
    assert cache.read("a") is None


@pytest.mark.parametrize("kept", [0, 10, 32, 40])
def test_a_cut_entry_is_removed(kept, cache, tmp_path):
    cache.write("a", b"a longer content")
    (path,) = (tmp_path / "deep" / "cache").iterdir()
    path.write_bytes(path.read_bytes()[:kept])
    assert cache.read("a") is None
    assert not path.exists()


def test_the_entries_not_used_for_longest_make_room(cache, tmp_path):
    for age, name in ((300, "a"), (200, "b"), (100, "c")):
        cache.write(name, bytes(250))
        path = next((tmp_path / "deep" / "cache").glob(f"{name}.*"))
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    assert cache.read("a") is not None  # used now
    cache.write("d", bytes(250))
    assert [name for name in "abcd" if cache.has(name)] == ["a", "c", "d"]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        cache = CompiledCache(folder)
        cache.write("a", b"content")
        assert cache.read("a") is None
        assert not cache.has("a")


def test_a_full_disk_leaves_nothing(cache, tmp_path, monkeypatch):
    def full(path, mode):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    cache.write("a", b"content")
    assert list((tmp_path / "deep" / "cache").iterdir()) == []


def test_the_digest_is_of_the_content_of_every_file(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"12")
    b.write_bytes(b"3")
    first = files_digest([a, b])
    assert first == files_digest([a, b])
    a.write_bytes(b"1")
    b.write_bytes(b"23")
    assert files_digest([a, b]) != first
