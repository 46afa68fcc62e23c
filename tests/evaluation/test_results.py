"""A comparison of two methods: its sign, its pairs, its groups, and p-values adjusted over its metrics."""

import pytest

from seesr_pl.evaluation import (
    Bicubic,
    Interval,
    Result,
    compare,
    image_metrics,
    load_result,
    paired_interval,
    restore,
    score_all,
    write_result,
)

IMAGES = [f"{photograph}_{number}" for photograph in "abc" for number in range(2)]
# Ours are better on psnr_y by 1 to 6, a different size each; on ssim_y the signs alternate.
REFERENCE = {image: {"psnr_y": 20.0, "ssim_y": 0.5} for image in IMAGES}
OURS = {
    image: {"psnr_y": 20.0 + number, "ssim_y": 0.5 + 0.01 * number * (-1) ** number}
    for number, image in enumerate(IMAGES, start=1)
}


def made(values: dict[str, dict[str, float]]) -> Result:
    metrics = dict.fromkeys(name for scores in values.values() for name in scores)
    intervals = {name: Interval(0.0, 0.0, 0.0, len(values)) for name in metrics}
    return Result("a method", values, intervals, {}, {image: image[0] for image in values}, {})


def compared(ours, theirs) -> dict:
    return {row.metric: row for row in compare(made(ours), made(theirs))}


def test_p_values_are_adjusted_over_the_metrics_compared():
    # Six differences of one sign: 2 / 2**6 = 0.03125 two-sided. Holm doubles the smaller of two.
    assert compared(OURS, REFERENCE)["psnr_y"].p_value == pytest.approx(2 * 0.03125)
    # Ranks 2 + 4 + 6 = 12 against 9: at least as uneven in 54 of 64 sign patterns. The larger of two is kept.
    assert compared(OURS, REFERENCE)["ssim_y"].p_value == pytest.approx(54 / 64)


def test_one_metric_alone_needs_no_adjustment():
    first, second = ({image: {"psnr_y": row["psnr_y"]} for image, row in rows.items()} for rows in (OURS, REFERENCE))
    assert compared(first, second)["psnr_y"].p_value == pytest.approx(0.03125)


def test_a_difference_is_ours_less_the_reference_and_drawn_by_photograph():
    difference = compared(OURS, REFERENCE)["psnr_y"].difference
    assert difference.mean == pytest.approx(3.5)
    # Of three photographs with means 1.5, 3.5, 5.5 each resample's mean lies between; single images reach 1 and 6.
    assert difference == paired_interval([1, 2, 3, 4, 5, 6], [0] * 6, list("aabbcc"))
    assert (difference.low, difference.high) == (1.5, 5.5)


def test_images_are_paired_by_name_and_those_that_one_method_lacks_are_left_out():
    ours = dict(reversed(OURS.items()))
    theirs = {image: row for image, row in REFERENCE.items() if image != "a_0"}
    theirs["b_0"] = {"ssim_y": 0.5}
    theirs["c_1"] = {"psnr_y": 0.0, "ssim_y": 0.5}
    difference = compared(ours, theirs)["psnr_y"].difference
    assert difference.n == 4
    assert difference.mean == pytest.approx((2 + 4 + 5 + 26) / 4)


@pytest.fixture
def folder(benchmark, tmp_path):
    """A finished evaluation of four images."""
    restored = restore(Bicubic, benchmark.pairs(), tmp_path / "run" / "restored", settings={})
    metrics = image_metrics(["psnr_y"]).available
    write_result(tmp_path / "run", score_all("bicubic", restored, metrics, tmp_path / "run" / "scores.jsonl"), {})
    return tmp_path / "run"


def test_an_evaluation_read_back_has_its_metrics_and_no_other_column(folder, benchmark):
    read = load_result(folder, {pair.name: pair.group for pair in benchmark.pairs()})
    assert [set(row) for row in read.values.values()] == [{"psnr_y"}] * 4
    assert list(read.intervals) == ["psnr_y"]


def test_an_evaluation_that_lacks_images_is_refused_with_their_names(folder):
    with pytest.raises(ValueError, match="lacks 1 of 2 images: other"):
        load_result(folder, {"lake_0": "lake", "other": "other"})
