"""The report is one file that needs no other, and says the same as the scores."""

import base64
import json
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from seesr_pl.evaluation import (
    Bicubic,
    Chart,
    GaussianBlur,
    Interval,
    Section,
    Table,
    image_metrics,
    load_result,
    restore,
    score_all,
    write_report,
    write_result,
)  # fmt: skip
from seesr_pl.evaluation.charts import line_chart, strip_chart
from seesr_pl.evaluation.report import data_uri

METRICS = image_metrics(["psnr_y", "ssim_y"]).available


@pytest.fixture
def pairs(benchmark):
    return benchmark.pairs()


def _evaluate(method, pairs, folder):
    restored = restore(lambda device: method, pairs, folder / "restored", settings={})
    result = score_all(method.name, restored, METRICS, folder / "scores.jsonl")
    write_result(folder, result, {})
    return result


@pytest.fixture
def results(pairs, tmp_path):
    return [_evaluate(method, pairs, tmp_path / method.name) for method in (GaussianBlur(), Bicubic())]


def _page(tmp_path, pairs, results, **options):
    write_report(tmp_path / "report.html", title="a & b", pairs=pairs, results=results, metrics=METRICS, **options)
    return (tmp_path / "report.html").read_text()


def _data(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


class Links(HTMLParser):
    """Collects what a page loads from elsewhere, and the tags left open."""

    void = frozenset({"meta", "input", "img", "link", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.links, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href") and not value.startswith("data:")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_finished_evaluation_is_read_back_as_it_was(results, pairs, tmp_path):
    read = load_result(tmp_path / "bicubic", {pair.name: pair.group for pair in pairs})
    assert read.name == "bicubic"
    assert read.paths == results[1].paths
    assert read.seconds == pytest.approx(results[1].seconds, abs=1e-3)
    for image, values in results[1].values.items():
        assert read.values[image] == pytest.approx(values, abs=1e-6)
    assert read.intervals["psnr_y"] == pytest.approx(results[1].intervals["psnr_y"], abs=1e-5)


def test_a_folder_that_is_no_evaluation_is_refused(tmp_path, pairs):
    with pytest.raises(ValueError, match=r"has no scores.csv; give the folder of a finished evaluation"):
        load_result(tmp_path, {})


def test_the_page_loads_nothing_and_is_well_formed(results, pairs, tmp_path):
    links = Links()
    links.feed(_page(tmp_path, pairs, results))
    assert links.links == []
    assert links.open == []


def test_the_page_holds_every_view_of_every_image_and_its_scores(results, pairs, tmp_path):
    data = _data(_page(tmp_path, pairs, results))
    assert data["views"] == ["LQ", "gaussian_blur", "bicubic", "HQ"]
    assert sorted(image["name"] for image in data["images"]) == [pair.name for pair in pairs]
    for image in data["images"]:
        assert image["scores"]["bicubic"] == pytest.approx(results[1].values[image["name"]])


def test_images_come_worst_first(results, pairs, tmp_path):
    values = [image["scores"]["gaussian_blur"]["psnr_y"] for image in _data(_page(tmp_path, pairs, results))["images"]]
    assert values == sorted(values)


def test_the_page_keeps_to_its_size_and_says_so(results, pairs, tmp_path):
    page = _page(tmp_path, pairs, results, max_megabytes=0.03)
    shown = len(_data(page)["images"])
    assert 0 < shown < 4
    assert f"{shown} of 4 images are embedded" in page
    assert len(page) < 30_000 + 40_000


def test_a_mean_without_an_interval_says_so(results, pairs, tmp_path):
    alone = [
        r._replace(intervals={m: Interval(1.0, float("nan"), float("nan"), 4) for m in r.intervals}) for r in results
    ]
    page = _page(tmp_path, pairs, alone)
    assert "no interval" in page
    assert "nan" not in page.partition("<main>")[2].partition("<script")[0]


def test_text_of_users_cannot_break_the_page(results, pairs, tmp_path):
    page = _page(tmp_path, pairs, results, facts={"<script>": "</script><b>"}, notes=["1 < 2"])
    assert "<title>a &amp; b</title>" in page
    assert "&lt;/script&gt;&lt;b&gt;" in page
    assert "1 &lt; 2" in page


def test_sections_add_tables_charts_and_images(results, pairs, tmp_path, make_image):
    section = Section(
        "Training", "how it went", [Table(["metric", "RAM"], [["recall", 0.5]])],
        [Chart("loss", {"a": [(0, 1.0), (1, 0.5)], "b": [(0, 2.0)]})], {"a tag list": make_image(0)},
    )  # fmt: skip
    page = _page(tmp_path, pairs, results, sections=[section])
    for text in ("<h2>Training</h2>", "how it went", "<td>0.5000</td>", '<svg class="chart"', "a tag list"):
        assert text in page


def test_a_lossless_data_uri_holds_the_same_pixels(make_image):
    encoded = data_uri(make_image(0), lossless=True).removeprefix("data:image/png;base64,")
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(encoded), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(pixels[..., ::-1], make_image(0))


def test_a_chart_has_only_colors_of_the_page_so_that_it_is_seen_in_light_and_dark():
    chart = line_chart({"a": [(0, 1.0), (1, 0.5)], "b_$x$": [(0, 2.0), (1, 1)]}, x_label="step", y_label="loss")
    strip = strip_chart({"a": [1.0, 2.0]}, {"a": Interval(1.5, 1.2, 1.8, 2)}, label="x")
    for svg in (chart, strip):
        assert re.findall(r"#[0-9a-fA-F]{6}\b", svg) == []
        assert {"--text", "--muted", "--line", "--s0"} >= set(re.findall(r"var\((--\w+)\)", svg)) - {"--s1"}
        assert "<style" not in svg
        assert "DejaVu" not in svg
        # What is referred to is there, and nothing else has a name that another chart of the page has too.
        names = re.findall(r'\bid="([^"]*)"', svg)
        assert set(re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', svg)) <= {(n, "") for n in names} | {
            ("", n) for n in names
        }
        assert not [name for name in names if "_" in name]
        assert "<metadata" not in svg
    assert len(re.findall(r"fill: none; stroke: var\(--s0\)", chart)) == 2  # the line, and its key
    assert "b_$x$" in chart


def test_a_chart_is_the_same_each_time():
    charts = [line_chart({"a": [(0, 1.0), (1, 0.5)]}, x_label="step", y_label="loss") for _ in range(2)]
    assert charts[0] == charts[1]


def test_a_dot_is_drawn_for_each_value_and_a_bar_for_the_interval():
    strip = strip_chart({"a": [1.0, 2.0, 4.0]}, {"a": Interval(7 / 3, 1.2, 3.8, 3)}, label="x")
    assert len(re.findall(r"<use [^>]*fill: var\(--s0\)", strip)) == 3
    assert len(re.findall(r'<path d="[^"]*"[^>]*stroke: var\(--text\)', strip)) == 2


def test_charts_leave_out_what_is_not_finite():
    assert "nan" not in line_chart({"a": [(0, float("nan")), (1, 1.0)]}, x_label="x", y_label="y")
    chart = strip_chart({"a": [float("inf"), 1.0]}, {"a": Interval(float("inf"), *[float("nan")] * 2, 2)}, label="x")
    assert "inf" not in chart
    assert "nan" not in chart
    assert "Nothing was logged" in line_chart({"a": []}, x_label="x", y_label="y")


def test_the_page_opens_with_the_best_the_middle_and_the_worst_image(results, pairs, tmp_path):
    page = _page(tmp_path, pairs, results)
    scores = {image["name"]: image["scores"]["gaussian_blur"]["psnr_y"] for image in _data(page)["images"]}
    worst_first = sorted(scores, key=scores.__getitem__)
    shown = re.findall(r'data-image="([^"]*)" data-view="HQ"', page)
    assert shown == [worst_first[-1], worst_first[len(scores) // 2], worst_first[0]]
    assert page.index("data-image") < page.index("<h2>Scores</h2>")
