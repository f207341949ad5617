"""Videos written frame by frame, and what is left of them after a cut."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="videos are written with PyAV (the extra video)")

from glpn_deploy.errors import VideoError, WriteError  # noqa: E402
from glpn_deploy.video import encoding, frames  # noqa: E402
from glpn_deploy.video.encoding import UNITS_TAG, ClipWriter, read_depth_video  # noqa: E402

STAMPS = [47, 3000, 3001, 9000, 45000]


@pytest.mark.parametrize("shape", [(64, 96), (51, 77)])
def test_depth_comes_back_bit_for_bit(tmp_path, shape):
    stored = np.random.default_rng(0).integers(0, 65536, (len(STAMPS), *shape), dtype=np.uint16)
    writer = ClipWriter(tmp_path / "depth.mkv", {UNITS_TAG: "256"})
    for units, stamp in zip(stored, STAMPS, strict=True):
        writer.write(units, stamp, Fraction(1, 90000))
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["depth.mkv"]
    found = list(read_depth_video(tmp_path / "depth.mkv"))
    for frame, units in zip(found, stored, strict=True):
        np.testing.assert_array_equal(frame.units, units)
        np.testing.assert_array_equal(frame.depth, units / np.float32(256))
    times = [frame.time for frame in found]
    np.testing.assert_allclose(times, np.array(STAMPS) / 90000, atol=0.0011)  # 1 ms, and none twice
    assert len(set(times)) == len(times)


def test_pictures_keep_their_colours_and_exact_times(tmp_path, pictures):
    odd = [picture[:63, :95] for picture in pictures[: len(STAMPS)]]
    writer = ClipWriter(tmp_path / "color.mp4")
    for picture, stamp in zip(odd, STAMPS, strict=True):
        writer.write(picture, stamp, Fraction(1, 90000))
    writer.close()
    with frames(tmp_path / "color.mp4") as clip:
        found = list(clip)
    assert [frame.pts * frame.time_base for frame in found] == [Fraction(stamp, 90000) for stamp in STAMPS]
    for frame, picture in zip(found, odd, strict=True):
        assert frame.image.shape == (64, 96, 3)
        error = frame.image[:63, :95].astype(int) - picture
        assert np.abs(error).mean() < 5
        assert np.abs(error.mean((0, 1))).max() < 1.5  # no colour leans: the matrix is the one that is tagged
    with av.open(str(tmp_path / "color.mp4")) as container:
        assert container.streams.video[0].codec_context.colorspace == 1  # BT.709


@pytest.mark.parametrize("name", ["color.mp4", "depth.mkv"])
def test_a_killed_process_leaves_a_file_that_plays(tmp_path, name):
    """What is on the disk while the writer is open, less its last bytes."""
    rng = np.random.default_rng(0)
    writer = ClipWriter(tmp_path / name, {UNITS_TAG: "1000"})
    for stamp in range(150):
        if name == "depth.mkv":
            picture = rng.integers(0, 65536, (64, 64), dtype=np.uint16)
        else:
            picture = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        writer.write(picture, stamp, Fraction(1, 30))
    partial = tmp_path / name.replace(".", ".partial.")
    assert not (tmp_path / name).exists()
    cut = tmp_path / f"cut-{name}"
    cut.write_bytes(partial.read_bytes()[:-100])
    played = []
    with av.open(str(cut)) as container:
        try:
            for frame in container.decode(video=0):
                played.append(frame.pts)
        except av.InvalidDataError:
            pass
    assert len(played) >= 80  # of 150: one or two seconds are lost
    writer.close()
    assert len(list(frames(tmp_path / name))) == 150


def test_the_file_before_stays_until_the_new_one_is_done(tmp_path):
    path = tmp_path / "depth.mkv"
    path.write_bytes(b"old")
    ClipWriter(path).close()  # without a frame there is no new one
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["depth.mkv"]


def test_a_size_that_changes(tmp_path):
    writer = ClipWriter(tmp_path / "depth.mkv")
    writer.write(np.zeros((48, 64), np.uint16), 0, Fraction(1, 30))
    with pytest.raises(VideoError) as error:
        writer.write(np.zeros((64, 48), np.uint16), 1, Fraction(1, 30))
    assert "64x48 to 48x64" in error.value.got
    writer.close()
    assert len(list(frames(tmp_path / "depth.mkv"))) == 1


def test_a_missing_encoder(tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "_PICTURE_CODECS", ("libnothing",))
    with pytest.raises(VideoError) as error:
        ClipWriter(tmp_path / "color.mp4")
    assert "no H.264 encoder" in error.value.got
    assert "--save png" in error.value.fix


def test_another_encoder_where_x264_is_missing(tmp_path, monkeypatch, pictures):
    monkeypatch.setattr(encoding, "_PICTURE_CODECS", ("libnothing", "mpeg4"))
    writer = ClipWriter(tmp_path / "color.mp4")
    writer.write(pictures[0], 0, Fraction(1, 30))
    writer.close()
    (frame,) = frames(tmp_path / "color.mp4")
    assert np.abs(frame.image.astype(int) - pictures[0]).mean() < 12


def test_no_such_folder(tmp_path):
    with pytest.raises(WriteError):
        ClipWriter(tmp_path / "nowhere" / "color.mp4")


def test_a_full_disk(tmp_path):
    if not (full := Path("/dev/full")).exists():
        pytest.skip("/dev/full stands for a full disk; this system has none")
    (tmp_path / "depth.partial.mkv").symlink_to(full)
    writer = ClipWriter(tmp_path / "depth.mkv")

    def fill():
        for stamp in range(40):
            writer.write(np.zeros((64, 64), np.uint16), stamp, Fraction(1, 30))
        writer.close()

    with pytest.raises(WriteError) as error:
        fill()
    assert "could not be written" in error.value.got


def test_other_videos_are_no_depth(make_clip, tmp_path):
    (tmp_path / "x.mkv").write_bytes(b"x")
    for path in (make_clip(), tmp_path / "x.mkv", tmp_path / "nowhere.mkv"):
        with pytest.raises(VideoError):
            list(read_depth_video(path))
