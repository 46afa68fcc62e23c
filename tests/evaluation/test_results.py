"""A comparison of two methods: its sign, its pairs, its groups, and p-values adjusted over its metrics."""

import csv
import json

import pytest

from seesr_pl.evaluation import (
    Bicubic,
    Comparison,
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
    return {row.metric: row for row in compare(made(ours), [made(theirs)])}


def test_p_values_are_adjusted_over_the_metrics_and_the_methods_compared():
    # Three photographs of one sign: 2 / 2**3 = 0.25 two-sided. On ssim_y their sums are .01 of 1, 1, 1 as well.
    assert compared(OURS, REFERENCE)["psnr_y"].p_value == pytest.approx(2 * 0.25)
    found = compare(made(OURS), [made(REFERENCE), made(REFERENCE)])
    assert [row.p_value for row in found] == pytest.approx([1.0] * 4)
    assert [row.num_groups for row in found] == [3] * 4


def test_one_metric_alone_needs_no_adjustment():
    first, second = ({image: {"psnr_y": row["psnr_y"]} for image, row in rows.items()} for rows in (OURS, REFERENCE))
    assert compared(first, second)["psnr_y"].p_value == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("low", "high", "num_groups", "p_value", "words"),
    [
        (0.1, 0.3, 5, 0.0625, "5 independent photographs are too few to tell ours from bicubic"),
        (0.1, 0.3, 1, 1.0, "1 independent photograph is too few to tell ours from bicubic"),
        (-0.1, 0.3, 6, 0.03, "no difference between ours and bicubic is shown; the interval holds 0"),
        (float("nan"), float("nan"), 6, 0.03, "no difference between ours and bicubic is shown"),
        (0.1, 0.3, 6, 0.2, "of several comparisons one does so by chance (adjusted p = 0.2)"),
        (0.1, 0.3, 6, 0.03, "psnr_y: ours is higher than bicubic by 0.2 (0.1 to 0.3, p = 0.03)"),
        (-0.3, -0.1, 6, 0.03, "psnr_y: ours is lower than bicubic by 0.2 (0.1 to 0.3, p = 0.03)"),
    ],
)
def test_a_comparison_says_what_it_shows_and_what_it_does_not(low, high, num_groups, p_value, words):
    mean = (low + high) / 2
    assert words in Comparison("psnr_y", "bicubic", Interval(mean, low, high, 9), num_groups, p_value).sentence("ours")


def test_a_difference_is_ours_less_the_reference_and_drawn_by_photograph():
    difference = compared(OURS, REFERENCE)["psnr_y"].difference
    assert difference.mean == pytest.approx(3.5)
    assert difference == paired_interval([1, 2, 3, 4, 5, 6], [0] * 6, list("aabbcc"))
    assert difference != paired_interval([1, 2, 3, 4, 5, 6], [0] * 6)


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
    restored = restore(lambda device: Bicubic(), benchmark.pairs(), tmp_path / "run" / "restored", settings={})
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


def test_comparisons_are_in_the_summary_and_in_a_table_of_their_own(folder, benchmark):
    result = load_result(folder, {pair.name: pair.group for pair in benchmark.pairs()})
    write_result(folder, result, {}, compare(result, [result._replace(name="twin")]))
    (row,) = json.loads((folder / "summary.json").read_text())["comparisons"]
    assert (row["metric"], row["reference"], row["difference"], row["photographs"]) == ("psnr_y", "twin", 0.0, 2)
    with (folder / "comparisons.csv").open(newline="") as file:
        assert [line["in_words"] for line in csv.DictReader(file)] == [row["in_words"]]
