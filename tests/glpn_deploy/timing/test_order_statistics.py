"""The median's interval against the binomial table and against simulated coverage."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from glpn_deploy.errors import InputError
from glpn_deploy.timing.order_statistics import median_interval
from tests.refusals import refused


@pytest.mark.parametrize("n", [6, 7, 15, 40, 333])
def test_the_ranks_are_the_widest_that_the_binomial_allows(n: int) -> None:
    low, high = median_interval(list(range(1, n + 1)))
    k = int(low)
    assert high == n + 1 - k
    assert 1 - 2 * scipy.stats.binom.cdf(k - 1, n, 0.5) >= 0.95
    assert 1 - 2 * scipy.stats.binom.cdf(k, n, 0.5) < 0.95


def test_it_covers_the_median_of_a_skewed_distribution() -> None:
    rng = np.random.default_rng(0)
    draws = rng.lognormal(0.0, 0.5, (2000, 12))
    hits = sum(low <= 1.0 <= high for low, high in (median_interval(list(draw)) for draw in draws))
    assert hits / len(draws) >= 0.95


def test_too_few_samples_are_refused() -> None:
    with refused(InputError, got="5 samples"):
        median_interval([1, 2, 3, 4, 5])
