import pickle

import h5py
import numpy as np
import pytest
import scipy.io

from glpn_deploy.datasets.nyu_mat import NyuLabelled
from glpn_deploy.errors import DatasetError
from tests.refusals import refused

COUNT = 3


@pytest.fixture
def upright():
    rng = np.random.default_rng(0)
    images = rng.integers(1, 256, (COUNT, 480, 640, 3), dtype=np.uint8)
    depths = rng.uniform(0.7, 9.9, (COUNT, 480, 640)).astype(np.float32)
    return images, depths


@pytest.fixture
def mat(tmp_path, upright):
    """What MATLAB 7.3 writes for images (480, 640, 3, N) and depths (480, 640, N): all axes reversed."""
    images, depths = upright
    raw = depths.copy()
    raw[:, :100] = 0
    path = tmp_path / "nyu_depth_v2_labeled.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["images"] = np.moveaxis(images, 0, -1).T
        file["depths"] = np.moveaxis(depths, 0, -1).T
        file["rawDepths"] = np.moveaxis(raw, 0, -1).T
    return path


def test_images_and_depth_come_out_upright(mat, upright):
    data = NyuLabelled(mat)
    assert (len(data), data.name, data.max_depth, data.crop) == (COUNT, "nyu", 10.0, "nyu")
    data.check()
    for index in range(COUNT):
        np.testing.assert_array_equal(data[index].image, upright[0][index])
        np.testing.assert_array_equal(data[index].depth, upright[1][index])
    assert data[2].name == "00003"
    with pytest.raises(IndexError):
        data[COUNT]


def test_as_released_takes_raw_depth_and_blacks_out_the_border(mat, upright):
    sample = NyuLabelled(mat, as_released=True)[0]
    assert not sample.depth[:100].any()
    np.testing.assert_array_equal(sample.depth[100:], upright[1][0][100:])
    np.testing.assert_array_equal(sample.image[7:474, 7:632], upright[0][0][7:474, 7:632])
    assert sample.image.astype(int).sum() == upright[0][0][7:474, 7:632].astype(int).sum()


def test_indices_count_from_one_as_in_splits_mat(mat, upright, tmp_path):
    scipy.io.savemat(tmp_path / "splits.mat", {"testNdxs": np.array([[1], [3]])})
    with refused(DatasetError, got="splits.mat is MATLAB's older format", fix="savetxt"):
        NyuLabelled(mat, tmp_path / "splits.mat")
    # the line that the message tells to run
    np.savetxt(tmp_path / "test.txt", scipy.io.loadmat(tmp_path / "splits.mat")["testNdxs"], "%d")
    data = NyuLabelled(mat, tmp_path / "test.txt")
    assert [sample.name for sample in data] == ["00001", "00003"]
    np.testing.assert_array_equal(data[1].depth, upright[1][2])


@pytest.mark.parametrize("line", ["0", "4", "-1", "1.5", "two", "1 2", "²"])
def test_an_index_that_is_not_there_is_named_with_its_line(mat, tmp_path, line):
    (tmp_path / "test.txt").write_text(f"1\n\n{line}\n")
    with refused(DatasetError, got="test.txt, line 3 is", expected="an index from 1 to 3"):
        NyuLabelled(mat, tmp_path / "test.txt")


def test_worker_processes_get_a_copy_that_reads(mat, upright):
    copy = pickle.loads(pickle.dumps(NyuLabelled(mat)))
    np.testing.assert_array_equal(copy[1].image, upright[0][1])


def test_a_truncated_file_is_named(mat):
    mat.write_bytes(mat.read_bytes()[:-1000])
    with refused(DatasetError, got=("nyu_depth_v2_labeled.mat cannot be opened", "truncated")):
        NyuLabelled(mat)


def test_other_files_are_refused(tmp_path):
    with refused(DatasetError, got="no file"):
        NyuLabelled(tmp_path / "absent.mat")
    scipy.io.savemat(tmp_path / "old.mat", {"images": np.zeros((2, 2))})
    with refused(DatasetError, got="old.mat cannot be opened"):
        NyuLabelled(tmp_path / "old.mat")
    with h5py.File(tmp_path / "other.mat", "w") as file:
        file["images"] = np.zeros((1, 3, 64, 48), np.uint8)
    with refused(DatasetError, got="other.mat has no array 'depths'"):
        NyuLabelled(tmp_path / "other.mat")
    with h5py.File(tmp_path / "other.mat", "a") as file:
        file["depths"] = np.zeros((1, 64, 32), np.float32)
    with refused(DatasetError, got="shape"):
        NyuLabelled(tmp_path / "other.mat")


@pytest.mark.parametrize(
    "write",
    [
        lambda file: file.create_dataset("images", data=[b"a", b"b"]),
        lambda file: file.create_dataset("images", data=["a", "b"], dtype=h5py.string_dtype()),
        lambda file: file.create_dataset("images", shape=(2, 3, 9, 9), dtype=h5py.ref_dtype),
        lambda file: file.create_dataset("images", data=h5py.Empty("f")),
        lambda file: file.create_dataset("images", data=np.zeros((2, 3, 8, 9), np.float64)),
        lambda file: file.create_dataset("images", data=np.zeros((2, 3, 0, 9), np.uint8)),
        lambda file: file.create_dataset("images", shape=(2, 3, 10**6, 10**6), dtype=np.uint8, chunks=True),
        lambda file: file.create_dataset(
            "images", (2, 3, 8, 9), np.uint8, external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)]
        ),
        lambda file: file.create_virtual_dataset("images", h5py.VirtualLayout((2, 3, 8, 9), np.uint8)),
        lambda file: file.__setitem__("images", h5py.SoftLink("/images")),
        lambda file: file.__setitem__("images", h5py.ExternalLink("other.mat", "/images")),
        lambda file: file.create_group("images"),
    ],
    ids=[
        "text",
        "words",
        "references",
        "empty",
        "reals",
        "flat",
        "huge",
        "elsewhere",
        "virtual",
        "loop",
        "out",
        "group",
    ],
)
def test_what_is_no_array_of_images(write, tmp_path):
    path = tmp_path / "set.mat"
    with h5py.File(path, "w") as file:
        write(file)
        shape = None
        if isinstance(file.get("images", getlink=True), h5py.HardLink):
            shape = getattr(file["images"], "shape", None)
        depth = (shape[0], *shape[2:]) if shape and len(shape) == 4 else (2, 8, 9)
        file.create_dataset("depths", depth, np.float32, chunks=True if 10**6 in depth else None)
    with pytest.raises(DatasetError) as caught:
        NyuLabelled(path)
    assert "set.mat" in caught.value.got


def test_an_image_that_is_damaged_within_is_named(tmp_path):
    path = tmp_path / "packed.mat"
    with h5py.File(path, "w") as file:
        images = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 6), np.uint8)
        packed = file.create_dataset("images", data=images, chunks=(1, 3, 8, 6), compression="gzip")
        file["depths"] = np.ones((2, 8, 6), np.float32)
        file.flush()
        chunk = packed.id.get_chunk_info(1)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(content)
    data = NyuLabelled(path)
    np.testing.assert_array_equal(data[0].image, images[0].transpose(2, 1, 0))
    with pytest.raises(DatasetError) as caught:
        data[1]
    assert caught.value.got.startswith(f"{path}: image 2 cannot be read")
