"""Tables for documents: the best value is marked by the direction of its metric, and absent values are dashes."""

import pytest

from seesr_pl.evaluation import Interval, Result, latex_table, markdown_table
from seesr_pl.evaluation.metrics import ImageMetric

METRICS = [
    ImageMetric("psnr_y", lambda sr, hr: 0.0, True, True, "1"),
    ImageMetric("niqe", lambda sr, hr: 0.0, False, False, "1"),
]


def _result(name: str, psnr: float, niqe: float | None) -> Result:
    means = {"psnr_y": psnr} | ({} if niqe is None else {"niqe": niqe})
    return Result(name, {}, {key: Interval(mean, mean, mean, 1) for key, mean in means.items()}, {}, {}, {})


@pytest.fixture
def results() -> list[Result]:
    return [_result("a_b", 25.1511, 5.6), _result("c", 27.0, 7.1), _result("d", 20.0, None)]


def test_markdown_marks_the_best_of_what_was_measured(results):
    lines = markdown_table(results, METRICS, {"SeeSR": {"psnr_y": 99.0}}).splitlines()
    assert lines == [
        "| method | psnr_y (higher is better) | niqe (lower is better) |",
        "| --- | ---: | ---: |",
        "| a_b | 25.15 | **5.6000** |",
        "| c | **27.00** | 7.1000 |",
        "| d | 20.00 | - |",
        "| SeeSR (published) | 99.00 | - |",
    ]


def test_latex_marks_best_and_second_and_escapes_names(results):
    table = latex_table(results, METRICS)
    assert r"method & psnr\_y $\uparrow$ & niqe $\downarrow$ \\" in table
    assert r"a\_b & \underline{25.15} & \textbf{5.6000} \\" in table
    assert r"c & \textbf{27.00} & \underline{7.1000} \\" in table


def test_latex_marks_nothing_that_others_published(results):
    table = latex_table(results, METRICS, {"SeeSR": {"psnr_y": 27.0, "niqe": 5.6}})
    assert r"SeeSR (published) & 27.00 & 5.6000 \\" in table
