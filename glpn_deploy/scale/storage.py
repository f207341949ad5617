"""Files on this machine or in object stores, by one address: a path, ``s3://``, ``gs://`` and so on."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.fs

from glpn_deploy.atomic import atomic_path
from glpn_deploy.errors import InputError, WriteError

_DROPPED = ("", ".", "/")


@dataclasses.dataclass(frozen=True)
class Folder:
    """A folder on a file system. It travels to workers, which open the file system themselves.

    Attributes:
        address: As it was given, absolute; what stands before a file's name in results.
        filesystem: pyarrow's.
        path: The folder in it.
    """

    address: str
    filesystem: Any
    path: str

    @classmethod
    def of(cls, address: str) -> Folder:
        """The folder at an address; it need not exist.

        Raises:
            InputError: No file system has such addresses, or it does not open.
        """
        if "://" not in address:
            address = os.path.abspath(address)  # noqa: PTH100 - resolves no links
            return cls(address, pyarrow.fs.LocalFileSystem(), address)
        try:
            filesystem, path = pyarrow.fs.FileSystem.from_uri(address)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(
                f"{address} cannot be opened ({error})", expected="a path, or s3://, gs://, abfs://, hdfs://"
            ) from None
        return cls(address.rstrip("/"), filesystem, path)

    @property
    def local(self) -> bool:
        """Whether it lies in a file system of the machine."""
        return isinstance(self.filesystem, pyarrow.fs.LocalFileSystem)

    def at(self, name: str) -> str:
        """The path of a file or folder in it."""
        return f"{self.path.rstrip('/')}/{name}"

    def kind(self, name: str = "") -> str:
        """``file``, ``folder`` or ``nothing``: what is there."""
        found = self.filesystem.get_file_info(self.at(name) if name else self.path).type
        kinds = {pyarrow.fs.FileType.File: "file", pyarrow.fs.FileType.Directory: "folder"}
        return kinds.get(found, "nothing")

    def files(self, name: str = "", *, recursive: bool = False) -> list[str]:
        """Names of the files in a folder, relative to this one and sorted; none where it is not there."""
        selector = pyarrow.fs.FileSelector(
            self.at(name) if name else self.path, allow_not_found=True, recursive=recursive
        )
        start = len(self.at(""))
        found = self.filesystem.get_file_info(selector)
        return sorted(info.path[start:] for info in found if info.type == pyarrow.fs.FileType.File)

    def read(self, name: str) -> bytes:
        """A file's content."""
        with self.filesystem.open_input_stream(self.at(name)) as stream:
            return bytes(stream.read())

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Any]:
        """A stream to a file that is there when the block succeeds, and not before; folders are made.

        Object stores show an object when it is complete; elsewhere it is renamed into its place.

        Raises:
            WriteError: It cannot be written.
        """
        path = self.at(name)
        if self.local:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                yield file
            return
        try:
            with self.filesystem.open_output_stream(path) as stream:
                yield stream
        except OSError as error:
            raise WriteError(f"{self.address}/{name} could not be written ({error})") from error

    def write(self, name: str, content: bytes) -> None:
        """Writes a whole file, as `writing`."""
        with self.writing(name) as stream:
            stream.write(content)

    def remove(self, name: str) -> None:
        """Removes a file."""
        self.filesystem.delete_file(self.at(name))


def relative_name(address: str) -> str:
    """A name for the results of a path or key, within a folder: ``s3://b/../x.jpg`` gives ``b/__/x.jpg``."""
    parts = PurePosixPath(address.partition("://")[2] or address).parts
    return "/".join("__" if part == ".." else part for part in parts if part not in _DROPPED)
