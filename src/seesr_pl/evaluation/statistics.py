"""How sure a mean is: bootstrap intervals, paired differences between methods, and tests over several metrics."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from seesr_pl import keyed

NUM_RESAMPLES = 10_000
CONFIDENCE = 0.95
CHUNK = 1_000


class Interval(NamedTuple):
    """A mean over `n` values with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float
    n: int


def mean_interval(
    values: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean of `values` and its percentile bootstrap interval.

    With `groups`, whole groups are drawn: values of one photograph are not independent. The interval of fewer
    than two groups, or of values that are not finite, is not a number. Raises ValueError for no values.
    """
    if len(values) == 0:
        raise ValueError("values is empty; an interval needs at least one value")
    sums, counts = _group_sums(np.asarray(values, dtype=np.float64), groups)
    mean = float(sums.sum() / counts.sum())
    if len(sums) < 2 or not np.isfinite(mean):
        return Interval(mean, float("nan"), float("nan"), len(values))
    means = _resampled_means(sums, counts, num_resamples=num_resamples, seed=seed)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(mean, float(low), float(high), len(values))


def paired_interval(
    values: Sequence[float],
    reference: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean of `values - reference`, image by image, with its bootstrap interval as in `mean_interval`."""
    differences = _differences(values, reference)
    return mean_interval(differences.tolist(), groups, num_resamples=num_resamples, seed=seed)


def wilcoxon(values: Sequence[float], reference: Sequence[float]) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test on paired values; 1 where all pairs are equal."""
    differences = _differences(values, reference)
    if not np.any(differences):
        return 1.0
    return float(stats.wilcoxon(differences).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjustment of p-values for several tests, in the order given."""
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(np.asarray(p_values, dtype=np.float64)[order] * factors), 1.0)
    result = np.empty(len(p_values))
    result[order] = adjusted
    return result.tolist()


def _differences(values: Sequence[float], reference: Sequence[float]) -> np.ndarray:
    if len(values) != len(reference):
        raise ValueError(f"{len(values)} values against {len(reference)} of the reference; pair them by image first")
    return np.asarray(values, dtype=np.float64) - np.asarray(reference, dtype=np.float64)


def _group_sums(values: np.ndarray, groups: Sequence[Hashable] | None) -> tuple[np.ndarray, np.ndarray]:
    if groups is None:
        return values, np.ones_like(values)
    if len(groups) != len(values):
        raise ValueError(f"{len(groups)} groups for {len(values)} values; give one group for each value")
    index = {group: position for position, group in enumerate(dict.fromkeys(groups))}
    positions = [index[group] for group in groups]
    return np.bincount(positions, weights=values), np.bincount(positions).astype(np.float64)


def _resampled_means(sums: np.ndarray, counts: np.ndarray, *, num_resamples: int, seed: int) -> np.ndarray:
    generator = keyed.numpy_generator(seed, "bootstrap")
    even = np.full(len(sums), 1 / len(sums))
    means = []
    # In chunks: 3000 images x 10000 resamples at once would take a quarter of a gigabyte.
    for start in range(0, num_resamples, CHUNK):
        drawn = generator.multinomial(len(sums), even, size=min(CHUNK, num_resamples - start))
        means.append((drawn @ sums) / (drawn @ counts))
    return np.concatenate(means)
