"""What a job's INPUT means: images listed here, or rows that Ray Data reads out of Parquet and shards."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet

from glpn_deploy.errors import InputError
from glpn_deploy.images.files import is_result
from glpn_deploy.scale.storage import Folder, relative_name

Kind = Literal["listed", "parquet", "webdataset"]
PATH, NAME, CONTENT = "path", "name", "bytes"
"""Columns of the rows: where an image is and its identity, what results are called, the image's file."""

_IMAGES = re.compile(r"\.(jpe?g|png|tiff?|webp|avif|bmp|heic|heif|jp2|ppm|pgm)$", re.IGNORECASE)
_WILDCARDS = re.compile(r"[*?\[]")
_WEBDATASET_CONTENTS = ("jpg", "jpeg", "png", "webp", "tif", "tiff")


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a job's images are.

    Attributes:
        kind: ``listed``: `images` names them. Otherwise Ray Data reads them out of `files`.
        folder: What `files` and ``path`` columns are relative to.
        images: (path, name) of every image, each path once.
        files: Parquet files or shards.
    """

    kind: Kind
    folder: Folder
    images: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()


def find_source(given: str) -> Source:
    """Looks at a folder, glob, list of images (``.txt``), Parquet or WebDataset shards.

    Raises:
        InputError: Nothing is there, or nothing that is read.
    """
    match = _WILDCARDS.search(given)
    base = (
        given[: match.start()].rpartition("/")[0] or ("/" if given.startswith("/") else ".")
        if match
        else given
    )
    folder = Folder.of(base)
    found = folder.kind()
    if match:
        pattern = given[len(base) :].lstrip("/") if base != "." else given.removeprefix("./")
        names = _globbed(folder, pattern)
    elif found == "folder":
        names = folder.files(recursive=True)
    elif found == "file" and given.lower().endswith((".parquet", ".tar")):
        folder, name = _parent(folder)
        names = [name]
    elif found == "file":
        return _listed(folder)
    else:
        raise InputError(
            f"{given}: nothing is there",
            expected="a folder, a glob in quotes, a .txt list, .parquet or .tar files; s3:// and gs:// too",
        )
    for suffix, kind in ((".parquet", "parquet"), (".tar", "webdataset")):
        chosen = tuple(folder.at(name) for name in names if name.lower().endswith(suffix))
        if chosen:
            return Source(kind, folder, files=chosen)  # type: ignore[arg-type]
    images = [name for name in names if _IMAGES.search(name) and not _hidden(name)]
    if not images:
        raise InputError(f"{given} has no images", expected="JPEG, PNG, TIFF, WebP, Parquet or .tar files")
    return Source("listed", folder, tuple((folder.at(name), name) for name in images))


def _globbed(folder: Folder, pattern: str) -> list[str]:
    """Names that match; ``**/`` stands for any folders or none, ``*`` for anything but a slash."""
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    words = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]]+\])", pattern)
    expression = "".join(
        meaning.get(word) or (word.replace("[!", "[^", 1) if number % 2 else re.escape(word))
        for number, word in enumerate(words)
    )
    return [name for name in folder.files(recursive="/" in pattern) if re.fullmatch(expression, name)]


def _parent(file: Folder) -> tuple[Folder, str]:
    path, _, name = file.path.rpartition("/")
    return Folder(file.address.rpartition("/")[0], file.filesystem, path), name


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in name.split("/")) or is_result(Path(name))


def _listed(file: Folder) -> Source:
    """The images that a text file names, one a line; relative ones lie beside it."""
    folder, name = _parent(file)
    try:
        lines = folder.read(name).decode().splitlines()
    except ValueError:
        raise InputError(
            f"{file.address} is no text",
            expected="a list of images, one a line; for a single image use glpn-predict",
        ) from None
    images: dict[str, str] = {}
    for line in filter(None, map(str.strip, lines)):
        outside = "://" in line or line.startswith("/")
        path = line.partition("://")[2] if "://" in line else line if outside else folder.at(line)
        images.setdefault(path, relative_name(line))
    if not images:
        raise InputError(f"{file.address} names no image", expected="one path a line")
    schemes = {line.partition("://")[0] for line in lines if "://" in line}
    if len(schemes) > 1:
        raise InputError(
            f"{file.address} names several file systems", expected="one", fix="make a list of each"
        )
    if schemes:
        folder = Folder.of(next(line.strip() for line in lines if "://" in line))
    return Source("listed", folder, tuple(images.items()))


def dataset(source: Source, part: int, done: set[str], claim: dict[str, Any]) -> tuple[Any, int | None]:
    """The rows as a Ray dataset, and how many there are, where that is known before they are read.

    Args:
        source: Where the images are.
        part: Rows of a block, where they are listed here.
        done: Paths of images that are left out, where they are listed here; else workers do that.
        claim: Resources of a task that reads.

    Raises:
        InputError: A Parquet file has not the columns.
    """
    import ray.data

    if source.kind == "listed":
        left = [image for image in source.images if image[0] not in done]
        schema = pa.schema([(PATH, pa.string()), (NAME, pa.string())])
        blocks = [left[start : start + part] for start in range(0, len(left), part)]
        tables = [
            pa.Table.from_arrays([pa.array(column) for column in zip(*rows, strict=True)], schema=schema)
            for rows in blocks
        ]
        return ray.data.from_blocks(tables), len(left)  # from_arrow runs a task of a whole CPU for each
    filesystem = source.folder.filesystem
    claim = claim | {"concurrency": min(claim["concurrency"], len(source.files))}  # Ray warns of more
    if source.kind == "webdataset":
        rows = ray.data.read_webdataset(
            list(source.files),
            filesystem=filesystem,
            decoder=None,
            suffixes=list(_WEBDATASET_CONTENTS),
            **claim,
        )
        return rows, None
    columns = pyarrow.parquet.read_schema(source.files[0], filesystem=filesystem).names
    if PATH not in columns:
        raise InputError(
            f"{source.files[0]} has the columns {', '.join(columns)}",
            expected=f"'{PATH}', which tells images apart, and '{CONTENT}' where it holds the images",
        )
    wanted = [name for name in (PATH, CONTENT) if name in columns]
    count = sum(
        pyarrow.parquet.read_metadata(file, filesystem=filesystem).num_rows for file in source.files[:1000]
    )
    rows = ray.data.read_parquet(list(source.files), filesystem=filesystem, **claim)
    return rows.select_columns(wanted), count if len(source.files) <= 1000 else None


def images_of(table: pa.Table, folder: Folder) -> list[tuple[str, str, bytes | None]]:
    """Path, name and content (None where it lies at the path) of every row of a block."""
    if "__key__" in table.column_names:
        found = []
        for row in table.to_pylist():
            content = next((row[kind] for kind in _WEBDATASET_CONTENTS if row.get(kind) is not None), b"")
            found.append((row["__key__"], relative_name(row["__key__"]), content))
        return found
    paths = table[PATH].to_pylist()
    names = table[NAME].to_pylist() if NAME in table.column_names else list(map(relative_name, paths))
    contents = table[CONTENT].to_pylist() if CONTENT in table.column_names else [None] * len(paths)
    return list(zip(paths, names, contents, strict=True))
