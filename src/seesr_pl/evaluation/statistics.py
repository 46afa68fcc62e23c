"""How sure a mean is: bootstrap intervals, paired differences between methods, and tests over several metrics."""

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import stats
from torch import Tensor

from seesr_pl import keyed

NUM_RESAMPLES = 10_000
NUM_RANKINGS = 1_000
"""Resamples of a mean average precision; fewer than of a mean, because each ranks all images for all tags again."""
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
    """Compute the mean of `values` and its percentile bootstrap interval.

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
    return Interval(mean, *percentile_interval(means), len(values))


def metric_intervals(
    values: Mapping[str, Mapping[str, float]], groups: Mapping[str, str], *, seed: int = 0
) -> dict[str, Interval]:
    """Compute the interval of each metric of `values[image][metric]`; images of one group are drawn together."""
    names = dict.fromkeys(name for scores in values.values() for name in scores)
    having = {name: [image for image in values if name in values[image]] for name in names}
    return {
        name: mean_interval([values[image][name] for image in images], [groups[image] for image in images], seed=seed)
        for name, images in having.items()
    }


def paired_interval(
    values: Sequence[float],
    reference: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Compute the mean of `values - reference`, image by image, with its interval as in `mean_interval`."""
    differences = _differences(values, reference)
    return mean_interval(differences.tolist(), groups, num_resamples=num_resamples, seed=seed)


def percentile_interval(resampled: np.ndarray) -> tuple[float, float]:
    """Compute the bounds between which 95 % of a statistic's resampled values lie."""
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return float(low), float(high)


def draw_counts(groups: Sequence[Hashable], *, num_resamples: int, seed: int = 0) -> np.ndarray:
    """Draw how often each value occurs in each resample of whole groups: integers (num_resamples, len(groups))."""
    positions = _positions(groups)
    num_groups = max(positions) + 1
    generator = keyed.numpy_generator(seed, "bootstrap")
    return generator.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=num_resamples)[:, positions]


def precision_difference(
    logits: Float[Tensor, "b k"],
    reference: Float[Tensor, "b k"],
    wanted: Bool[Tensor, "b k"],
    groups: Sequence[Hashable],
    *,
    num_resamples: int = NUM_RANKINGS,
    seed: int = 0,
) -> Interval:
    """Subtract the mean average precision of `reference` from that of `logits`; with its paired bootstrap interval.

    Whole groups are drawn, the same for both. The interval of fewer than two groups is not a number.
    """
    once = torch.ones(1, len(wanted))
    ours, theirs = (resampled_precision(values, wanted, once) for values in (logits, reference))
    difference = float(ours - theirs)
    if len(set(groups)) < 2 or not np.isfinite(difference):
        return Interval(difference, float("nan"), float("nan"), len(wanted))
    counts = torch.from_numpy(draw_counts(groups, num_resamples=num_resamples, seed=seed))
    ours, theirs = (resampled_precision(values, wanted, counts) for values in (logits, reference))
    differences = ours - theirs
    return Interval(difference, *percentile_interval(differences[differences.isfinite()].numpy()), len(wanted))


def resampled_precision(
    logits: Float[Tensor, "b k"], wanted: Bool[Tensor, "b k"], counts: Float[Tensor, "r b"]
) -> Float[Tensor, " r"]:
    """Compute the mean average precision of each resample r, in which image i occurs `counts[r, i]` times.

    Equal logits are one threshold. Tags that a resample lacks do not count in it; without any it is not a number.
    """
    counts = counts.double()
    total, num_tags = torch.zeros(2, len(counts), dtype=torch.float64)
    for tag in wanted.any(0).nonzero().flatten().tolist():
        hits = wanted[:, tag].nonzero().flatten()
        above = (logits[None, :, tag] >= logits[hits, tag, None]).double()
        drawn = counts[:, hits]
        precisions = (drawn @ above[:, hits].T) / (counts @ above.T).clamp(min=1)
        total += (drawn * precisions).sum(1) / drawn.sum(1).clamp(min=1)
        num_tags += drawn.sum(1) > 0
    return total / num_tags


def finite_or_none(value: float) -> float | None:
    """Return `value`, or None where JSON has no number for it (infinite, not a number)."""
    return float(value) if np.isfinite(value) else None


def wilcoxon(values: Sequence[float], reference: Sequence[float]) -> float:
    """Compute the two-sided p-value of Wilcoxon's signed-rank test on paired values; 1 where all pairs are equal."""
    differences = _differences(values, reference)
    if not np.any(differences):
        return 1.0
    return float(stats.wilcoxon(differences).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of several tests by Holm (1979); the order stays."""
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
    positions = _positions(groups)
    return np.bincount(positions, weights=values), np.bincount(positions).astype(np.float64)


def _positions(groups: Sequence[Hashable]) -> list[int]:
    index = {group: position for position, group in enumerate(dict.fromkeys(groups))}
    return [index[group] for group in groups]


def _resampled_means(sums: np.ndarray, counts: np.ndarray, *, num_resamples: int, seed: int) -> np.ndarray:
    generator = keyed.numpy_generator(seed, "bootstrap")
    even = np.full(len(sums), 1 / len(sums))
    means = []
    # In chunks: 3000 images x 10000 resamples at once would take a quarter of a gigabyte.
    for start in range(0, num_resamples, CHUNK):
        drawn = generator.multinomial(len(sums), even, size=min(CHUNK, num_resamples - start))
        means.append((drawn @ sums) / (drawn @ counts))
    return np.concatenate(means)
