"""A whole clip: files against the estimator's own depth, and what is kept when it ends before its time."""

from __future__ import annotations

import json
import threading
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("av", reason="videos are read and written with PyAV (the extra video)")

from glpn_deploy import DepthEstimator, DepthMap, GLPNImageProcessor
from glpn_deploy.errors import ImageError, InputError, VideoError
from glpn_deploy.runtimes.rt_null import NullRuntime
from glpn_deploy.video import FrameOptions, frames
from glpn_deploy.video.encoding import read_depth_video
from glpn_deploy.video.frame import Frame, FrameSource
from glpn_deploy.video.options import VideoOptions
from glpn_deploy.video.outputs import KINDS
from glpn_deploy.video.predicting import predict_video, stem_of
from glpn_deploy.video.sources.live_frames import LiveFrames


def test_every_kind_of_file(brightness, make_clip, pictures, tmp_path):
    clip = make_clip(pts=[0, 1, 2, 3, 5, 8, 13, 21, 34])
    report = predict_video(brightness, frames(clip), tmp_path / "out", VideoOptions(save=KINDS))
    assert (report.frames, report.ended, report.live) == (9, "", None)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        f"clip.depth{end}" for end in ("_color.mp4", "_side.mp4", "_below.mp4", "_mm.mkv", "_mm", ".jsonl")
    )
    expected = [brightness(picture) for picture in pictures]
    pngs = sorted(report.files["png"].iterdir())
    lines = [json.loads(line) for line in report.files["jsonl"].read_text().splitlines()]
    stored = list(read_depth_video(report.files["mm"]))
    assert len(stored) == len(pngs) == len(lines) == 9
    for depth_map, frame, png, line, stamp in zip(
        expected, stored, pngs, lines, (0, 1, 2, 3, 5, 8, 13, 21, 34), strict=True
    ):
        np.testing.assert_array_equal(frame.units, np.rint(depth_map.depth * np.float32(1000)))
        np.testing.assert_array_equal(np.asarray(Image.open(png)), frame.units)
        assert frame.time == pytest.approx(stamp / 30, abs=0.001)
        assert line["time_s"] == pytest.approx(stamp / 30, abs=0.001)
        assert Fraction(line["time_base"]) * line["pts"] == pytest.approx(line["time_s"], abs=1e-6)
        figures = [line["min_m"], line["median_m"], line["max_m"]]
        depth = depth_map.depth
        assert figures == pytest.approx([depth.min(), np.median(depth), depth.max()], abs=1e-4)
    for kind, at in (("side", (slice(None), slice(96))), ("below", (slice(64), slice(96)))):
        shown = [frame.image for frame in frames(report.files[kind])]
        for image, picture in zip(shown, pictures, strict=True):
            assert np.abs(image[at].astype(int) - picture).mean() < 5
    color = next(iter(frames(report.files["color"]))).image[:64, :96]
    assert np.abs(color.astype(int) - expected[0].colorize()).mean() < 8


def test_mp4_keeps_a_clips_timestamps_exactly(brightness, make_clip, tmp_path):
    stamps = [100, 3103, 3104, 9000, 9999, 20000, 20001, 50000, 90001]
    clip = make_clip("phone.mp4", pts=stamps, time_base=Fraction(1, 90000))
    report = predict_video(brightness, frames(clip), tmp_path, VideoOptions(save=("color",)))
    given, found = (
        [frame.pts * frame.time_base for frame in frames(path)] for path in (clip, report.files["color"])
    )
    assert found == given
    assert [later - given[0] for later in given] == [Fraction(stamp - 100, 90000) for stamp in stamps]


def test_a_network_that_sees_far_is_stored_by_256ths(make_clip, tmp_path):
    estimator = DepthEstimator(NullRuntime(depth_m=70.0), GLPNImageProcessor(), 80.0)
    report = predict_video(estimator, frames(make_clip()), tmp_path, VideoOptions(save=("mm", "png")))
    assert report.files["mm"].name == "clip.depth_x256.mkv"
    frame = next(read_depth_video(report.files["mm"]))
    assert frame.units.max() == 70 * 256
    assert frame.depth.max() == 70.0
    assert report.files["png"].name == "clip.depth_x256"


def test_a_folder_of_frames(brightness, pictures, tmp_path):
    (tmp_path / "shots").mkdir()
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "shots" / f"{index:03d}.png")
    source = frames(f"frames:{tmp_path / 'shots'}", FrameOptions(fps=15, start=0.1))
    report = predict_video(brightness, source, tmp_path, VideoOptions(save=("mm",)))
    stored = list(read_depth_video(report.files["mm"]))
    assert report.files["mm"].name == "shots.depth_mm.mkv"
    assert [frame.time for frame in stored] == pytest.approx([i / 15 for i in range(2, 9)], abs=0.001)
    np.testing.assert_array_equal(stored[0].units, brightness(pictures[2]).quantized(1000))


def test_steady_removes_scale_jumps(make_clip, tmp_path):
    class Jumping(NullRuntime):
        runs = 0

        def _infer(self, pixel_values):
            self.runs += 1
            scale = (1.0, 1.1)[self.runs % 2]
            return scale * (1 + pixel_values.mean(axis=1))

    pictures = [np.tile(np.arange(96, dtype=np.uint8)[:, None], (64, 1, 3))] * 12
    clip = make_clip(images=pictures)
    reports, lines = [], []
    for steady in (False, True):
        estimator = DepthEstimator(Jumping(), GLPNImageProcessor(), 10.0)
        options = VideoOptions(save=("jsonl",), steady=steady)
        reports.append(predict_video(estimator, frames(clip), tmp_path, options))
        lines.append([json.loads(line) for line in reports[-1].files["jsonl"].read_text().splitlines()])
    plain, steadied = reports
    assert plain.flicker["scale_jump"] == pytest.approx(np.log(1.1), rel=1e-3)
    assert steadied.flicker["scale_jump"] < 0.3 * plain.flicker["scale_jump"]
    for before, after in zip(*lines, strict=True):
        assert after["median_m"] == pytest.approx(before["median_m"] * after["scale"], abs=3e-4)


class Ending(FrameSource):
    """Frames, and then an error."""

    def __init__(self, images, error):
        self.name, self.images, self.error = "clip.mp4", images, error

    def __iter__(self):
        for index, image in enumerate(self.images):
            yield Frame(image, index, Fraction(1, 30), index)
        raise self.error


@pytest.mark.parametrize(
    ("error", "said"),
    [(VideoError("clip.mp4 is cut"), "clip.mp4 is cut."), (KeyboardInterrupt(), "interrupted.")],
)
def test_what_was_done_is_kept(brightness, pictures, tmp_path, error, said):
    report = predict_video(
        brightness, Ending(pictures[:4], error), tmp_path, VideoOptions(save=("mm", "color", "jsonl"))
    )
    assert (report.frames, report.ended) == (4, said)
    assert len(list(read_depth_video(report.files["mm"]))) == 4
    assert len(list(frames(report.files["color"]))) == 4
    assert len(report.files["jsonl"].read_text().splitlines()) == 4
    assert not list(tmp_path.glob("*.partial.*"))


@pytest.mark.parametrize("error", [VideoError("clip.mp4 is cut"), KeyboardInterrupt()])
def test_without_a_frame_there_is_an_error_and_no_file(brightness, tmp_path, error):
    with pytest.raises(type(error)):
        predict_video(brightness, Ending([], error), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_changes_in_the_middle(brightness, pictures, tmp_path):
    images = [*pictures[:3], pictures[3][:, :64], *pictures[4:]]
    source = Ending(images, VideoError("not reached"))
    report = predict_video(brightness, source, tmp_path / "a", VideoOptions(save=("mm", "color")))
    assert "changed from 96x64 to 64x64" in report.ended
    assert len(list(read_depth_video(report.files["mm"]))) == 3
    pngs = predict_video(brightness, source, tmp_path / "b", VideoOptions(save=("png",)))
    assert len(list(pngs.files["png"].iterdir())) == 9
    assert pngs.ended == "not reached."


def test_frames_that_are_too_small(brightness, tmp_path):
    with pytest.raises(ImageError):
        predict_video(brightness, Ending([np.zeros((16, 64, 3), np.uint8)], VideoError("x")), tmp_path)


def test_an_unknown_kind(brightness, pictures, tmp_path):
    with pytest.raises(InputError) as error:
        predict_video(brightness, Ending(pictures, VideoError("x")), tmp_path, VideoOptions(save=("gif",)))
    assert "gif" in error.value.got


def test_encoders_run_in_the_callers_thread_in_order(brightness, make_clip, tmp_path, monkeypatch):
    from glpn_deploy.video import encoding

    written = []
    monkeypatch.setattr(
        encoding.ClipWriter,
        "write",
        lambda self, picture, pts, time_base: written.append((threading.current_thread(), pts)),
    )
    predict_video(brightness, frames(make_clip("clip.mp4")), tmp_path, VideoOptions(save=("mm",)))
    assert {thread for thread, _ in written} == {threading.main_thread()}
    assert [pts for _, pts in written] == sorted(pts for _, pts in written)
    assert len(written) == 9


def test_a_live_frame_is_taken_when_the_network_is_free(pictures, tmp_path):
    """So that the depth of a frame is at most one network time, and the wait for a frame, old.

    A camera that gives its next frame whenever the network has begun with one: of those that come while
    it runs, the last is taken next.
    """
    camera, came = threading.Semaphore(0), []

    class Slow(NullRuntime):
        def _infer(self, pixel_values):
            if len(came) < 9:
                for _ in range(3):  # three frames come while the network runs
                    camera.release()
                with source._grabber._changed:
                    expected = len(came) + 3
                    assert source._grabber._changed.wait_for(lambda: source._grabber.came >= expected, 30)
            return super()._infer(pixel_values)

    def read():
        for index in range(100):
            if index and not camera.acquire(timeout=5):
                return
            came.append(index)
            yield lambda index=index: np.full((64, 96, 3), index, np.uint8)

    source = LiveFrames("camera:0", read, FrameOptions(timeout=0.2, reconnects=0))
    estimator = DepthEstimator(Slow(), GLPNImageProcessor(), 10.0)
    report = predict_video(estimator, source, tmp_path, VideoOptions(save=("jsonl",)))
    lines = [json.loads(line) for line in report.files["jsonl"].read_text().splitlines()]
    assert [line["frame"] for line in lines] == [0, 3, 6, 9]
    assert [line["dropped"] for line in lines] == [0, 2, 4, 6]
    assert report.live["dropped"] == 6
    assert all(line["latency_ms"] >= 0 for line in lines)
    assert report.ended  # the camera gave no more


def test_names_of_files():
    assert stem_of("shots/my clip.final.mp4") == "my-clip.final"
    assert stem_of("rtsp://10.0.0.7:554/cam/1?quality=high") == "10.0.0.7-554-cam-1"
    assert stem_of("camera:0") == "camera-0"


def test_a_depth_video_is_what_depth_maps_are(tmp_path):
    depth_map = DepthMap(np.array([[0.0004, 1.2345, np.nan, 99.0]], np.float32), 10.0)
    assert depth_map.quantized(1000).tolist() == [[0, 1234, 0, 65535]]
    assert depth_map.quantized(256).tolist() == [[0, 316, 0, 25344]]
