"""Depth files read back by other libraries, colours on a fixed scale, points worked out by hand."""

from __future__ import annotations

import dataclasses
import errno
import io
import math
import os
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from glpn_deploy.depth.colormap import scale_end
from glpn_deploy.depth.depth_map import DepthMap, Intrinsics
from glpn_deploy.errors import InputError, MissingDependencyError, WriteError
from glpn_deploy.optional import install_line
from tests.refusals import refused


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def depth_map() -> DepthMap:
    depth = np.random.default_rng(0).uniform(0.3, 9.9, (48, 64)).astype(np.float32)
    depth[0, :4] = [np.nan, np.inf, 0, -1]
    return DepthMap(depth, max_depth=10.0, source="room.jpg")


@pytest.mark.parametrize(
    ("depth", "max_depth", "says"),
    [
        (np.ones((1, 4, 4), np.float32), 10.0, "shape"),
        (np.ones((0, 4), np.float32), 10.0, "empty"),
        (np.ones((4, 4), np.uint16), 10.0, "divide millimetres by 1000"),
        (np.ones((4, 4), np.float32), 0.0, "max_depth"),
        (np.ones((4, 4), np.float32), math.nan, "max_depth"),
    ],
)
def test_what_is_not_depth_is_refused(depth: NDArray[Any], max_depth: float, says: str) -> None:
    with pytest.raises(InputError, match=says):
        DepthMap(depth, max_depth)


def test_other_floats_become_float32() -> None:
    assert DepthMap(np.ones((2, 3), np.float64), 10.0).depth.dtype == np.float32


@pytest.mark.filterwarnings("ignore:.* lie beyond")
def test_png_holds_millimetres(depth_map: DepthMap, tmp_path: Path) -> None:
    depth_map.depth[1, :2] = [70.0, 65.535]
    path = depth_map.save(tmp_path / "a.png")
    with Image.open(path) as image:
        values = np.asarray(image)
        assert image.mode in ("I;16", "I")
    np.testing.assert_array_equal(values[0, :4], 0)
    np.testing.assert_array_equal(values[1, :2], 65535)
    np.testing.assert_allclose(values[2:] / 1000, depth_map.depth[2:], atol=0.00051)


@pytest.mark.parametrize("suffix", [".npy", ".tif", ".TIFF", ".exr"])
def test_float_formats_hold_metres_exactly(suffix: str, depth_map: DepthMap, tmp_path: Path) -> None:
    path = depth_map.save(tmp_path / f"a{suffix}")
    if suffix == ".npy":
        values = np.load(path)
    elif suffix == ".exr":
        openexr = pytest.importorskip("OpenEXR")
        channels = openexr.File(str(path)).channels()
        assert list(channels) == ["Z"]
        values = channels["Z"].pixels
    else:
        with Image.open(path) as image:
            assert image.mode == "F"
            values = np.asarray(image)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, depth_map.depth)
    assert names_in(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".npy", ".tif", ".png"])
def test_load_reads_what_save_wrote(suffix: str, depth_map: DepthMap, tmp_path: Path) -> None:
    path = depth_map.save(tmp_path / f"a{suffix}")
    back = DepthMap.load(path, max_depth=10.0)
    assert (back.max_depth, back.source) == (10.0, str(path))
    np.testing.assert_array_equal(back.valid, depth_map.valid)
    np.testing.assert_allclose(back.depth[1:], depth_map.depth[1:], atol=0.00051)


def test_load_refuses_what_is_not_depth(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "rgb.png")
    Image.new("L", (8, 8)).save(tmp_path / "grey.png")
    (tmp_path / "a.npy").write_bytes(b"nonsense")
    (tmp_path / "a.tif").write_bytes(b"nonsense")
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("rgb.png", "grey.png", "a.npy", "a.tif", "object.npy", "none.npy", "a.jpg"):
        with pytest.raises(InputError, match=name):
            DepthMap.load(tmp_path / name, max_depth=10.0)


def test_unknown_suffix_lists_the_known_ones(depth_map: DepthMap, tmp_path: Path) -> None:
    with refused(InputError, expected=(".png (16-bit millimetres)", ".exr"), fix="save_color"):
        depth_map.save(tmp_path / "a.jpg")
    with refused(InputError, expected=".webp"):
        depth_map.save_color(tmp_path / "a.npy")
    with refused(InputError, got="suffix ''"):
        depth_map.save(tmp_path / "noname")
    with refused(InputError, expected=".ply"):
        depth_map.save_point_cloud(tmp_path / "a.xyz", Intrinsics(1, 1, 0, 0))


def test_exr_without_openexr(depth_map: DepthMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with refused(MissingDependencyError, fix=install_line("exr")):
        depth_map.save(tmp_path / "a.exr")


@pytest.mark.parametrize("name", ["a.png", "a.npy", "a.tif", "a.exr", "a.ply"])
def test_full_disk_leaves_the_old_file(
    name: str, depth_map: DepthMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(b"old")

    def full(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with refused(WriteError, got="No space left on device"):
        depth_map.save(tmp_path / name, intrinsics=Intrinsics(50, 50, 32, 24))
    assert names_in(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == b"old"


def test_exr_that_openexr_could_not_write_whole(
    depth_map: DepthMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("OpenEXR")
    import OpenEXR

    class Silent(OpenEXR.File):
        def write(self, path: str) -> None:
            super().write(path)
            os.truncate(path, Path(path).stat().st_size // 2)

    monkeypatch.setattr(OpenEXR, "File", Silent)
    with refused(WriteError, got="a.exr could not be written"):
        depth_map.save(tmp_path / "a.exr")
    assert names_in(tmp_path) == []


def test_one_colour_means_one_distance_in_every_image() -> None:
    wide = DepthMap(np.array([[1.0, 5.0, 9.0]], np.float32), 10.0).colorize()
    narrow = DepthMap(np.array([[4.9, 5.0, 5.1]], np.float32), 10.0).colorize()
    np.testing.assert_array_equal(wide[0, 1], narrow[0, 1])


def test_near_is_red_far_is_blue_and_nothing_is_black() -> None:
    depth = np.array([[0.01, 5.0, 10.0, 25.0, np.nan, np.inf, 0.0, -3.0]], np.float32)
    colors = DepthMap(depth, 10.0).colorize()
    assert colors.dtype == np.uint8
    near, middle, far, beyond = colors[0, :4].astype(int)
    assert near[0] > 100
    assert near[0] > 5 * near[2]
    assert middle[1] > 200
    assert far[2] > 100
    assert far[2] > far[0]
    np.testing.assert_array_equal(far, beyond)
    np.testing.assert_array_equal(colors[0, 4:], 0)


def test_colours_are_turbo() -> None:
    # Entries of the published table (Mikhailov, 2019); the polynomial strays from it by up to 22.
    published = {64: (40, 187, 236), 128: (164, 252, 60), 192: (251, 126, 33), 255: (122, 4, 3)}
    for index, color in published.items():
        nearness = (index / 255 - 0.04) / 0.96
        got = DepthMap(np.full((1, 1), 10 - 10 * nearness + 1e-6, np.float32), 10.0).colorize()
        np.testing.assert_allclose(got[0, 0].astype(int), color, atol=22)


def test_scale_limits_are_checked(depth_map: DepthMap) -> None:
    assert not np.array_equal(depth_map.colorize(), depth_map.colorize(max_m=5.0))
    for limits in ((5.0, 5.0), (6.0, 5.0), (math.nan, 5.0), (0.0, math.inf)):
        with refused(InputError, got="colour scale"):
            depth_map.colorize(*limits)


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (32, 40), (480, 640), (1500, 64)])
@pytest.mark.parametrize("limits", [(0.0, 10.0), (0.0, 80.0), (1.0, 1.3), (0.0, 0.07)])
def test_legend_stands_beside_the_picture(
    size: tuple[int, int], limits: tuple[float, float], tmp_path: Path
) -> None:
    depth_map = DepthMap(np.full(size, limits[1] / 2, np.float32), limits[1])
    path = depth_map.save_color(tmp_path / "a.png", min_m=limits[0])
    plain = depth_map.save_color(tmp_path / "b.png", min_m=limits[0], legend=False)
    with Image.open(path) as image, Image.open(plain) as without:
        assert without.size == size[::-1]
        assert image.height == size[0]
        assert image.width > size[1]
        np.testing.assert_array_equal(np.asarray(image)[:, : size[1]], np.asarray(without))


def test_points_worked_out_by_hand(tmp_path: Path) -> None:
    depth = np.array([[2.0, np.nan, 4.0], [0.0, 1.0, 8.0]], np.float32)
    rgb = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    camera = Intrinsics(fx=2.0, fy=4.0, cx=1.0, cy=0.0)
    expected = [[-1, 0, 2], [2, 0, 4], [0, 0.25, 1], [4, 2, 8]]
    points, colors = DepthMap(depth, 10.0).point_cloud(camera, rgb)
    np.testing.assert_array_equal(points, np.array(expected, np.float32))
    np.testing.assert_array_equal(colors, rgb[[0, 0, 1, 1], [0, 2, 1, 2]])
    every_other, none = DepthMap(depth, 10.0).point_cloud(camera, stride=2)
    np.testing.assert_array_equal(every_other, np.array(expected[:2], np.float32))
    assert none is None

    path = DepthMap(depth, 10.0).save(tmp_path / "a.ply", intrinsics=camera, rgb=rgb)
    header, _, body = path.read_bytes().partition(b"end_header\n")
    lines = header.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    assert "element vertex 4" in lines
    properties = [line.split()[1:] for line in lines if line.startswith("property")]
    codes = {"float": "<f4", "uchar": "u1"}
    vertices = np.frombuffer(body, dtype=[(name, codes[kind]) for kind, name in properties])
    np.testing.assert_array_equal(np.stack([vertices["x"], vertices["y"], vertices["z"]], axis=1), expected)
    np.testing.assert_array_equal(np.stack([vertices[c] for c in ("red", "green", "blue")], axis=1), colors)

    plain = DepthMap(depth, 10.0).save_point_cloud(tmp_path / "b.ply", camera)
    assert len(plain.read_bytes().partition(b"end_header\n")[2]) == 4 * 12


def test_camera_from_its_field_of_view() -> None:
    camera = Intrinsics.from_fov(90, width=640, height=480)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == pytest.approx((320, 320, 319.5, 239.5))
    # The outer edge of the last pixel lies 45 degrees off the axis.
    assert (639.5 - camera.cx) / camera.fx == pytest.approx(1.0)
    for degrees in (0, 180, math.nan):
        with refused(InputError, got="field of view"):
            Intrinsics.from_fov(degrees, 640, 480)
    with refused(InputError, got="640 x 0"):
        Intrinsics.from_fov(90, 640, 0)


def test_point_cloud_refuses_what_does_not_fit(depth_map: DepthMap, tmp_path: Path) -> None:
    camera = Intrinsics.from_fov(60, 64, 48)
    with refused(InputError, fix="own size"):
        depth_map.point_cloud(camera, np.zeros((48, 65, 3), np.uint8))
    with refused(InputError, got="stride"):
        depth_map.point_cloud(camera, stride=0)
    with refused(InputError, fix="from_fov"):
        depth_map.save(tmp_path / "a.ply")
    for values in ((0, 1, 1, 1), (1, -1, 1, 1), (1, 1, math.nan, 1)):
        with refused(InputError, got="intrinsics"):
            Intrinsics(*values)


def test_another_format_behind_a_depth_maps_name_is_refused(tmp_path: Path) -> None:
    """Pillow would start Ghostscript for an EPS."""
    Image.new("RGB", (64, 64)).save(tmp_path / "x.eps", format="EPS")
    for name in ("x.png", "x.tiff"):
        (tmp_path / name).write_bytes((tmp_path / "x.eps").read_bytes())
        with pytest.raises(InputError) as caught:
            DepthMap.load(tmp_path / name, max_depth=10)
        assert "not an image that Pillow can read" in caught.value.got


def test_a_bomb_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glpn_deploy.images.opening.MAX_PIXELS", 1000)
    Image.fromarray(np.zeros((100, 200), np.uint16)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    content = bytearray((tmp_path / "x.png").read_bytes())
    content[16:24] = (100_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(InputError) as caught:
        DepthMap.load(tmp_path / "x.png", max_depth=10)
    assert "too large (Image size (10000000000 pixels)" in caught.value.got


@pytest.mark.parametrize("content", [b"PK\x03\x04", b"\x93NUMPY\x01\x00\x08\x00((((((((", b""])
def test_a_damaged_array_is_a_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(InputError):
        DepthMap.load(tmp_path / "x.npy", max_depth=10)


def test_what_millimetres_do_not_reach_is_said_and_kittis_units_hold_it(tmp_path: Path) -> None:
    depth = np.full((10, 20), 3.0, np.float32)
    depth[0, :10] = 78.25
    depth[1, 0] = np.inf
    depth_map = DepthMap(depth, 80.0)
    with pytest.warns(UserWarning, match=r"5\.00% of the pixels lie beyond 65\.535 m"):
        depth_map.save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        depth_map.save(tmp_path / "b.png", units_per_metre=256)
        DepthMap(np.full((4, 4), 65.5352, np.float32), 80.0).save(tmp_path / "c.png")
    units = np.asarray(Image.open(tmp_path / "b.png"))
    assert (units.dtype, units[0, 0], units[0, 15], units[1, 0]) == (np.uint16, 78.25 * 256, 768, 0)
    back = DepthMap.load(tmp_path / "b.png", max_depth=80, units_per_metre=256).depth
    np.testing.assert_array_equal(back, np.where(np.isfinite(depth), depth, 0))


def test_grey_is_linear_and_black_without_depth() -> None:
    depth = DepthMap(np.array([[0.5, 5.0, 10.0, 12.0, np.nan, 0.0]], np.float32), 10.0)
    assert depth.grayscale().tolist() == [[242, 128, 0, 0, 0, 0]]
    assert depth.grayscale(near="black").tolist() == [[13, 128, 255, 255, 0, 0]]
    assert depth.grayscale(near="black", bits=16, max_m=5.0).tolist() == [[6554, 65535, 65535, 65535, 0, 0]]
    for wrong in ({"bits": 12}, {"near": "red"}, {"min_m": 10.0}):
        with pytest.raises(InputError):
            depth.grayscale(**wrong)


def test_a_fitted_scale_holds_98_percent_of_the_pixels_and_says_where_it_ends(tmp_path: Path) -> None:
    depth = np.linspace(0.5, 4.0, 1000, dtype=np.float32).reshape(25, 40)
    depth[0, :10], depth[1, :5] = 0, 9.5
    known = depth[depth > 0]
    end = scale_end(depth, 10.0, "auto")
    assert np.mean(known <= end) >= 0.98
    assert end == pytest.approx(np.percentile(known, 98), rel=0.1)
    assert float(f"{end:.1e}") == end, "two digits"
    assert (scale_end(depth, 10.0), scale_end(depth, 10.0, 7.5)) == (10.0, 7.5)
    assert scale_end(np.zeros((2, 2), np.float32), 10.0, "auto") == 10.0
    depth_map = DepthMap(depth, 10.0)
    assert (depth_map.colorize(max_m="auto") == depth_map.colorize(max_m=end)).all()
    assert (depth_map.grayscale(max_m="auto") == depth_map.grayscale(max_m=end)).all()


def test_the_image_stands_beside_or_above_its_depth(depth_map: DepthMap, tmp_path: Path) -> None:
    height, width = depth_map.depth.shape
    image = np.full((height, width, 3), (9, 99, 199), np.uint8)
    depth_map.save_color(tmp_path / "side.png", image=image, legend=False)
    side = np.asarray(Image.open(tmp_path / "side.png"))
    assert (side == np.concatenate([image, depth_map.colorize()], axis=1)).all()
    below = np.asarray(Image.open(depth_map.save_color(tmp_path / "b.png", image=image, below=True)))
    assert (below[:, :width] == np.concatenate([image, depth_map.colorize()])).all()
    with pytest.raises(InputError) as refused:
        depth_map.save_color(tmp_path / "c.png", image=image[:-1])
    assert refused.value.got == f"an image of shape {(height - 1, width, 3)} (uint8) beside the depth"


def test_from_above_and_the_left_what_is_near_moves_down_and_right_and_hides_what_is_behind() -> None:
    depth = np.full((60, 80), 4.0, np.float32)
    rgb = np.full((60, 80, 3), (0, 0, 255), np.uint8)
    depth[28:32, 38:42], rgb[28:32, 38:42] = 2.0, (255, 0, 0)
    drawn = DepthMap(depth, 10.0).draw_point_cloud(Intrinsics.from_fov(60, 80, 60), rgb)
    rows, columns = np.nonzero((drawn == (255, 0, 0)).all(axis=-1))
    assert rows.min() > 32
    assert columns.min() > 42
    # the middle of the near square, by hand: 2 m before the middle, 5 m is where the camera then stands from
    yaw, pitch = np.radians(25), np.radians(15)
    x, z = 2 * np.sin(yaw), -2 * np.cos(yaw)
    y, z = -z * np.sin(pitch), z * np.cos(pitch) + 5
    focal = 40 / np.tan(np.radians(30))
    assert np.median(columns) == pytest.approx(x / z * focal + 39.5, abs=1.5)
    assert np.median(rows) == pytest.approx(y / z * focal + 29.5, abs=1.5)
    assert (drawn == 255).all(axis=-1).any(), "the shadow of the square is white"
    empty = DepthMap(np.zeros((6, 8), np.float32), 10.0).draw_point_cloud(Intrinsics.from_fov(60, 8, 6))
    assert (empty == 255).all()


def test_a_scaled_camera_gives_the_same_points() -> None:
    camera = Intrinsics.from_fov(60, 640, 480)
    half = camera.scaled(0.5)
    expected = Intrinsics.from_fov(60, 320, 240)
    assert dataclasses.astuple(half) == pytest.approx(dataclasses.astuple(expected))
    for factor in (0, -1, np.nan, np.inf):
        with pytest.raises(InputError) as refused:
            camera.scaled(factor)
        assert refused.value.expected == "a finite factor above 0"


def test_what_a_person_and_a_notebook_see(depth_map: DepthMap) -> None:
    depth = np.array([[0, 1.5, 2.25], [np.nan, 4, 9]], np.float32)
    assert repr(DepthMap(depth, 10.0, "a.jpg")) == "DepthMap(2x3 px, 1.50 to 9.00 m, median 3.12 m, of a.jpg)"
    assert repr(DepthMap(np.zeros((2, 3), np.float32), 10.0)) == "DepthMap(2x3 px, no depth)"
    width = depth_map.depth.shape[1]
    shown = np.asarray(Image.open(io.BytesIO(depth_map._repr_png_())))
    assert (shown[:, :width] == depth_map.colorize()).all()


def test_png_bytes_are_the_file_and_every_level_holds_the_same(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:120, :160]
    depth_map = DepthMap((2 + np.sin(rows / 20) + columns / 80).astype(np.float32), 10.0)
    depth_map.save(tmp_path / "a.png")
    depth_map.save(tmp_path / "b.png", compress_level=9)
    assert (tmp_path / "a.png").read_bytes() == depth_map.to_png()
    assert (tmp_path / "b.png").stat().st_size < len(depth_map.to_png())
    expected = np.rint(depth_map.depth * 1000)
    for content in (depth_map.to_png(), (tmp_path / "b.png").read_bytes()):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), expected)
    with pytest.raises(InputError):
        depth_map.to_png(compress_level=10)
