"""Metrics of a set as a whole: kept by what they depend on, without interval, compared with sets of equal size."""

import json

import pytest

from seesr_pl.evaluation import Images, judge_method
from seesr_pl.evaluation.metrics import FIDELITY, Metrics
from seesr_pl.evaluation.of_set import SetMetric, size_notes, with_set_metrics
from seesr_pl.evaluation.results import Result, load_result
from seesr_pl.evaluation.statistics import Interval


class _Counting:
    """A metric of a set: the bytes of its results; counts how often it is asked."""

    def __init__(self, version="1"):
        self.calls = 0
        self.metric = SetMetric("bytes", self._value, True, False, version)

    def _value(self, files):
        self.calls += 1
        if len(files) < 2:
            raise ValueError(f"at least 2 images are needed, got {len(files)}")
        return float(sum(path.stat().st_size for path, _ in files))


@pytest.fixture
def judged(benchmark, tmp_path):
    """Judges the HQ images themselves by `metric`, into the folder `out`."""

    def build(device):
        return Images(benchmark.root / "hq")

    def judge(metric, **options):
        given = {"name": "hq", "settings": {}, "metrics": Metrics(list(FIDELITY), {}, [metric])}
        return judge_method(
            benchmark, lambda device: Images(benchmark.root / "hq"), tmp_path / "out", **given, **options
        )

    return judge


def test_a_value_of_a_set_is_in_every_output_without_an_interval(judged, tmp_path):
    shown = judged(_Counting().metric)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    expected = sum(path.stat().st_size for path in (tmp_path / "out" / "restored").glob("*.png"))
    assert summary["metrics"]["bytes"] == {"mean": expected, "ci95": [None, None], "n": 4}
    assert "bytes (lower is better)" in (tmp_path / "out" / "table.md").read_text()
    assert "bytes" in (tmp_path / "out" / "report.html").read_text()
    assert "bytes" not in (tmp_path / "out" / "scores.csv").read_text().splitlines()[0]
    assert "bytes: one value of the whole set; it compares with that of 4 images alone." in shown.sentences


def test_a_value_is_computed_again_for_another_version_or_other_files_alone(judged, benchmark):
    first, second = _Counting(), _Counting("2")
    judged(first.metric)
    judged(first.metric)
    assert first.calls == 1
    judged(second.metric)
    assert second.calls == 1
    (benchmark.root / "hq" / "lake_0.png").touch()
    judged(second.metric)
    assert second.calls == 2


def test_a_finished_evaluation_brings_its_value_along_and_no_paired_difference(judged, benchmark, tmp_path):
    judged(_Counting().metric)
    groups = {pair.name: pair.group for pair in benchmark.pairs()}
    again = load_result(tmp_path / "out", groups)
    assert again.intervals["bytes"].n == 4
    assert "bytes" not in load_result(tmp_path / "out", {"lake_0": "lake"}).intervals
    shown = judged(_Counting().metric, compare=[tmp_path / "out"])
    assert not any(sentence.startswith("bytes: no difference") for sentence in shown.sentences)


def test_sets_of_unequal_size_are_told_apart():
    intervals = [{"bytes": Interval(1.0, float("nan"), float("nan"), count)} for count in (4, 4, 3)]
    results = [Result(name, {}, each, {}, {}, {}) for name, each in zip("abc", intervals, strict=True)]
    assert size_notes(results, [_Counting().metric]) == [
        "bytes: one value of the whole set; it compares with that of 4 images alone, not with c (3)."
    ]


def test_a_set_that_is_too_small_has_a_reason_in_place_of_a_value(tmp_path):
    (tmp_path / "a.png").touch()
    result = Result("a", {}, {}, {"a": tmp_path / "a.png"}, {}, {})
    found, reasons = with_set_metrics(result, {"a": tmp_path / "a.png"}, [_Counting().metric], tmp_path)
    assert found.intervals == {}
    assert reasons == {"bytes": "at least 2 images are needed, got 1"}
