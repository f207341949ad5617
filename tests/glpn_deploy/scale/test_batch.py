"""Every image once, whatever happens to images, workers, machines and the driver; on real Ray."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from glpn_deploy import DepthEstimator
from glpn_deploy.errors import BackendError, InputError
from glpn_deploy.scale.batch import BatchReport, run_batch
from glpn_deploy.scale.options import BatchOptions

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra ray brings it"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:::ray"),
    pytest.mark.filterwarnings("ignore:::pyarrow"),
    pytest.mark.skipif(sys.platform == "win32", reason="signals"),
]
SLOW_S = 0.03  # an image, where something is to be killed meanwhile


def planted(log: Path, delay_s: float = 0.0, killer: int | None = None) -> Callable[[], DepthEstimator]:
    """Opens a network whose depth [m] is the picture's grey / 100, and that notes grey and process.

    Local to this function, so that it travels to the workers by value.
    """

    def load() -> DepthEstimator:
        import os
        import signal
        import time

        from glpn_deploy.estimator import DepthEstimator
        from glpn_deploy.images.processing import GLPNImageProcessor
        from glpn_deploy.runtimes.rt_null import NullRuntime

        class Planted(NullRuntime):
            def _infer(self, pixel_values: Any) -> Any:
                grey = round(float(pixel_values[0, 0, 0, 0]) * 255)
                with log.open("a") as file:
                    file.write(f"{grey} {os.getpid()}\n")
                if grey == killer:
                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(delay_s)
                return super()._infer(pixel_values) * 0 + grey / 100

        return DepthEstimator(Planted(), GLPNImageProcessor(), 10.0)

    return load


def noted(log: Path) -> list[list[int]]:
    return (
        [[int(word) for word in line.split()] for line in log.read_text().splitlines()]
        if log.exists()
        else []
    )


def manifest(out: Path) -> list[dict[str, Any]]:
    return sorted(
        pyarrow.parquet.read_table(out / "manifest.parquet").to_pylist(), key=lambda row: row["path"]
    )


def require_every_image_once(folder: Path, out: Path) -> None:
    rows = manifest(out)
    assert [row["path"] for row in rows] == sorted(map(str, folder.rglob("*.png")))
    for row in rows:
        grey = int(Path(row["path"]).stem)
        assert row["error"] is None
        assert row["median_m"] == pytest.approx(grey / 100)
        assert np.asarray(Image.open(out / row["file"])).max() == grey * 10  # millimetres


def meanwhile(until: Callable[[], bool], then: Callable[[], None]) -> threading.Thread:
    """Does something when something has happened."""

    def wait() -> None:
        end = time.monotonic() + 60
        while not until() and time.monotonic() < end:
            time.sleep(0.02)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def run_planted(folder: Any, out: Path, log: Path, **about: Any) -> BatchReport:
    options = {"workers": 2, "images_per_part": 4} | about.pop("options", {})
    return run_batch("planted", str(folder), str(out), BatchOptions(**options), opener=planted(log, **about))


def test_a_killed_worker(cluster: Any, pictures: Callable, tmp_path: Path) -> None:
    folder, log = pictures(60), tmp_path / "log"
    killing = meanwhile(lambda: len(noted(log)) > 10, lambda: os.kill(noted(log)[-1][1], signal.SIGKILL))
    report = run_planted(folder, tmp_path / "out", log, delay_s=SLOW_S)
    killing.join()
    assert (report.images, report.failed, report.deaths) == (60, 0, 1)
    require_every_image_once(folder, tmp_path / "out")


def test_an_image_that_kills_its_worker_is_a_row_with_its_reason(
    cluster: Any, pictures: Callable, tmp_path: Path
) -> None:
    report = run_planted(pictures(8), tmp_path / "out", tmp_path / "log", killer=5)
    assert (report.images, report.failed) == (8, 1)
    assert [row["path"][-7:] for row in manifest(tmp_path / "out") if row["error"]] == ["005.png"]
    assert "twice" in report.errors[str(tmp_path / "pictures" / "00" / "005.png")]
    assert [grey for grey, _ in noted(tmp_path / "log")].count(5) == 3  # in the stream, and twice alone


def test_a_network_that_does_not_load(cluster: Any, pictures: Callable, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BackendError) as caught:
        run_batch(str(tmp_path / "empty"), str(pictures(2)), str(tmp_path / "out"), BatchOptions(workers=1))
    assert "neither a bundle" in caught.value.got
    assert "glpn-export" in caught.value.fix


def test_a_cluster_that_others_hold_says_so(
    cluster: Any, pictures: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    class Holder:
        def there(self) -> None:
            pass

    remote = ray.remote(num_cpus=1)(Holder)
    holders: list[Any] = [remote.remote() for _ in range(3)]
    ray.get([holder.there.remote() for holder in holders])
    told: list[str] = []

    def hear(text: object, *_: Any, **__: Any) -> None:
        if not str(text).startswith("No image"):
            return
        told.append(str(text))
        for holder in holders:
            ray.kill(holder)
        holders.clear()

    monkeypatch.setattr(warnings, "warn", hear)
    report = run_planted(pictures(4), tmp_path / "out", tmp_path / "log", options={"stalled_after": 2})
    assert report.images == 4
    assert told
    assert "0 of 3 CPUs are unclaimed" in told[0]


@pytest.mark.parametrize("into", ["parquet", "webdataset"])
def test_bytes_in_and_out_and_what_failed_again(
    cluster: Any, pictures: Callable, tmp_path: Path, into: str
) -> None:
    files = sorted(pictures(12).rglob("*.png"))
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()

    def write(contents: list[bytes]) -> None:
        if into == "parquet":
            table = pa.table({"path": [f"s3://b/{file.stem}" for file in files], "bytes": contents})
            pyarrow.parquet.write_table(table, source / "images.parquet")
            return
        with tarfile.open(source / "0.tar", "w") as tar:
            for file, content in zip(files, contents, strict=True):
                entry = tarfile.TarInfo(f"b/{file.stem}.png")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))

    good = [file.read_bytes() for file in files]
    write([content[:60] if number == 7 else content for number, content in enumerate(good)])
    options = {"into": into, "images_per_part": 4}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        report = run_planted(source, out, tmp_path / "log", options=options)
    assert not [warning for warning in told if "concurrent tasks" in str(warning.message)]
    assert (report.images, report.failed, report.done_before) == (12, 1, 0)
    write(good)
    report = run_planted(source, out, tmp_path / "log", options=options | {"retry_failed": True})
    assert (report.images, report.failed, report.done_before) == (12, 0, 11)
    assert sorted(grey for grey, _ in noted(tmp_path / "log")) == list(range(12))  # 7 in the second alone
    found: dict[str, bytes] = {}
    if into == "parquet":
        rows = pyarrow.parquet.read_table(out / "depth").to_pylist()
        found = {row["path"].rpartition("/")[2]: row["depth"] for row in rows if row["depth"]}
    for shard in (out / "shards").glob("*.tar"):
        with tarfile.open(shard) as tar:
            for entry in tar:
                if entry.name.endswith(".depth_mm.png"):
                    content = tar.extractfile(entry)
                    assert content is not None
                    found[Path(entry.name).name.partition(".")[0]] = content.read()
    assert sorted(found) == [file.stem for file in files]
    assert all(np.asarray(Image.open(io.BytesIO(png))).max() == int(name) * 10 for name, png in found.items())


def test_a_lost_machine(cluster: Any, pictures: Callable, tmp_path: Path) -> None:
    """The last of the tests on the cluster, which has one machine less after it."""
    folder, log, out = pictures(90), tmp_path / "log", tmp_path / "out"
    (second,) = cluster.worker_nodes
    raylet = second.all_processes["raylet"][0].process.pid
    killing = meanwhile(lambda: len(noted(log)) > 15, lambda: os.kill(raylet, signal.SIGKILL))
    report = run_planted(folder, out, log, delay_s=SLOW_S, options={"workers": 6})
    killing.join()
    assert (report.images, report.failed) == (90, 0)
    require_every_image_once(folder, out)


def alone(program: str, *arguments: Any) -> subprocess.Popen:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def test_the_command_alone_with_bad_images(tiny_bundle: Path, pictures: Callable, tmp_path: Path) -> None:
    """No cluster to start; the depth is what the estimator gives."""
    folder, out = pictures(120, side=64), tmp_path / "out"
    good = sorted(folder.rglob("*.png"))
    for path, content in zip(good[3::50], (b"", b"no image", good[0].read_bytes()[:60]), strict=True):
        path.write_bytes(content)
    program = "import sys; from glpn_deploy.cli.batch import main; main('glpn-batch')"
    process = alone(program, tiny_bundle, folder, out, "--json")
    told, said = process.communicate(timeout=120)
    assert process.returncode == 1, said
    report = json.loads(told)
    assert (report["images"], report["failed"], len(report["errors"])) == (120, 3, 3)
    assert len(list(out.rglob("*.depth_mm.png"))) == 117
    row = manifest(out)[0]
    with DepthEstimator.load(tiny_bundle, backend=report["runtime"]["backend"]) as estimator:
        expected = estimator(good[0]).quantized(1000)
    assert np.abs(np.asarray(Image.open(out / row["file"])).astype(int) - expected).max() <= 1
    assert (row["width"], row["height"]) == (64, 64)


def test_a_killed_driver_and_the_same_command(pictures: Callable, tmp_path: Path) -> None:
    folder, out, log = pictures(40), tmp_path / "out", tmp_path / "log"
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_batch
from pathlib import Path
from ray import cloudpickle
cloudpickle.register_pickle_by_value(test_batch)
report = test_batch.run_planted({str(folder)!r}, Path({str(out)!r}), Path({str(log)!r}), delay_s={SLOW_S})
assert report.images == 40
print(report.done_before)
"""
    first = alone(program)
    parts = out / "_job" / "parts"
    end = time.monotonic() + 60
    while len(list(parts.glob("[!.]*.parquet"))) < 3:
        assert time.monotonic() < end
        assert first.poll() is None, first.stderr.read()
        time.sleep(0.02)
    theirs = psutil.Process(first.pid).children(recursive=True)
    working = [one for one in theirs if one.name() == "raylet" or "MapWorker" in one.name()]
    assert len(working) == 3
    first.send_signal(signal.SIGKILL)
    first.communicate()
    _, left = psutil.wait_procs(working, timeout=60)
    assert not left
    done = set(pyarrow.parquet.read_table(parts)["path"].to_pylist())
    second = alone(program)
    told, said = second.communicate(timeout=120)
    assert second.returncode == 0, said
    assert int(told) == len(done)
    require_every_image_once(folder, out)
    times = Counter(grey for grey, _ in noted(log))
    assert all(times[int(Path(path).stem)] == 1 for path in done)
    for agent in psutil.wait_procs(theirs, timeout=0.1)[1]:  # Ray's agents take a minute to end by themselves
        agent.kill()


def test_another_job_s_folder_is_refused(
    pictures: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Ray is started; also where that job has not come further."""

    def no_ray(options: BatchOptions) -> Any:
        raise BackendError("Ray did not start")

    monkeypatch.setattr("glpn_deploy.scale.batch.joined", no_ray)
    with pytest.raises(BackendError):
        run_planted(pictures(2), tmp_path / "out", tmp_path / "log")
    with pytest.raises(InputError) as caught:
        run_planted(pictures(2, "others"), tmp_path / "out", tmp_path / "log")
    assert "job with images" in caught.value.got
