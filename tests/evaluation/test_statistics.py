"""Intervals and tests: identities, coverage, and an independent implementation."""

import numpy as np
import pytest
from scipy import stats

from seesr_pl.evaluation.statistics import (
    draw_counts,
    holm,
    mean_interval,
    mean_intervals,
    metric_intervals,
    paired_interval,
    sign_flip_test,
)


def test_the_interval_is_that_of_the_studentized_bootstrap():
    generator = np.random.default_rng(0)
    values = generator.exponential(3, 12)
    drawn = values[generator.integers(12, size=(100_000, 12))]
    ratios = (drawn.mean(1) - values.mean()) / (drawn.std(1, ddof=1) / 12**0.5)
    low, high = np.percentile(ratios, [2.5, 97.5])
    error = values.std(ddof=1) / 12**0.5
    ours = mean_interval(values.tolist(), num_resamples=100_000)
    assert ours.mean == pytest.approx(values.mean(), rel=1e-12)
    assert (ours.low, ours.high) == pytest.approx((values.mean() - high * error, values.mean() - low * error), rel=0.05)


def test_many_values_have_the_interval_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(25, 3, 400)
    half = 1.96 * values.std() / 20
    ours = mean_interval(values.tolist())
    assert (ours.low, ours.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_all_columns_share_one_draw_and_each_has_the_interval_that_it_has_alone():
    values = np.random.default_rng(0).normal(0, 1, (30, 3)) + np.arange(3)
    together = mean_intervals(values, list(range(30)))
    for column, interval in enumerate(together):
        assert interval == pytest.approx(mean_interval(values[:, column].tolist()), abs=1e-9)
    values[:, 2] = values[:, 1] + 5
    first, second = mean_intervals(values)[1:]
    assert second.low - first.low == pytest.approx(5)


def test_values_of_which_few_differ_have_students_interval_where_the_bootstraps_is_infinite():
    interval = mean_interval([0.0] * 9 + [1.0])
    assert interval.high == pytest.approx(0.1 + stats.t.ppf(0.975, 9) * 0.1)
    low, high = stats.t.interval(0.95, 1, 2.0, 1.0)
    assert mean_interval([1.0, 3.0])[1:3] == pytest.approx((low, high))


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


def test_the_interval_of_photographs_of_different_sizes_covers_their_mean_about_95_times_in_100():
    generator, groups = np.random.default_rng(0), np.repeat(np.arange(12), [1, 5, 2, 4, 1, 5, 3, 3, 1, 5, 2, 4])
    covered = []
    for _ in range(300):
        values = generator.normal(0, 1, 12)[groups] + generator.normal(0, 0.3, len(groups))
        interval = mean_interval(values.tolist(), groups.tolist(), num_resamples=500)
        covered.append(interval.low <= 0 <= interval.high)
    assert 0.90 < np.mean(covered) < 0.98


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


def test_sign_flips_of_a_few_photographs_are_counted_and_of_many_drawn():
    # Of 2**3 patterns of the sums 1, 2, 3 two reach 6; of photographs with the sums 3 and 3 two of four.
    assert sign_flip_test([1.0, 2.0, 3.0], [0.0] * 3) == 2 / 8
    assert sign_flip_test([1.0, 2.0, 3.0], [0.0] * 3, ["a", "a", "b"]) == 2 / 4
    assert sign_flip_test([1.0, -1.0], [0.0] * 2) == 1.0
    assert sign_flip_test([1.0, 2.0], [1.0, 2.0]) == 1.0
    values = np.random.default_rng(0).normal(0.3, 1, 40)
    theirs = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=10_000, rng=1).pvalue
    assert sign_flip_test(values.tolist(), [0.0] * 40) == pytest.approx(theirs, abs=0.02)


def test_crops_of_few_photographs_are_no_more_evidence_than_the_photographs():
    generator, groups = np.random.default_rng(0), np.repeat(np.arange(8), 5).tolist()
    p_values = []
    for _ in range(200):
        values = np.repeat(generator.normal(0, 1, 8), 5) + generator.normal(0, 0.5, 40)
        p_values.append(sign_flip_test(values.tolist(), [0.0] * 40, groups))
    assert np.mean(np.array(p_values) < 0.05) < 0.08


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


def test_the_interval_of_a_few_photographs_is_students():
    values, groups = [1.0, 1.1, 2.0, 2.2, 4.0, 4.4, 7.0, 7.7], [0, 0, 1, 1, 2, 2, 3, 3]
    means = [np.mean(values[start : start + 2]) for start in range(0, 8, 2)]
    theirs = stats.ttest_1samp(means, 0).confidence_interval()
    found = mean_interval(values, groups)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))
