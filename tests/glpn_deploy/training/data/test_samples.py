"""Order and augmentation are functions of seed, epoch and index."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from glpn_deploy.datasets.base import DepthSample
from glpn_deploy.errors import InputError
from glpn_deploy.training.data.samples import Augmentation, StepBatches, TrainSamples
from tests.refusals import refused


class Constant:
    """A data set of one picture, 4 m deep with a hole, something too far and something negative."""

    name, max_depth, crop = "constant", 8.0, None

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> DepthSample:
        depth = np.full((32, 32), 4.0, np.float32)
        depth[0, :3] = (0.0, 8.5, -1.0)
        return DepthSample(np.full((32, 32, 3), 9, np.uint8), depth, "constant")


def test_every_epoch_sees_every_sample_once_in_an_order_of_its_own():
    steps = list(StepBatches(count=10, batch=5, epochs=3, start=0, seed=0))
    assert len(steps) == 6
    epochs = [[index for step in steps[i : i + 2] for _, index in step] for i in (0, 2, 4)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [step[0][0] for step in steps] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("start", [1, 3, 4, 8])
def test_steps_from_any_start_are_those_of_the_whole_run(start):
    whole = list(StepBatches(count=11, batch=4, epochs=4, start=0, seed=5))
    assert list(StepBatches(count=11, batch=4, epochs=4, start=start, seed=5)) == whole[start:]


def test_fewer_samples_than_a_batch_are_refused():
    with refused(InputError, got="3 samples and a batch takes 4"):
        StepBatches(count=3, batch=4, epochs=1, start=0, seed=0)


def test_depth_that_does_not_count_is_0():
    samples: Any = TrainSamples(Constant(), Augmentation((32, 32), 0.0, 0.0, "unit"), seed=0)
    _, depth = samples[0, 0]
    assert depth[0].tolist() == [0.0] * 3 + [4.0] * 29


def test_cutdepth_pastes_into_its_share_of_the_samples_and_repeats_itself():
    samples: Any = TrainSamples(Constant(), Augmentation((32, 32), 0.0, 0.25, "unit"), seed=0)
    pasted = [bool((samples[epoch, 0][0] != 9).any()) for epoch in range(400)]
    assert 0.2 < np.mean(pasted) < 0.3
    strip = samples[pasted.index(True), 0][0]
    assert set(np.unique(strip)) <= {0, 9, 128, 255}  # 4 m of 8 m; the hole; what is too far
    np.testing.assert_array_equal(samples[pasted.index(True), 0][0], strip)
