"""Mean average precision is the one of others, and its interval that of pictures drawn with copies."""

import math

import numpy as np
import pytest
import torch
from torchmetrics.classification import MultilabelAveragePrecision

from seesr_pl.evaluation.ranking import mean_average_precision, precision_difference, resampled


@pytest.fixture
def seen():
    """Logits of two views and wanted tags, of 40 pictures and 7 tags."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 40, 7, generator=generator)
    return *logits, torch.rand(40, 7, generator=generator) < 0.3


def test_mean_average_precision_equals_torchmetrics(seen):
    logits, _, wanted = seen
    expected = MultilabelAveragePrecision(num_labels=7)(logits, wanted.long())
    assert mean_average_precision(logits, wanted) == pytest.approx(expected.item(), abs=1e-6)


def test_mean_average_precision_counts_only_tags_that_occur():
    logits = torch.tensor([[3.0, 1.0], [2.0, 5.0]])
    assert mean_average_precision(logits, torch.tensor([[True, False], [False, False]])) == 1.0
    assert math.isnan(mean_average_precision(logits, torch.zeros(2, 2, dtype=torch.bool)))


def test_images_of_equal_logit_rank_in_their_order():
    wanted = torch.tensor([[True], [False], [True], [True]])
    # The first, third and fourth of four are wanted; were equal ones all above each other, each precision were 3/4.
    assert mean_average_precision(torch.zeros(4, 1), wanted) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


def average_precision(logits, wanted, counts):
    """Of one tag, picture by picture from the highest logit down; copies of a picture come at once."""
    seen = right = total = 0.0
    for picture in logits.argsort(descending=True).tolist():
        count = counts[picture].item()
        seen += count
        if wanted[picture] and count:
            right += count
            total += count * right / seen
    return total / right


def test_a_resample_is_that_of_pictures_with_copies(seen):
    logits, _, wanted = seen
    counts = torch.randint(0, 4, (3, 40), generator=torch.Generator().manual_seed(1)).double()
    for row, found in zip(counts, resampled(logits, wanted, counts), strict=True):
        each = [average_precision(logits[:, tag], wanted[:, tag], row) for tag in range(7)]
        assert found.item() == pytest.approx(np.mean(each))


def test_tags_that_a_resample_lacks_do_not_count_in_it():
    logits, wanted = torch.tensor([[2.0, 1.0], [1.0, 2.0], [3.0, 0.0]]), torch.tensor([[1, 0], [0, 1], [0, 0]]).bool()
    assert resampled(logits, wanted, torch.tensor([[1.0, 0.0, 1.0]])).item() == 0.5


def test_the_interval_is_of_the_difference_and_holds_it(seen):
    first, second, wanted = seen
    better = first + 2 * wanted
    difference = precision_difference(better, second, wanted, range(40))
    expected = mean_average_precision(better, wanted) - mean_average_precision(second, wanted)
    assert difference.mean == pytest.approx(expected)
    assert 0 < difference.low < expected < difference.high
    assert precision_difference(first, first, wanted, range(40))[:3] == (0, 0, 0)


def test_images_of_one_photograph_are_drawn_together(seen):
    first, second, wanted = (tensor[:10].repeat_interleave(4, 0) for tensor in seen)
    alone = precision_difference(first, second, wanted, range(40))
    together = precision_difference(first, second, wanted, [number // 4 for number in range(40)])
    assert together.mean == alone.mean
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_one_photograph_has_no_interval(seen):
    assert math.isnan(precision_difference(*seen, ["photograph"] * 40).low)
