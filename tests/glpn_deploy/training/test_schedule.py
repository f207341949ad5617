"""Learning rates at points worked out by hand."""

import pytest

from glpn_deploy.training.schedule import learning_rate

HALF = 0.5**0.9  # 0.535887


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 3e-5), (25, 3e-5 + 7e-5 * HALF), (50, 1e-4), (75, 1e-4 - 7e-5 * HALF), (100, 3e-5)],
)
def test_paper_rises_from_3e_5_to_1e_4_and_falls_back_by_the_power_0_9(step, rate):
    assert learning_rate(step, 100, 1e-4) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize(("step", "rate"), [(0, 1 / 3), (2, 1.0), (3, 1.0), (51.5, 0.5), (100, 0.0)])
def test_cosine_rises_over_3_percent_and_falls_to_0(step, rate):
    assert learning_rate(step, 100, 1.0, "cosine") == pytest.approx(rate, abs=1e-12)


@pytest.mark.parametrize("kind", ["paper", "cosine"])
def test_shortest_run_has_a_rate(kind):
    assert learning_rate(0, 1, 1e-4, kind) > 0
