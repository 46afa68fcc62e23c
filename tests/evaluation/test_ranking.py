"""The resampled mean average precision is that of torchmetrics for images drawn with copies."""

import math

import pytest
import torch

from seesr_pl.evaluation.semantics import mean_average_precision
from seesr_pl.evaluation.statistics import precision_difference, resampled_precision


@pytest.fixture
def seen():
    """Logits of two views and wanted tags, of 40 images and 7 tags."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 40, 7, generator=generator)
    return *logits, torch.rand(40, 7, generator=generator) < 0.3


@pytest.mark.parametrize("step", [None, 0.5])
def test_a_resample_is_torchmetrics_value_for_images_with_copies(seen, step):
    logits, _, wanted = seen
    # In steps, many images have equal logits.
    logits = logits if step is None else (logits / step).round() * step
    counts = torch.randint(0, 4, (3, 40), generator=torch.Generator().manual_seed(1))
    for row, found in zip(counts, resampled_precision(logits, wanted, counts), strict=True):
        copies = torch.arange(40).repeat_interleave(row)
        assert found.item() == pytest.approx(mean_average_precision(logits[copies], wanted[copies]), abs=1e-6)


def test_large_logits_are_not_made_equal():
    logits, wanted = torch.tensor([[20.0], [30.0], [25.0]]), torch.tensor([[False], [True], [False]])
    assert mean_average_precision(logits, wanted) == 1


def test_mean_average_precision_counts_only_tags_that_occur():
    logits = torch.tensor([[3.0, 1.0], [2.0, 5.0]])
    assert mean_average_precision(logits, torch.tensor([[True, False], [False, False]])) == 1.0
    assert math.isnan(mean_average_precision(logits, torch.zeros(2, 2, dtype=torch.bool)))


def test_images_of_equal_logit_are_one_threshold():
    wanted = torch.tensor([[True], [False], [True], [True]])
    # In their order the precisions of the first, third and fourth would be 1, 2/3 and 3/4.
    assert mean_average_precision(torch.zeros(4, 1), wanted) == 3 / 4
    assert resampled_precision(torch.zeros(4, 1), wanted, torch.ones(1, 4)).item() == 3 / 4


def test_tags_that_a_resample_lacks_do_not_count_in_it():
    logits, wanted = torch.tensor([[2.0, 1.0], [1.0, 2.0], [3.0, 0.0]]), torch.tensor([[1, 0], [0, 1], [0, 0]]).bool()
    assert resampled_precision(logits, wanted, torch.tensor([[1.0, 0.0, 1.0]])).item() == 0.5


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
