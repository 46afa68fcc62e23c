"""How well logits rank pictures: mean average precision over tags, and how sure a difference of two is."""

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seesr_pl.evaluation.statistics import Interval, draw_counts, percentile_interval

NUM_RESAMPLES = 1_000
"""Fewer than for means: each resample ranks all pictures for all tags again."""


def mean_average_precision(logits: Float[Tensor, "b k"], wanted: Bool[Tensor, "b k"]) -> float:
    """Average precision of each tag's ranking of the pictures, averaged over the tags that some picture has.

    Not a number if no picture has any. Pictures of equal logit keep their order.
    """
    return float(resampled(logits, wanted, torch.ones(1, len(logits))))


def precision_difference(
    logits: Float[Tensor, "b k"],
    reference: Float[Tensor, "b k"],
    wanted: Bool[Tensor, "b k"],
    groups: Sequence[Hashable],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """What `logits` have over `reference` in mean average precision, with its paired percentile bootstrap interval.

    Whole groups are drawn, the same for both. The interval of fewer than two groups is not a number.
    """
    difference = mean_average_precision(logits, wanted) - mean_average_precision(reference, wanted)
    if len(set(groups)) < 2 or not np.isfinite(difference):
        return Interval(difference, float("nan"), float("nan"), len(wanted))
    counts = torch.from_numpy(draw_counts(groups, num_resamples=num_resamples, seed=seed))
    differences = resampled(logits, wanted, counts) - resampled(reference, wanted, counts)
    return Interval(difference, *percentile_interval(differences[differences.isfinite()].numpy()), len(wanted))


def resampled(
    logits: Float[Tensor, "b k"], wanted: Bool[Tensor, "b k"], counts: Float[Tensor, "r b"]
) -> Float[Tensor, " r"]:
    """Mean average precision of each resample, in which picture i occurs `counts[r, i]` times.

    Copies of a picture share a rank, the last of theirs. Tags that a resample lacks do not count in it.
    """
    counts = counts.double()
    total, num_tags = torch.zeros(2, len(counts), dtype=torch.float64)
    for tag in wanted.any(0).nonzero().flatten().tolist():
        hits = wanted[:, tag].nonzero().flatten()
        above = _ranked_above(logits[:, tag].float(), hits)
        drawn = counts[:, hits]
        precisions = (drawn @ above[:, hits].double().T) / (counts @ above.double().T).clamp(min=1)
        total += (drawn * precisions).sum(1) / drawn.sum(1).clamp(min=1)
        num_tags += drawn.sum(1) > 0
    return total / num_tags


def _ranked_above(logits: Float[Tensor, " b"], hits: Tensor) -> Bool[Tensor, "h b"]:
    """For each hit which pictures rank no lower than it does."""
    ours = logits[hits][:, None]
    return (logits > ours) | ((logits == ours) & (torch.arange(len(logits)) <= hits[:, None]))
