"""Intervals and tests: identities, coverage, and an independent implementation."""

import numpy as np
import pytest
from scipy import stats

from seesr_pl.evaluation.statistics import (
    draw_counts,
    holm,
    mean_interval,
    metric_intervals,
    paired_interval,
    wilcoxon,
)


def test_the_interval_is_that_of_the_percentile_bootstrap():
    values = np.random.default_rng(0).normal(25, 3, 60)
    ours = mean_interval(values.tolist())
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=10_000, rng=1).confidence_interval
    assert ours.mean == pytest.approx(values.mean(), rel=1e-12)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.05)


def test_the_interval_covers_the_true_mean_about_95_times_in_100():
    generator = np.random.default_rng(0)
    intervals = [mean_interval(generator.normal(0, 1, 40).tolist(), num_resamples=500) for _ in range(300)]
    covered = np.mean([interval.low <= 0 <= interval.high for interval in intervals])
    assert 0.90 < covered < 0.98


def test_equal_words_give_equal_intervals():
    assert mean_interval([1.0, 2.0, 5.0]) == mean_interval([1.0, 2.0, 5.0])


def test_groups_widen_the_interval_when_images_of_a_group_are_alike():
    generator = np.random.default_rng(0)
    values = np.repeat(generator.normal(0, 1, 10), 10) + generator.normal(0, 0.01, 100)
    alone = mean_interval(values.tolist())
    grouped = mean_interval(values.tolist(), np.repeat(np.arange(10), 10).tolist())
    assert grouped.mean == pytest.approx(alone.mean)
    assert (grouped.high - grouped.low) > 2 * (alone.high - alone.low)


def test_a_resamples_mean_is_over_its_images():
    # Group i has i + 1 images of value i. Were groups weighed alike, a resample's mean would be their plain mean.
    groups = [group for group in range(8) for _ in range(group + 1)]
    found = mean_interval([float(group) for group in groups], groups, num_resamples=20_000)
    generator = np.random.default_rng(0)
    drawn = generator.integers(8, size=(20_000, 8))
    means = (drawn * (drawn + 1)).sum(1) / (drawn + 1).sum(1)
    assert (found.low, found.high) == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.1)


def test_the_intervals_of_metrics_are_each_that_of_its_images_by_group():
    values = {
        f"{group}{number}": {"psnr_y": float(ord(group)), "niqe": number} for group in "abc" for number in range(4)
    }
    values["a0"].pop("niqe")
    found = metric_intervals(values, {image: image[0] for image in values})
    psnr = [row["psnr_y"] for row in values.values()]
    assert found["psnr_y"] == mean_interval(psnr, [image[0] for image in values])
    assert found["psnr_y"] != mean_interval(psnr)
    assert found["niqe"].n == 11


def test_counts_draw_as_many_groups_as_there_are_and_give_the_images_of_one_the_same_count():
    counts = draw_counts(["a", "b", "a", "c", "b"], num_resamples=500)
    assert counts.shape == (500, 5)
    np.testing.assert_array_equal(counts[:, 0], counts[:, 2])
    np.testing.assert_array_equal(counts[:, 1], counts[:, 4])
    np.testing.assert_array_equal(counts[:, [0, 1, 3]].sum(1), 3)
    assert counts.mean(0) == pytest.approx(1, abs=0.15)
    assert (draw_counts(["a", "b"], num_resamples=50, seed=1) != draw_counts(["a", "b"], num_resamples=50)).any()


def test_groups_of_one_change_nothing():
    values = np.random.default_rng(0).normal(0, 1, 30).tolist()
    grouped, alone = mean_interval(values, list(range(30))), mean_interval(values)
    assert grouped == pytest.approx(alone)


def test_one_value_has_a_mean_and_no_interval():
    interval = mean_interval([3.0])
    assert interval.mean == 3.0
    assert np.isnan([interval.low, interval.high]).all()


def test_the_mean_of_infinite_values_is_infinite_and_has_no_interval():
    interval = mean_interval([3.0, float("inf")])
    assert interval.mean == float("inf")
    assert np.isnan(interval.low)


def test_a_constant_difference_has_an_interval_of_no_width():
    reference = np.random.default_rng(0).normal(25, 3, 20)
    interval = paired_interval((reference + 0.5).tolist(), reference.tolist())
    assert interval[:3] == pytest.approx((0.5, 0.5, 0.5))


def test_wilcoxon_equals_scipy_and_is_one_for_equal_methods():
    generator = np.random.default_rng(0)
    values, reference = generator.normal(0.4, 1, 30), generator.normal(0, 1, 30)
    assert wilcoxon(values.tolist(), reference.tolist()) == stats.wilcoxon(values, reference).pvalue
    assert wilcoxon([1.0, 2.0], [1.0, 2.0]) == 1.0


def test_holm_is_the_textbook_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([]), "values is empty"),
        (lambda: mean_interval([1.0, 2.0], ["a"]), "1 groups for 2 values"),
        (lambda: paired_interval([1.0], [1.0, 2.0]), "1 values against 2"),
    ],
)
def test_values_that_do_not_belong_together_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
