"""A Ray cluster of two machines on this one, made once for a file, and gone after it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from glpn_deploy.scale.cluster import ALONE

    before = dict(os.environ)
    os.environ.update(ALONE, RAY_AUTH_TOKEN=secrets.token_hex(16))
    import ray
    from ray.cluster_utils import Cluster

    machine = {"num_cpus": 2, "object_store_memory": 100 << 20, "include_dashboard": False}
    sooner = {"health_check_period_ms": 1000}  # a lost machine is known after five of them
    head = {**machine, "_system_config": sooner}
    found = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=False)
    try:
        found.add_node(num_cpus=1, object_store_memory=100 << 20, resources={"second": 1})
        ray.init(found.address, log_to_driver=False, logging_level="ERROR")
        yield found
    finally:
        ray.shutdown()
        found.shutdown()
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[..., Path]:
    def make(count: int, folder: str = "pictures", side: int = 32) -> Path:
        """Grey pictures, each of another grey; in folders of ten."""
        for number in range(count):
            path = tmp_path / folder / f"{number // 10:02d}" / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((side, side, 3), number, np.uint8)).save(path)
        return tmp_path / folder

    return make
