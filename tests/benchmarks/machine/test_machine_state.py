"""Who used the cores, by planted counters, and that the real ones count."""

from __future__ import annotations

import time

import pytest

from glpn_deploy.benchmarks.machine.machine_state import Usage, Watch, own_cores


def test_what_is_neither_the_workers_nor_ones_own_is_others() -> None:
    looks = iter([(100.0, 7.0), (101.5, 7.25)])  # busy, stolen [s]
    usage = Usage()
    with Watch(lambda: next(looks)).burst(usage) as own:
        own.append(0.4)
    assert usage.others_s == pytest.approx(1.1, abs=0.01)
    assert usage.stolen_s == 0.25
    assert usage.seconds > 0


def test_bursts_add_up_to_cores() -> None:
    usage = Usage(seconds=10.0, others_s=5.0, stolen_s=1.0)
    assert (usage.others, usage.stolen) == (0.5, 0.1)
    assert Usage().others == 0


def test_a_process_that_works_is_seen() -> None:
    """Other programs can only add to it."""
    cores = own_cores()
    before = cores()
    begin = time.process_time()
    while time.process_time() - begin < 0.3:
        pass
    assert cores()[0] - before[0] >= 0.25
