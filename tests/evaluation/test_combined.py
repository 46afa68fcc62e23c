"""The combined table: all methods and sets, published rows with their source, differences to the first method."""

import csv

import pytest

from seesr_pl.evaluation import (
    Bicubic,
    FolderBenchmark,
    GaussianBlur,
    Judged,
    combine,
    image_metrics,
    restore,
    score_all,
    write_result,
)

METRICS = image_metrics(["psnr_y", "ssim_y"]).available
PUBLISHED = {"Peer": {"psnr_y": 30.0, "source": "its paper", "confidence": "read"}}


@pytest.fixture
def judged(root, tmp_path):
    """Two methods on two sets of the same images, one with a published row."""
    found = []
    for name, published in (("one", PUBLISHED), ("two", None)):
        benchmark = FolderBenchmark(str(root), name=name, count=4, group=r"([a-z]+)_", published=published)
        for method in (Bicubic(), GaussianBlur()):
            folder = tmp_path / f"{method.name}_{name}"
            restored = restore(
                lambda device, method=method: method, benchmark.pairs(), folder / "restored", settings={}
            )
            write_result(folder, score_all(method.name, restored, METRICS, folder / "scores.jsonl"), {})
            found.append(Judged(benchmark, folder, METRICS, method.name))
    return found


def test_the_table_has_a_line_for_each_set_method_and_metric_and_no_number_that_nobody_measured(judged, tmp_path):
    shown = combine(judged, tmp_path / "table")
    with (tmp_path / "table" / "table.csv").open(newline="") as file:
        rows = {(row["set"], row["method"], row["metric"]): row for row in csv.DictReader(file)}
    assert len(rows) == 2 * 2 * 2 + 2
    assert float(rows["one", "bicubic", "psnr_y"]["mean"]) == float(rows["two", "bicubic", "psnr_y"]["mean"])
    assert rows["one", "Peer", "psnr_y"]["source"] == "its paper; read"
    assert rows["one", "Peer", "ssim_y"]["mean"] == ""
    assert shown.sentences[0].startswith("one: psnr_y: 2 independent photographs are too few")
    assert [path.suffix for path in shown.files] == [".html", ".md", ".tex", ".csv"]


def test_each_form_marks_the_best_and_the_second(judged, tmp_path):
    combine(judged, tmp_path)
    latex, page = (tmp_path / "table.tex").read_text(), (tmp_path / "table.html").read_text()
    assert latex.count(r"\textbf{") == latex.count(r"\underline{") == 4
    assert page.count('class="best"') == page.count("<u>") == 4
    assert "Peer (its paper; read)" in (tmp_path / "table.md").read_text()


def test_published_rows_stand_only_beside_the_published_pixels(root):
    benchmark = FolderBenchmark(str(root), count=4, digest="other", published=PUBLISHED)
    assert benchmark.published_for(benchmark.pairs()) == {}
