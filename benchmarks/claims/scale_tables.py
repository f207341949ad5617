"""The tables of docs/scale.md and docs/serving.md: modes, what Ray and Triton cost, and a server's memory."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from glpn_deploy.benchmarks.claims.markdown import Section, markdown_table, measured

_BACKENDS = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}
_PRECISIONS = {"fp32": "FP32", "bf16": "BF16", "int8": "INT8", "int8+bf16": "INT8 and BF16"}


def modes(section: Section) -> str:
    """Processors' time an image and images a second, by mode."""
    rows = []
    for name, ways in section["figures"]["modes"].items():
        backend, precision = name.split()
        cells = [f"{_BACKENDS[backend]}, {_PRECISIONS[precision]}"]
        first = [turn["images_per_s"] for turn in ways["latency"]]
        for mode, turns in ways.items():
            rate = _ratio([turn["images_per_s"] for turn in turns], first)
            took = statistics.median(turn["cpu_ms"] for turn in turns)
            cells.append(f"{took:.0f} ms" + ("" if mode == "latency" else f"; {rate}"))
        rows.append(tuple(cells))
    head = ("", "one process, two threads an image", "one process, `throughput`", "two processes, `worker`")
    return f"{measured(section)}\n\n{markdown_table(head, rows, right=True)}"


def costs(section: Section) -> str:
    """What an image costs beside its network, and through Ray."""
    null, demo = section["figures"]["null"], section["figures"]["demo"]
    ray, plain = demo["rounds"]["ray"], demo["rounds"]["plain"]
    wall, cpu, wall_job, cpu_job = (([row[i] for row in ray], [row[i] for row in plain]) for i in range(4))
    size = "×".join(map(str, demo["size"]))
    rows = [
        (
            f"{null['images']:,} images of 32×32 and no network, in and out of files",
            f"{null['seconds']:.1f} s, and {null['cpu_seconds']:.0f} s of the processors: "
            f"{1e3 * null['cpu_seconds'] / null['images']:.1f} ms an image",
        ),
        (f"the demo network at {size}, by the clock", _beside(wall)),
        ("the same, of the processors", _beside(cpu)),
        (
            "a job's start and end",
            f"{_range(wall_job[0], 's')}, {_range(cpu_job[0], 's')} of the processors; "
            f"plain processes {_range(wall_job[1], 's')} and {_range(cpu_job[1], 's')}",
        ),
    ]
    return f"{measured(section)}\n\n{markdown_table(('', 'measured'), rows)}"


def triton(section: Section) -> str:
    """Images a second beside the bare network, and what the server adds to an image."""
    throughput, overhead = section["figures"]["throughput"], section["figures"]["overhead"]
    rates, taken = throughput["images_per_s"], throughput["processor_ms"]
    rows = [
        (
            "images a second of two one-thread instances, beside the bare network's on two threads",
            f"{statistics.median(rates['server']):.1f} and {statistics.median(rates['bare']):.1f}: "
            f"{_ratio(rates['server'], rates['bare'])}",
        ),
        (
            "an image, of the processors",
            f"the bare network {taken['bare']:.0f} ms; the server {taken['server']:.0f} ms, "
            f"its callers on the same cores {taken['callers']:.1f} ms",
        ),
        (
            "one image by `DepthEstimator` on one thread, and by the server",
            f"{overhead['estimator_ms']:.0f} ms, {overhead['server_ms']:.0f} ms: "
            f"{overhead['overhead_ms']:.1f} ms more",
        ),
    ]
    return f"{measured(section)}\n\n{markdown_table(('', 'measured'), rows)}"


def triton_soak(section: Section) -> str:
    """What eight callers did to the server's memory."""
    found = section["figures"]
    second, last = found["second_and_last_quarter_mb"]
    return (
        f"{found['callers']} callers for {found['seconds'] / 60:.0f} minutes ({section['measured']}, "
        f"{section['environment']['processor']}): {found['requests']:,} requests, "
        f"{sum(found['errors'].values())} errors; the memory of the server and its Python processes was "
        f"{second:.0f} MB in the second quarter of that time and {last:.0f} MB in the last."
    )


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """The median of the turns' ratios, and between what they lie."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _beside(found: tuple[list[float], list[float]]) -> str:
    ray, plain = map(statistics.median, found)
    return f"{ray:.1f} ms an image through Ray, {plain:.1f} ms through plain processes: {_ratio(*found)}"


def _range(values: Sequence[float], unit: str) -> str:
    return f"{min(values):.1f} to {max(values):.1f} {unit}"
