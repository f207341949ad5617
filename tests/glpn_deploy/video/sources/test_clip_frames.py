"""Frames of clips: pixels, timestamps, rotation and choice; and clips that are cut, empty or no clips."""

from __future__ import annotations

import struct
from fractions import Fraction

import numpy as np
import pytest

av = pytest.importorskip("av", reason="clips are made and read with PyAV (the extra video)")

from glpn_deploy.errors import InputError, VideoError  # noqa: E402
from glpn_deploy.video import FrameOptions, frames  # noqa: E402


def test_pixels_order_and_times(make_clip, pictures):
    with frames(make_clip()) as clip:
        assert clip.total == len(pictures)
        found = list(clip)
    for index, (frame, picture) in enumerate(zip(found, pictures, strict=True)):
        np.testing.assert_array_equal(frame.image, picture)
        assert frame.index == index
        assert frame.time == pytest.approx(index / 30, abs=0.0005)  # MKV counts milliseconds


@pytest.mark.parametrize(
    ("time_base", "pts"),
    [
        (Fraction(1, 90000), [0, 3100, 3101, 9000, 45000, 45001, 90000, 90900, 99999]),
        (Fraction(1001, 30000), range(9)),
        (Fraction(1, 600), [60, 80, 81, 82, 100, 200, 201, 300, 999]),
    ],
)
def test_timestamps_of_variable_rate_are_exact(make_clip, time_base, pts):
    clip = make_clip("clip.mp4", pts=pts, time_base=time_base)
    found = [frame.pts * frame.time_base for frame in frames(clip)]
    assert found == [stamp * time_base for stamp in pts]


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_rotation_is_honoured(make_clip, pictures, turns):
    """The matrices of ISO/IEC 14496-12's track header for a picture to be turned clockwise on show."""
    clip = make_clip("clip.mp4", pictures[:1])
    data = bytearray(clip.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    cosine, sine = [(1, 0), (0, 1), (-1, 0), (0, -1)][turns]
    one = 1 << 16
    data[at : at + 36] = struct.pack(
        ">9i", cosine * one, sine * one, 0, -sine * one, cosine * one, 0, 0, 0, 1 << 30
    )
    clip.write_bytes(data)
    (frame,) = frames(clip)
    upright = np.rot90(pictures[0], -turns)  # rot90 turns counter-clockwise
    assert frame.image.shape == upright.shape
    assert np.abs(frame.image.astype(int) - upright).mean() < 4


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ({"every": 4}, [0, 4, 8]),
        ({"start": 0.1}, [3, 4, 5, 6, 7, 8]),
        ({"end": 0.1}, [0, 1, 2]),
        ({"start": 0.06, "end": 0.2, "every": 2}, [2, 4]),
        ({"fps": 10}, [0, 3, 6]),
        ({"fps": 100}, range(9)),
    ],
)
def test_which_frames_are_taken(make_clip, pictures, options, taken):
    clip = make_clip("clip.mp4")  # a key frame every four
    whole = [frame.image for frame in frames(clip)]
    with frames(clip, FrameOptions(**options)) as source:
        total, found = source.total, list(source)
    assert [frame.pts * frame.time_base for frame in found] == [Fraction(index, 30) for index in taken]
    for frame, index in zip(found, taken, strict=True):
        np.testing.assert_array_equal(frame.image, whole[index])
    assert abs(total - len(taken)) <= 1


@pytest.mark.parametrize(
    "options",
    [{"every": 0}, {"start": -1}, {"start": 2, "end": 1}, {"fps": 0}, {"timeout": 0}, {"reconnects": -1}],
)
def test_options_out_of_range(options):
    with pytest.raises(InputError):
        FrameOptions(**options)


def test_nothing_between_start_and_end(make_clip):
    with pytest.raises(VideoError) as error:
        list(frames(make_clip(), FrameOptions(start=5)))
    assert "--start" in error.value.got


def test_a_cut_mp4_has_no_index(make_clip):
    clip = make_clip("clip.mp4")
    data = clip.read_bytes()
    clip.write_bytes(data[: data.index(b"moov") - 4])  # which stands at the end
    with pytest.raises(VideoError) as error:
        frames(clip)
    assert "cannot be opened" in error.value.got
    assert "cut off" in error.value.fix


def test_a_cut_mp4_with_its_index_first_gives_what_is_there(make_clip, pictures):
    clip = make_clip("clip.mp4", movflags="faststart")
    data = clip.read_bytes()
    clip.write_bytes(data[: data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2])
    found = []
    with pytest.raises(VideoError) as error:
        found.extend(frame.pts for frame in _each(frames(clip), found))
    assert "cut or damaged" in error.value.got
    assert 0 < len(found) < len(pictures)


def _each(source, kept):
    for frame in source:
        kept.append(frame)
        yield frame


def test_a_clip_without_video(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate, sound.pts = 8000, 0
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(VideoError) as error:
        frames(tmp_path / "sound.mp4")
    assert "no video stream" in error.value.got


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "said"),
    [("a.mkv", "ffv1", "bgr0", "has no frame"), ("a.mp4", "mpeg4", "yuv420p", "holds no video stream")],
)
def test_a_clip_without_frames(tmp_path, name, codec, pixels, said):
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=30)
        stream.width = stream.height = 64
        stream.pix_fmt = pixels
        container.start_encoding()
    with pytest.raises(VideoError) as error:
        list(frames(tmp_path / name))
    assert said in error.value.got


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 100])
def test_no_clip_at_all(tmp_path, content):
    (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(VideoError):
        frames(tmp_path / "clip.mp4")
    with pytest.raises(VideoError) as error:
        frames(tmp_path / "nowhere.mp4")
    assert "there is no file" in error.value.got


def test_a_playlist_does_not_lead_elsewhere(tmp_path, make_clip):
    """FFmpeg's playlists name files and addresses, which a clip from a stranger must not open."""
    make_clip("secret.mkv")
    (tmp_path / "list.m3u8").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(VideoError):
        frames(tmp_path / "list.m3u8")


def test_a_clip_that_is_closed_ends(make_clip):
    with frames(make_clip()) as clip:
        found = iter(clip)
        next(found)
    assert list(found) == []
    with frames(make_clip()) as clip:
        found = iter(clip)
    assert list(found) == []
