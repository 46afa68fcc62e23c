"""A stream over small shards, for the tests of its order, its draws and its damage."""

import numpy as np

from seesr_pl.data import ShardDataset, ShardSource
from seesr_pl.degradation import NoDegradation


def dataset(*urls: str, seed=0, **options) -> ShardDataset:
    """Crops of 32 pixels from the shards of each pattern, nothing degraded unless asked; short waits."""
    options = {"crop_size": 32, "degradation": NoDegradation(), "num_retries": 1, "first_wait_seconds": 0.01, **options}
    return ShardDataset([ShardSource(pattern) for pattern in urls], seed=seed, **options)


def equal(first, second) -> bool:
    """Whether two samples of a stream are the same in all their fields."""
    images = np.array_equal(first.hq, second.hq) and np.array_equal(first.lq, second.lq)
    return images and first[2:] == second[2:]
