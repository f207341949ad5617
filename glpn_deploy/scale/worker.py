"""The worker: blocks of images in, depth and one row an image out, whatever an image does to it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import ray

from glpn_deploy.depth.depth_map import DepthMap
from glpn_deploy.errors import GlpnError, ImageError
from glpn_deploy.estimator import DepthEstimator
from glpn_deploy.scale.inputs import images_of
from glpn_deploy.scale.options import BatchOptions
from glpn_deploy.scale.results import DEPTH, ROW, RUN, SHARDS, parts_folder, write_shard
from glpn_deploy.scale.storage import Folder

GPU_BATCH = 4  # images that enter a network on a GPU together; on a CPU it gains nothing
_READERS = 8  # threads that fetch a block's images; object stores answer slowly, and many at once


@dataclasses.dataclass(frozen=True)
class Job:
    """What every worker is told.

    Attributes:
        open: Loads the network.
        folder: Where the images are.
        out: Where results go.
        options: What is written.
        run: Which run of the job this is.
    """

    open: Callable[[], DepthEstimator]
    folder: Folder
    out: Folder
    options: BatchOptions
    run: str


class _Item(NamedTuple):
    path: str
    name: str
    content: Callable[[], bytes]


@dataclasses.dataclass
class _Result:
    row: dict[str, Any]
    png: bytes = b""


class DepthWorker:
    """One process of a job, made by Ray Data as an actor.

    Args:
        job: What to do.
        ledger: Handle of the `Ledger`.
        done: Paths that need not be done, as a set in Ray's object store, or None.
    """

    def __init__(self, job: Job, ledger: Any, done: Any = None) -> None:
        self._job, self._ledger = job, ledger
        if not ray.get(ledger.starting.remote()):
            raise RuntimeError("the workers die while they load the network")
        try:
            self._estimator = job.open()
        except GlpnError as error:
            ray.get(ledger.refused.remote(error.got, error.expected, error.fix))
            raise
        self._done: set[str] = ray.get(done) if done is not None else set()
        self._readers = ThreadPoolExecutor(_READERS)
        ray.get(ledger.ready.remote(self._estimator.runtime.describe()))

    def __call__(self, block: pa.Table) -> pa.Table:
        """Does a block, writes its results and its rows; gives their counts."""
        images = [image for image in images_of(block, self._job.folder) if image[0] not in self._done]
        if not images:
            return pa.table({"images": [0], "failed": [0]})
        digest = hashlib.sha256("\0".join(path for path, _, _ in images).encode()).hexdigest()[:24]
        begun = ray.get(self._ledger.begin.remote(digest, images[0][0]))
        items = [_Item(path, name, self._fetching(path, content)) for path, name, content in images]
        results = list(self._singly(digest, items, begun) if begun.singly else self._streamed(items))
        self._write(digest, items, results)
        self._ledger.end.remote(digest)
        failed = sum(result.row["error"] is not None for result in results)
        return pa.table({"images": [len(results)], "failed": [failed]})

    def _fetching(self, path: str, content: bytes | None) -> Callable[[], bytes]:
        """What waits for an image's content, which is being read."""
        if content is not None:
            return lambda: content

        def read() -> bytes:
            with self._job.folder.filesystem.open_input_stream(path) as stream:
                return bytes(stream.read())

        reading = self._readers.submit(read)

        def wait() -> bytes:
            try:
                return reading.result()
            except Exception as error:  # pyarrow's file systems raise OSError and errors of their own
                raise ImageError(f"the image cannot be read ({error})") from error

        return wait

    def _streamed(self, items: list[_Item]) -> Iterator[_Result]:
        """Reading, network and enlarging beside each other; one by one from an error that no image has."""
        done = 0
        try:
            batch = GPU_BATCH if self._estimator.runtime.device.startswith("cuda") else 1
            for found in self._estimator.stream(items, lambda item: item.content(), batch_size=batch):
                result = self._failed(found.item, found.error) if found.error else None
                yield result or self._finished(found.item, found.depth_map)
                done += 1
        except Exception:
            if done == len(items):
                raise
        for item in items[done:]:
            yield self._one(item)

    def _singly(self, block: str, items: list[_Item], begun: Any) -> Iterator[_Result]:
        """One image after the other, each noted before."""
        for item in items:
            if begun.hopeless:
                yield self._failed(item, "the workers that were given it and its neighbours were killed")
            elif item.path in begun.killers:
                yield self._failed(item, "the image ended the process that worked on it, twice")
            else:
                ray.get(self._ledger.note.remote(block, item.path))
                yield self._one(item)

    def _one(self, item: _Item) -> _Result:
        try:
            return self._finished(item, self._estimator(item.content()))
        except GlpnError as error:
            return self._failed(item, error)
        except Exception as error:
            return self._failed(item, f"{type(error).__name__}: {error}")

    def _failed(self, item: _Item, error: object) -> _Result:
        return _Result({"path": item.path, "error": str(error)})

    def _finished(self, item: _Item, found: DepthMap) -> _Result:
        depth, options = found.depth, self._job.options
        png = found.to_png(units_per_metre=options.units_per_metre, compress_level=options.compress_level)
        height, width = depth.shape
        row = {"path": item.path, "width": width, "height": height, "error": None}
        row |= {"min_m": float(depth.min()), "median_m": float(np.median(depth)), "max_m": float(depth.max())}
        if options.into == "png":
            row["file"] = f"{item.name}.depth_{options.save}.png"
            self._job.out.write(row["file"], png)
            png = b""
        return _Result(row, png)

    def _write(self, block: str, items: list[_Item], results: list[_Result]) -> None:
        """The block's shard, then its rows, which make it done; done again, both have the same names."""
        out, schema = self._job.out, ROW
        if out.read(RUN) != self._job.run.encode():
            raise RuntimeError("another run of the job has begun")
        if self._job.options.into == "webdataset":
            shard = f"{SHARDS}/{block}.tar"
            with out.writing(shard) as stream:
                write_shard(
                    stream,
                    self._job.options,
                    [(i.name, r.row, r.png) for i, r in zip(items, results, strict=True)],
                )
            for result in results:
                result.row["file"] = shard if result.png else None
        rows = [result.row for result in results]
        if self._job.options.into == "parquet":
            schema = schema.append(DEPTH)
            for result in results:
                result.row["depth"] = result.png or None
        with out.writing(f"{parts_folder(self._job.options)}/{block}.parquet") as stream:
            pyarrow.parquet.write_table(pa.Table.from_pylist(rows, schema=schema), stream)
