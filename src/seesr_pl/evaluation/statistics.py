"""How sure a mean is: bootstrap intervals, paired differences between methods, and tests; by photograph."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import special  # scipy.stats takes longer to import than all else here
from torch import Tensor

from seesr_pl import keyed

NUM_RESAMPLES = 10_000
NUM_RANKINGS = 1_000
"""Resamples of a mean average precision; fewer than of a mean, because each ranks all images for all tags again."""
CONFIDENCE = 0.95
SIGNIFICANCE = 0.05
CHUNK = 1_000
MIN_GROUPS = 10
"""With fewer, resamples of nearly equal values would stretch a studentized interval without bound."""
MAX_EXACT_GROUPS = 13
"""The most groups of which all sign patterns are counted, 8,192."""


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
    """Compute the mean of `values` and its studentized bootstrap interval.

    With `groups`, whole groups are drawn: values of one photograph are not independent. The interval of fewer
    than two groups, or of values that are not finite, is not a number. Raises ValueError for no values.
    """
    if len(values) == 0:
        raise ValueError("values is empty; an interval needs at least one value")
    columns = np.asarray(values, dtype=np.float64)[:, None]
    return mean_intervals(columns, groups, num_resamples=num_resamples, seed=seed)[0]


def mean_intervals(
    values: Float[np.ndarray, "b m"],
    groups: Sequence[Hashable] | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> list[Interval]:
    """Compute `mean_interval` of each column of `values`, with one draw of groups for all columns.

    The interval is the studentized bootstrap's (Efron & Tibshirani, 1993, section 12.5), with the standard error of a
    ratio: groups differ in size. For fewer than 10 groups, and where a bound would be infinite, it is Student's.
    """
    positions = _positions(list(range(len(values))) if groups is None else groups, len(values))
    counts = np.bincount(positions).astype(np.float64)
    sums = np.zeros((len(counts), values.shape[1]))
    np.add.at(sums, positions, values)
    means = sums.sum(0) / counts.sum()
    usable = np.isfinite(means)
    low, high = np.full((2, len(means)), np.nan)
    if len(counts) > 1:
        sums = sums[:, usable]
        # Without the mean, the squares below keep their digits.
        low[usable], high[usable] = _studentized(
            sums - np.outer(counts, means[usable]), counts, num_resamples=num_resamples, seed=seed
        )
    return [
        Interval(float(mean), float(mean + below), float(mean + above), len(values))
        for mean, below, above in zip(means, low, high, strict=True)
    ]


def metric_intervals(
    values: Mapping[str, Mapping[str, float]], groups: Mapping[str, str], *, seed: int = 0
) -> dict[str, Interval]:
    """Compute the interval of each metric of `values[image][metric]`; images of one group are drawn together.

    Metrics that the same images have share one draw.
    """
    names = dict.fromkeys(name for scores in values.values() for name in scores)
    having: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        having.setdefault(tuple(image for image in values if name in values[image]), []).append(name)
    found: dict[str, Interval] = {}
    for images, metrics in having.items():
        columns = np.array([[values[image][name] for name in metrics] for image in images], dtype=np.float64)
        intervals = mean_intervals(columns, [groups[image] for image in images], seed=seed)
        found |= dict(zip(metrics, intervals, strict=True))
    return {name: found[name] for name in names}


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


def sign_flip_test(
    values: Sequence[float],
    reference: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    num_flips: int = NUM_RESAMPLES,
    seed: int = 0,
) -> float:
    """Compute the two-sided p-value of the mean of `values - reference` by flipping signs of whole groups.

    Without an effect, the difference of a photograph is as likely to have the other sign (Fisher's randomization test);
    images of one photograph are flipped together. All sign patterns are counted for up to 13 groups, `num_flips` keyed
    ones above. It is 1 where all pairs are equal.
    """
    differences = _differences(values, reference)
    positions = _positions(list(range(len(differences))) if groups is None else groups, len(differences))
    sums = np.bincount(positions, weights=differences)
    observed = abs(sums.sum()) * (1 - 1e-12)  # equal sums in another order of summation are as large
    if len(sums) <= MAX_EXACT_GROUPS:
        patterns = (np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1) * 2.0 - 1
        return float(np.mean(np.abs(patterns @ sums) >= observed))
    generator = keyed.numpy_generator(seed, "sign flips")
    reached = sum(
        int(np.sum(np.abs((generator.integers(0, 2, (size, len(sums)), dtype=np.int8) * 2.0 - 1) @ sums) >= observed))
        for size in _chunks(num_flips)
    )
    return (1 + reached) / (1 + num_flips)


def percentile_interval(resampled: np.ndarray) -> tuple[float, float]:
    """Compute the bounds between which 95 % of a statistic's resampled values lie."""
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return float(low), float(high)


def standard_interval(value: float, resampled: np.ndarray) -> Interval:
    """Return the standard normal interval of a statistic of a set, from its values in resamples that have one.

    Without at least two different ones it is not a number (Efron & Tibshirani, 1993, section 13.3).
    """
    finite = resampled[np.isfinite(resampled)]
    spread = special.ndtri((1 + CONFIDENCE) / 2) * finite.std(ddof=1) if len(finite) > 1 else np.nan
    half = spread if spread > 0 else np.nan
    return Interval(value, float(value - half), float(value + half), len(finite))


def draw_counts(groups: Sequence[Hashable], *, num_resamples: int, seed: int = 0) -> np.ndarray:
    """Draw how often each value occurs in each resample of whole groups: integers (num_resamples, len(groups))."""
    positions = _positions(groups, len(groups))
    drawn = list(_draws(positions.max() + 1, num_resamples=num_resamples, seed=seed))
    return np.concatenate(drawn)[:, positions]


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


def _positions(groups: Sequence[Hashable], num_values: int) -> np.ndarray:
    if len(groups) != num_values:
        raise ValueError(f"{len(groups)} groups for {num_values} values; give one group for each value")
    index = {group: position for position, group in enumerate(dict.fromkeys(groups))}
    return np.array([index[group] for group in groups])


def _studentized(
    sums: np.ndarray, counts: np.ndarray, *, num_resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the bounds of the means of `sums` (groups, metrics), each of which is 0, over `counts` values a group."""
    num_metrics, num_groups = sums.shape[1], len(counts)
    tail = 50 * (1 - CONFIDENCE)
    error = np.sqrt(num_groups / (num_groups - 1) * np.sum(sums**2, axis=0)) / counts.sum()
    student = special.stdtrit(num_groups - 1, 1 - tail / 100)
    if num_groups < MIN_GROUPS:
        return -student * error, student * error
    columns = np.concatenate([sums, sums**2, sums * counts[:, None], counts[:, None], counts[:, None] ** 2], axis=1)
    ratios = []
    for drawn in _draws(num_groups, num_resamples=num_resamples, seed=seed):
        total = drawn.astype(np.float64) @ columns
        first, squares, cross = (total[:, start * num_metrics : (start + 1) * num_metrics] for start in range(3))
        count, count_squares = total[:, -2:-1], total[:, -1:]
        mean = first / count
        spread = squares - 2 * mean * cross + mean**2 * count_squares
        spread[spread < 1e-10 * squares] = 0  # equal values but for rounding
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios.append(np.where(mean == 0, 0.0, mean * count / np.sqrt(spread)))
    # The same factor num_groups / (num_groups - 1) is in both standard errors.
    ratio = np.concatenate(ratios) / np.sqrt(num_groups / (num_groups - 1))
    # method="lower"/"higher": between infinite values nothing can be interpolated.
    below = np.percentile(ratio, tail, axis=0, method="lower")
    above = np.percentile(ratio, 100 - tail, axis=0, method="higher")
    below, above = (np.where(np.isfinite(bound), bound, sign * student) for bound, sign in ((below, -1), (above, 1)))
    return -above * error, -below * error


def _draws(num_groups: int, *, num_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each group occurs in each resample, in chunks: all at once would take a quarter of a gigabyte."""
    generator = keyed.numpy_generator(seed, "bootstrap")
    for size in _chunks(num_resamples):
        chosen = generator.integers(num_groups, size=(size, num_groups)) + np.arange(size)[:, None] * num_groups
        yield np.bincount(chosen.ravel(), minlength=size * num_groups).reshape(size, num_groups)


def _chunks(total: int) -> list[int]:
    return [min(CHUNK, total - start) for start in range(0, total, CHUNK)]
