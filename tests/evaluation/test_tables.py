"""Tables for documents: the best value is marked by the direction of its metric, and absent values are dashes."""

import sys

import pytest
from rich.console import Console

from seesr_pl.evaluation import Interval, Result, format_number, latex, markdown, score_table, terminal
from seesr_pl.evaluation.metrics import ImageMetric
from seesr_pl.evaluation.semantics import TagRow
from seesr_pl.evaluation.tables import tags

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
    lines = markdown(score_table(results, METRICS, {"SeeSR": {"psnr_y": 99.0}})).splitlines()
    assert lines == [
        "| method | psnr_y (higher is better) | niqe (lower is better) |",
        "| --- | ---: | ---: |",
        "| a_b | 25.15 | **5.6000** |",
        "| c | **27.00** | 7.1000 |",
        "| d | 20.00 | - |",
        "| SeeSR (published) | 99.00 | - |",
    ]


def test_latex_marks_best_and_second_and_escapes_names(results):
    table = latex(score_table(results, METRICS))
    assert r"method & psnr\_y $\uparrow$ & niqe $\downarrow$ \\" in table
    assert r"a\_b & \underline{25.15} & \textbf{5.6000} \\" in table
    assert r"c & \textbf{27.00} & \underline{7.1000} \\" in table


def test_latex_marks_nothing_that_others_published(results):
    table = latex(score_table(results, METRICS, {"SeeSR": {"psnr_y": 27.0, "niqe": 5.6}}))
    assert r"SeeSR (published) & 27.00 & 5.6000 \\" in table


def test_ranks_are_of_what_was_measured_and_need_two(results):
    table = score_table([*results, _result("e", 27.0, None)], METRICS, {"SeeSR": {"psnr_y": 99.0}})
    assert [row.cells[0].rank for row in table.rows] == [0, 1, 0, 1, 0]
    assert [row.cells[1].rank if row.cells[1] else None for row in table.rows] == [1, 2, None, None, None]
    assert score_table(results[2:], METRICS).rows[0].cells[0].rank == 0


def test_the_terminal_shows_intervals_and_published_means_apart(results, capsys):
    console = Console(width=100, file=sys.stdout)
    console.print(terminal(score_table(results, METRICS, {"SeeSR": {"psnr_y": 99.0}}), title="4 images"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "4 images"
    assert "25.1511 (25.15 to 25.15)" in next(line for line in lines if "a_b" in line)
    cells = next(line for line in lines if "SeeSR, published" in line).split("\u2502")
    assert [cell.strip() for cell in cells] == ["", "SeeSR, published", "99.00", "-", ""]


def test_numbers_are_printed_as_tables_print_them():
    assert [format_number(value) for value in (0.73408, 25.1511, None, 3, "text")] == [
        "0.7341",
        "25.15",
        "-",
        "3",
        "text",
    ]


def test_the_mean_of_one_photograph_stands_without_an_interval():
    result = Result("ours", {}, {"psnr_y": Interval(20.0, float("nan"), float("nan"), 4)}, {}, {}, {})
    assert "20.0000 (no interval)" in _printed(terminal(score_table([result], METRICS), title="set"))


def test_each_range_of_severity_has_its_heading_in_the_table_of_tags():
    rows = [TagRow(name, *of, 2, 0.1, 0.2, 0.1, 0.05, 0.15) for of in ((0, 1), (0, 0.5)) for name in ("f1", "map")]
    lines = [line.split() for line in _printed(tags(rows)).splitlines()]
    found = [line[0] for line in lines if line and line[0] in ("severity", "f1", "map")]
    assert found == ["severity", "f1", "map"] * 2
    assert ["severity", "0.00", "to", "0.50"] in lines


def _printed(table) -> str:
    console = Console(width=80)
    with console.capture() as capture:
        console.print(table)
    return capture.get()
