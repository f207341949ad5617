"""The output folder of a job: a row an image in parts, shards, what is done, and the manifest."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from glpn_deploy.errors import InputError
from glpn_deploy.scale.options import BatchOptions
from glpn_deploy.scale.storage import Folder

MANIFEST = "manifest.parquet"
RUN = "_job/run"
"""Names the run that may write: workers outlive a killed driver by a moment, and the next run begins."""
_ABOUT = "_job/job.json"
ROW = pa.schema(
    [
        ("path", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("min_m", pa.float32()),
        ("median_m", pa.float32()),
        ("max_m", pa.float32()),
        ("file", pa.string()),
        ("error", pa.string()),
    ]
)
"""The manifest's columns: sizes [px], depths [m]; ``file`` is relative to the output."""
DEPTH = pa.field("depth", pa.binary())
"""The PNG's bytes, in Parquet output."""
SHARDS = "shards"


def parts_folder(options: BatchOptions) -> str:
    """Where the rows lie, a file a block; with the depth in them where the output is Parquet."""
    return "depth" if options.into == "parquet" else "_job/parts"


def claim(target: Folder, about: dict[str, str], run: str) -> None:
    """Holds the output folder for this job, whatever number of runs it takes, and for this run of it.

    Raises:
        InputError: Another job's results are there.
    """
    if target.kind(_ABOUT) == "nothing":
        target.write(_ABOUT, json.dumps(about, indent=2).encode())
    before = json.loads(target.read(_ABOUT))
    for name, value in about.items():
        if before.get(name) != value:
            raise InputError(
                f"{target.address} has the results of a job with {name} {before.get(name)}",
                expected=value,
                fix="choose another output folder",
            )
    target.write(RUN, run.encode())


def _parts(target: Folder, options: BatchOptions) -> list[str]:
    return [name for name in target.files(parts_folder(options)) if name.endswith(".parquet")]


def clean(target: Folder, options: BatchOptions) -> set[str]:
    """Paths that are done, those that failed among them unless they are to be tried again.

    Shards of blocks that are not done, for their job was killed, are removed.
    """
    parts = _parts(target, options)
    blocks = {Path(name).stem for name in parts}
    for shard in target.files(SHARDS):
        if Path(shard).stem not in blocks:
            target.remove(shard)
    done: set[str] = set()
    for name in parts:
        rows = pyarrow.parquet.read_table(
            target.at(name), columns=["path", "error"], filesystem=target.filesystem
        )
        if options.retry_failed and rows["error"].null_count < rows.num_rows:
            rows = _without_failed(target, name)
        done.update(rows["path"].to_pylist())
    return done


def _without_failed(target: Folder, name: str) -> pa.Table:
    """Takes the rows of images that failed out of a part; gives the others."""
    rows = pyarrow.parquet.read_table(target.at(name), filesystem=target.filesystem)
    rows = rows.filter(rows["error"].is_null())
    with target.writing(name) as stream:
        pyarrow.parquet.write_table(rows, stream)
    return rows


def write_manifest(target: Folder, options: BatchOptions) -> tuple[int, int, dict[str, str]]:
    """Puts the rows of all parts into one file; gives their number, that of failures, the first reasons."""
    count, failed = 0, 0
    errors: dict[str, str] = {}
    with target.writing(MANIFEST) as stream, pyarrow.parquet.ParquetWriter(stream, ROW) as writer:
        for name in _parts(target, options):
            rows = pyarrow.parquet.read_table(
                target.at(name), columns=ROW.names, filesystem=target.filesystem
            )
            writer.write_table(rows)
            count += rows.num_rows
            bad = rows.filter(rows["error"].is_valid())
            failed += bad.num_rows
            if len(errors) < 10:
                errors.update(zip(bad["path"].to_pylist(), bad["error"].to_pylist(), strict=True))
    return count, failed, dict(list(errors.items())[:10])


def write_shard(
    stream: Any, options: BatchOptions, samples: Iterable[tuple[str, dict[str, Any], bytes]]
) -> None:
    """Writes samples of name, row and PNG in WebDataset's form: a key, the PNG, and the row as JSON.

    Those without a PNG, which failed, are left out. A dot ends a key, so that those of a name are written as
    underscores.
    """
    with tarfile.open(fileobj=stream, mode="w|") as tar:
        for name, row, png in samples:
            if not png:
                continue
            folder, _, last = name.rpartition("/")
            key = f"{folder}/{last.replace('.', '_')}".lstrip("/")
            for suffix, content in ((f"depth_{options.save}.png", png), ("json", json.dumps(row).encode())):
                entry = tarfile.TarInfo(f"{key}.{suffix}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
