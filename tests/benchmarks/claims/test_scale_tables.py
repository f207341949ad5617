"""What the tables of scale and serving say of figures that can be computed by hand."""

from __future__ import annotations

from glpn_deploy.benchmarks.claims import scale_tables

HEAD = {"measured": "2026-11-29", "environment": {"processor": "2 cores", "versions": {"openvino": "2026.4"}}}


def turns(*values: tuple[float, float]) -> list[dict[str, float]]:
    return [{"cpu_ms": cpu_ms, "images_per_s": rate} for cpu_ms, rate in values]


def test_modes_stand_beside_one_image_on_all_threads() -> None:
    ways = {
        "latency": turns((200, 4), (220, 5), (210, 4)),
        "throughput": turns((190, 4), (180, 6), (185, 6)),
        "worker": turns((190, 8), (195, 5), (191, 4)),
    }
    text = scale_tables.modes({**HEAD, "figures": {"modes": {"openvino int8+bf16": ways}}})
    row = "| OpenVINO, INT8 and BF16 | 210 ms | 185 ms; 1.20 (1.00 to 1.50) | 191 ms; 1.00 (1.00 to 2.00) |"
    assert row in text.splitlines()


def test_what_ray_costs_an_image_and_a_job() -> None:
    demo = {
        "size": [320, 240],
        "rounds": {
            "ray": [[21.0, 44.0, 7.0, 9.0], [20.0, 48.0, 8.0, 8.0], [22.0, 45.0, 7.5, 9.5]],
            "plain": [[20.0, 40.0, 0.8, 1.0], [20.0, 40.0, 0.9, 1.2], [20.0, 45.0, 0.8, 1.1]],
        },
    }
    null = {"images": 20_000, "seconds": 15.04, "cpu_seconds": 28.0}
    text = scale_tables.costs({**HEAD, "figures": {"null": null, "demo": demo}})
    assert "15.0 s, and 28 s of the processors: 1.4 ms an image" in text
    assert "21.0 ms an image through Ray, 20.0 ms through plain processes: 1.05 (1.00 to 1.10)" in text
    assert "45.0 ms an image through Ray, 40.0 ms through plain processes: 1.10 (1.00 to 1.20)" in text
    assert (
        "7.0 to 8.0 s, 8.0 to 9.5 s of the processors; plain processes 0.8 to 0.9 s and 1.0 to 1.2 s" in text
    )


def test_a_server_beside_the_bare_network_and_its_memory() -> None:
    throughput = {
        "images_per_s": {"bare": [10.0, 10.0, 10.0], "server": [9.0, 11.0, 9.5]},
        "processor_ms": {"bare": 180.4, "server": 184.6, "callers": 1.53},
    }
    overhead = {"estimator_ms": 179.0, "server_ms": 180.2, "overhead_ms": 1.1}
    text = scale_tables.triton({**HEAD, "figures": {"throughput": throughput, "overhead": overhead}})
    assert "9.5 and 10.0: 0.95 (0.90 to 1.10)" in text
    assert "the bare network 180 ms; the server 185 ms, its callers on the same cores 1.5 ms" in text
    assert "179 ms, 180 ms: 1.1 ms more" in text
    load = {"callers": 8, "seconds": 600.4, "requests": 2368, "errors": {}}
    told = scale_tables.triton_soak(
        {**HEAD, "figures": {**load, "second_and_last_quarter_mb": [474.1, 461.2]}}
    )
    assert "8 callers for 10 minutes (2026-11-29, 2 cores): 2,368 requests, 0 errors" in told
    assert told.endswith("474 MB in the second quarter of that time and 461 MB in the last.")
