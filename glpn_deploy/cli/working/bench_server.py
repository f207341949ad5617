"""The work of glpn-bench --server: the load, and its table."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image
from rich.table import Table

from glpn_deploy.benchmarks.measuring.server_load import choose_model, measure_server
from glpn_deploy.benchmarks.server_options import ServerOptions
from glpn_deploy.benchmarks.workload.bench_images import images_of
from glpn_deploy.cli.console import output, print_json
from glpn_deploy.datasets.rooms import RenderedRooms

_ROOMS = 4


def run(options: ServerOptions, images: Path | None, seconds: float, *, as_json: bool) -> None:
    """Measures, and prints images a second, percentiles and the share of errors.

    Raises:
        GlpnError: The server cannot be asked, or there are no images.
    """
    console = output(as_json=as_json)
    assert options.server is not None
    model = choose_model(options.server, options.model)
    found = [load.to_dict() for load in measure_server(options, model, _files(images), seconds)]
    if as_json:
        print_json({"server": options.server, "model": model, "loads": found})
    table = Table(box=None, pad_edge=False)
    for name in ("load", "images/s", "p50 ms", "p95 ms", "p99 ms", "errors"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        load = f"{one['rate']:g}/s" if one["callers"] is None else f"{one['callers']} callers"
        times = (f"{one[key]:.1f}" if key in one else "-" for key in ("median_ms", "p95_ms", "p99_ms"))
        table.add_row(load, f"{one['images_per_s']:.1f}", *times, f"{one['error_share']:.1%}")
    console.print(f"\n{model} on {options.server}:", markup=False)
    console.print(table)
    for message, count in sorted({k: v for one in found for k, v in one["errors"].items()}.items()):
        console.print(f"! {count} times: {message}", style="yellow", markup=False)


def _files(folder: Path | None) -> list[bytes]:
    """The bytes of a folder's images, or of rendered rooms as JPEG.

    Raises:
        InputError: There are none.
    """
    if folder is None:
        return [_jpeg(Image.fromarray(sample.image)) for sample in RenderedRooms("test", _ROOMS)]
    return [path.read_bytes() for path in images_of(folder)]


def _jpeg(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=90)
    return stream.getvalue()
