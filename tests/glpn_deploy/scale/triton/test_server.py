"""What the real server answers: depth as DepthEstimator's over HTTP and gRPC, and why it refuses."""

from __future__ import annotations

import contextvars
import dataclasses
import io
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glpn_deploy import DepthEstimator, InputError
from glpn_deploy.benchmarks.measuring.server_load import _Callers, measure_server, open_loop
from glpn_deploy.benchmarks.server_options import ServerOptions
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.cli.working.bench_server import run
from glpn_deploy.errors import BackendError
from glpn_deploy.scale.triton.kserve import KserveClient
from glpn_deploy.scale.triton.options import ServeOptions
from glpn_deploy.scale.triton.writing import write_repository

ROOT = Path(__file__).parents[4]
EXAMPLE = ROOT / "examples" / "triton_client.py"
pytestmark = pytest.mark.slow


def photograph(height: int, width: int, seed: int = 0, mode: str = "RGB") -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (5, 7, len(mode)), np.uint8)
    return Image.fromarray(small, mode).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=kind)
    return stream.getvalue()


@pytest.fixture(scope="module")
def estimator(tiny_bundle):
    with DepthEstimator.load(tiny_bundle, backend="onnxruntime") as found:
        yield found


@pytest.fixture
def call(server):
    with KserveClient(server.url) as client:
        yield client.depth


def close(found: np.ndarray, estimator: DepthEstimator, image: Image.Image) -> None:
    expected = estimator(image).depth
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= 1e-5 * estimator.max_depth
    assert np.ptp(expected) > 0.01 * estimator.max_depth  # it is not a constant that agrees


@pytest.mark.parametrize("model", ["glpn", "glpn_python"])
@pytest.mark.parametrize(("height", "width"), [(64, 96), (75, 101), (33, 200)])
def test_depth_is_the_estimators(call, estimator, model, height, width):
    image = photograph(height, width)
    close(call(model, encoded(image)), estimator, image)


@pytest.mark.parametrize("model", ["glpn", "glpn_python"])
def test_a_file_with_an_alpha_channel_is_an_image(call, estimator, model):
    image = photograph(64, 96, mode="RGBA")
    close(call(model, encoded(image)), estimator, image)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_example_speaks_http_and_grpc(server, client, estimator, tmp_path, protocol):
    images = {name: photograph(70, 96, seed) for seed, name in enumerate(["one", "two"])}
    for name, image in images.items():
        image.save(tmp_path / f"{name}.png")
    (tmp_path / "bad.png").write_bytes(b"not an image")
    address = ["--url", server.url.removeprefix("http://")]
    if protocol == "grpc":
        address = ["--grpc", "--url", server.grpc]
    done = client(EXAMPLE, *(tmp_path / f"{name}.png" for name in ("one", "bad", "two")), *address)
    assert done.returncode == 1, done.stderr
    assert "not an image that Pillow can read" in done.stderr
    for name, image in images.items():
        close(np.load(tmp_path / f"{name}.depth.npy"), estimator, image)


def test_the_lines_of_the_page_work(server, estimator, tmp_path, monkeypatch):
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "serving.md").read_text(), re.DOTALL)
    image = photograph(75, 101)
    image.save(tmp_path / "photo.jpg", quality=95)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(lines.replace("http://127.0.0.1:8000", server.url), names)
    close(names["depth"], estimator, Image.open(tmp_path / "photo.jpg"))


ASK = """
import json, sys
import numpy as np
import tritonclient.http as http
from tritonclient.utils import InferenceServerException
client = http.InferenceServerClient(sys.argv[1])
model, name, kind = sys.argv[2:5]
array = np.load(sys.argv[5])
given = http.InferInput(name, list(array.shape), kind)
given.set_data_from_numpy(array)
try:
    answer = client.infer(model, [given])
except InferenceServerException as error:
    print(json.dumps([error.status(), error.message()]))
else:
    np.save(sys.argv[5], answer.as_numpy(answer.get_response()["outputs"][0]["name"]))
"""


@pytest.fixture
def ask(server, client, tmp_path):
    """Sends an array by NVIDIA's client; gives the answer, or the status and sentence of the refusal."""

    def run(model: str, name: str, kind: str, array: np.ndarray):
        path = tmp_path / "tensor.npy"
        np.save(path, array)
        done = client("-c", ASK, server.url.removeprefix("http://"), model, name, kind, path)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout else np.load(path)

    return run


def test_bytes_of_one_size_need_no_python(ask, server, estimator):
    images = [photograph(64, 96, seed) for seed in range(3)]
    found = ask("glpn_raw", "IMAGE", "UINT8", np.stack([np.asarray(image) for image in images]))
    for depth, image in zip(found, images, strict=True):
        close(depth, estimator, image)
    assert 3 in server.batches()


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((1, 64, 96, 4), np.uint8), "unexpected shape"),
        (np.zeros((1, 1, 1, 3), np.uint8), "unexpected shape"),
        (np.zeros((5, 64, 96, 3), np.uint8), "batch-size must be <= 4"),
    ],
    ids=["four channels", "1x1", "too large a batch"],
)
def test_the_server_refuses_pixels_of_another_shape(ask, array, says):
    status, message = ask("glpn_raw", "IMAGE", "UINT8", array)
    assert status == "400"
    assert says in message


BAD = {
    "empty": (b"", "the file is not an image that Pillow can read"),
    "no image": (b"nothing of the kind", "the file is not an image that Pillow can read"),
    "1x1": (encoded(Image.new("RGB", (1, 1))), "expected at least 32 px on either side"),
    "cut": (encoded(photograph(64, 96))[:900], "cannot be decoded"),
}


@pytest.mark.parametrize("model", ["glpn", "glpn_python"])
@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_image_is_refused_with_our_sentence(call, model, kind):
    image, says = BAD[kind]
    with pytest.raises(InputError) as refusal:  # of HTTP's 400, INVALID_ARGUMENT
        call(model, image)
    assert says in str(refusal.value)


@pytest.mark.parametrize("model", ["glpn", "glpn_python"])
def test_a_bad_image_leaves_those_beside_it_unharmed(server, estimator, model):
    good = {seed: photograph(64, 96, seed) for seed in range(6)}

    def one(item):
        with KserveClient(server.url) as client:
            return client.depth(model, item)

    with ThreadPoolExecutor(9) as pool:
        waiting = {seed: pool.submit(one, encoded(image)) for seed, image in good.items()}
        failing = [pool.submit(one, BAD[kind][0]) for kind in ("empty", "1x1", "no image")]
    for seed, image in good.items():
        close(waiting[seed].result(), estimator, image)
    assert all(isinstance(future.exception(), InputError) for future in failing)


def test_triton_puts_callers_into_batches(server):
    image, before = encoded(photograph(64, 96)), len(server.batches())
    for _ in range(20):
        with _Callers(server.url, "glpn", [image]) as calls, ThreadPoolExecutor(8) as pool:
            list(pool.map(calls.call, range(8)))
        if max(server.batches()[before:]) > 1:  # each caller sent one image
            return
    pytest.fail("of 20 times 8 callers, no two were put into a batch")


def test_load_of_callers(server):
    images = [encoded(photograph(64, 96, seed)) for seed in range(2)]
    options = ServerOptions(server=server.url, server_callers=(1, 3))
    found = [load.to_dict() for load in measure_server(options, "glpn_python", images, 0.5)]
    assert [one["callers"] for one in found] == [1, 3]
    for one in found:
        assert one["error_share"] == 0
        assert one["images_per_s"] == pytest.approx(one["requests"] / one["seconds"])
        assert 0 < one["median_ms"] < 1e3 * one["seconds"]


def test_load_at_a_rate_counts_what_is_refused(server):
    options = ServerOptions(server=server.url, rate=30.0)
    images = [encoded(photograph(64, 96)), b"no image"]
    (found,) = (load.to_dict() for load in measure_server(options, "glpn_python", [images[0]], 1.0))
    assert (found["requests"], found["error_share"]) == (30, 0)
    (found,) = (load.to_dict() for load in measure_server(options, "glpn_python", images, 1.0))
    assert (found["requests"], found["error_share"]) == (30, 0.5)
    assert ["not an image" in message for message in found["errors"]] == [True]


def print_load(*arguments, **options):
    """What the command does, in a context of its own: what it shows ends with it."""
    contextvars.copy_context().run(run, *arguments, **options)


def test_what_glpn_bench_prints(server, tmp_path, capsys):
    photograph(64, 96).save(tmp_path / "one.png")
    options = ServerOptions(server=server.url, server_callers=(2,))
    print_load(options, tmp_path, 0.2, as_json=False)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("2 callers"))
    assert float(line.split()[2]) > 0
    assert line.endswith("0.0%")
    print_load(dataclasses.replace(options, model="glpn_python"), tmp_path, 0.2, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["model"], told["loads"][0]["error_share"]) == ("glpn_python", 0)
    with pytest.raises(BackendError) as refusal:
        print_load(dataclasses.replace(options, model="other"), tmp_path, 0.2, as_json=False)
    assert "glpn_raw" in refusal.value.expected


def test_a_server_that_is_not_there():
    options = ServerOptions(server="http://127.0.0.1:9")
    with pytest.raises(BackendError) as refusal:
        next(measure_server(options, "glpn", [b""], 0.1))
    assert "does not answer" in refusal.value.got


def test_an_open_loop_waits_for_nobody():
    due: list[float] = []
    elapsed = open_loop(lambda number, moment: due.append(moment), rate=200, seconds=0.5)
    assert len(due) == 100
    assert 0.3 < elapsed < 1.5
    assert np.mean(np.diff(sorted(due))) == pytest.approx(1 / 200, rel=0.4)


PARSE = """
import sys
from pathlib import Path
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig
for path in map(Path, sys.argv[1:]):
    config = text_format.Parse(path.read_text(), ModelConfig())
    assert config.name == path.parent.name, config.name
    print(config.name, config.max_batch_size)
try:
    text_format.Parse(path.read_text() + "queue_size: 3", ModelConfig())
except text_format.ParseError:
    print("a wrong field is refused")
"""


def test_every_config_is_tritons(server, client, engine, bundle_copy, tmp_path):
    bundle = Bundle.open(bundle_copy)
    for name, told in (("plan", {"engine": engine()}), ("compiled", {"tensorrt_cache": Path("/engines")})):
        write_repository(bundle, tmp_path / name, ServeOptions(models=("glpn",), batch=6, **told))
    others = [tmp_path / name / "glpn_net" / "config.pbtxt" for name in ("plan", "compiled")]
    done = client("-c", PARSE, *others, *sorted(server.repository.glob("*/config.pbtxt")))
    assert done.stdout.splitlines() == [
        "glpn_net 6",
        "glpn_net 6",
        "glpn 0",
        "glpn_net 4",
        "glpn_postprocess 0",
        "glpn_preprocess 0",
        "glpn_python 0",
        "glpn_raw 4",
        "a wrong field is refused",
    ], done.stderr
