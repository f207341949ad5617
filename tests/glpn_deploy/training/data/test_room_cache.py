"""The cache of rendered rooms holds what the renderer gives, whole or not at all."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from glpn_deploy.datasets import rooms as rooms_module
from glpn_deploy.datasets.rooms import RenderedRooms
from glpn_deploy.errors import DatasetError, WriteError
from glpn_deploy.training.data import room_cache
from glpn_deploy.training.data.room_cache import CachedRooms, cached_rooms
from tests.refusals import refused

ROOMS = RenderedRooms("val", 5, height=32, width=48, start=3)


def cached(folder: Path, workers: int = 1) -> CachedRooms:
    return cached_rooms(ROOMS, folder, workers=workers)


@pytest.mark.parametrize("workers", [1, 2])
def test_cached_rooms_are_the_rendered_ones(workers, tmp_path):
    kept = cached(tmp_path / "cache", workers)
    assert (len(kept), kept.name, kept.max_depth, kept.crop) == (5, "rooms", 10.0, None)
    for index in range(5):
        assert kept[index].name == ROOMS[index].name
        np.testing.assert_array_equal(kept[index].image, ROOMS[index].image)
        np.testing.assert_allclose(kept[index].depth, ROOMS[index].depth, rtol=5e-4)


def test_second_run_reads_what_the_first_one_rendered(tmp_path, monkeypatch):
    cached(tmp_path)
    rendered = []
    render = rooms_module.render_room
    monkeypatch.setattr(rooms_module, "render_room", lambda *a: rendered.append(a[0]) or render(*a))
    cached(tmp_path)
    assert len(rendered) == 3  # one for the first seed, two to compare


def test_other_sizes_and_seeds_have_caches_of_their_own(tmp_path):
    cached(tmp_path)
    other = RenderedRooms("val", 5, height=32, width=48)
    again = cached_rooms(other, tmp_path, workers=1)
    np.testing.assert_array_equal(again[0].image, other[0].image)
    assert len(list(tmp_path.iterdir())) == 2


def test_fewer_rooms_are_read_from_the_cache_of_more(tmp_path):
    cached(tmp_path)
    fewer = RenderedRooms("val", 2, height=32, width=48, start=3)
    kept = cached_rooms(fewer, tmp_path, workers=1)
    assert (len(kept), len(list(tmp_path.iterdir()))) == (2, 1)
    np.testing.assert_array_equal(kept[1].image, fewer[1].image)


def test_interrupted_rendering_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(room_cache, "_render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_cache_of_another_renderer_is_refused_with_the_line_that_mends_it(tmp_path):
    folder = cached(tmp_path).folder
    np.lib.format.open_memmap(folder / "depth.npy", "r+")[4] += 1
    with refused(DatasetError, got="does not hold what the renderer gives today", fix="rm -r"):
        cached(tmp_path)


def test_damaged_cache_is_refused_with_the_line_that_mends_it(tmp_path):
    folder = cached(tmp_path).folder
    (folder / "images.npy").write_bytes(b"")
    with refused(DatasetError, got="cannot be read", fix="rm -r"):
        cached(tmp_path)


def test_full_disk_is_refused_before_rendering(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with refused(WriteError, got=("the rooms take 0.0 GB and", "has 0.0 GB free")):
        cached(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_pickled_for_a_worker_process_it_carries_no_pixels(tmp_path):
    kept = cached(tmp_path)
    kept[0]
    content = pickle.dumps(kept)
    assert len(content) < 1000
    np.testing.assert_array_equal(pickle.loads(content)[2].image, kept[2].image)
