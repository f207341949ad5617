"""Arrays from files that may come from anyone."""

from __future__ import annotations

import io
import pickle
import struct

import numpy as np
import pytest

from glpn_deploy.images.npy import read_npy

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


def headed(header: str, values: bytes = b"", version: int = 1, size: int | None = None) -> bytes:
    length = len(header) + 1 if size is None else size
    packed = struct.pack("<H" if version == 1 else "<I", length)
    return b"\x93NUMPY" + bytes((version, 0)) + packed + header.encode("latin1") + b"\n" + values


def test_what_numpy_saves(tmp_path):
    for array in (VALUES, np.asfortranarray(VALUES), VALUES.astype(">f8")):
        np.save(tmp_path / "a.npy", array)
        np.testing.assert_array_equal(read_npy(tmp_path / "a.npy"), array)


def archive() -> bytes:
    file = io.BytesIO()
    np.savez(file, a=VALUES)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        archive(),
        pickle.dumps(VALUES),
        headed("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", pickle.dumps([1])),
        headed("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", VALUES.tobytes()[:-1]),
        headed("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 4), }", b"1234"),
        headed("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4), }", b"1234"),
        headed("{'descr': '<f4', 'fortran_order': False, 'shape': (10**30, 4), }", b"1234"),
        headed("{'descr': '<f4', 'fortran_order': False, 'shape': (True, 1), }", b"1234"),
        headed("{'descr': ('<f4', (2, 3)), 'fortran_order': False"),
        headed("(" * 300 + ")" * 300),
        headed("{'descr': '<f4', 'fortran_order': False, 'shape': (), }" + " " * 20_000, b"1234"),
        headed("\x00\x1b[2J"),
        headed("{'a': 1", version=3),
        headed("", version=2, size=0xFFFF_FFFF),
        headed("{}", version=9),
    ],
    ids=lambda content: repr(content[:24]),
)
def test_what_is_none_is_one_kind_of_error(content, tmp_path):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"no plain \.npy file"):
        read_npy(tmp_path / "a.npy")
