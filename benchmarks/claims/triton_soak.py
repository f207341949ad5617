"""Whether a Triton server grows: eight callers for ten minutes, and its memory every ten seconds."""

from __future__ import annotations

import statistics
import threading
from typing import Any

from glpn_deploy.benchmarks.claims.running import FigureOptions
from glpn_deploy.benchmarks.claims.triton import jpegs, served, tree
from glpn_deploy.benchmarks.measuring.server_load import measure_server
from glpn_deploy.benchmarks.server_options import ServerOptions

CALLERS, MINUTES = 8, 10.0
_LOOK_S = 10.0


def soak(url: str, process: int, images: list[bytes], minutes: float) -> dict[str, Any]:
    """Memory of the server and its Python processes while callers call, every ten seconds [MB]."""
    looked: list[float] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(_LOOK_S):
            looked.append(sum(one.memory_full_info().pss for one in tree(process)) / 1e6)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        options = ServerOptions(server=url, server_callers=(CALLERS,))
        (load,) = measure_server(options, "glpn_python", images, 60 * minutes)
    finally:
        done.set()
        watcher.join()
    quarter = max(1, len(looked) // 4)
    parts = [looked[quarter : 2 * quarter], looked[-quarter:]]  # without the first quarter, which warms up
    growth = [statistics.median(part) for part in parts if part]
    return {**load.to_dict(), "memory_mb": looked, "second_and_last_quarter_mb": growth}


def measure(options: FigureOptions) -> dict[str, Any]:
    """The load, and the memory beside it."""
    with served(options.folder) as (_, url, process):
        return soak(url, process, jpegs(), MINUTES)
