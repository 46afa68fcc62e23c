"""Scores by severity: equally filled ranges, mildest first, with the means of their images."""

import csv

from seesr_pl.evaluation import Interval, Result
from seesr_pl.evaluation.severity import by_kind, by_severity, write_by_severity

IMAGES = "abcdef"
RESULT = Result("m", {i: {"psnr_y": float(n)} for n, i in enumerate(IMAGES)}, {}, {}, {i: i for i in IMAGES}, {})
SEVERITIES = dict(zip(IMAGES, (0.9, 0.1, 0.2, 0.8, 0.4, 0.5), strict=True))


def test_ranges_are_equally_filled_and_have_the_means_of_their_images(tmp_path):
    rows = by_severity([RESULT, RESULT._replace(name="n")], {**SEVERITIES, "not scored": 1.0})
    means = [(row.method, row.severity_from, row.severity_to, row.intervals["psnr_y"].mean) for row in rows]
    assert means[::2] == [("m", 0.1, 0.2, 1.5), ("m", 0.4, 0.5, 4.5), ("m", 0.8, 0.9, 1.5)]
    assert [row.method for row in rows] == ["m", "n"] * 3
    assert isinstance(rows[0].intervals["psnr_y"], Interval)
    write_by_severity(tmp_path / "by_severity.csv", rows)
    with (tmp_path / "by_severity.csv").open(newline="") as file:
        assert [float(row["mean"]) for row in csv.DictReader(file) if row["method"] == "m"] == [1.5, 4.5, 1.5]


def test_a_set_without_severities_or_with_one_alone_has_no_ranges(tmp_path):
    assert by_severity([RESULT], {}) == []
    assert by_severity([RESULT], dict.fromkeys(IMAGES, 0.0)) == []
    write_by_severity(tmp_path / "by_severity.csv", [])
    assert not (tmp_path / "by_severity.csv").exists()


def test_kinds_come_most_frequent_first_with_the_means_of_their_images(tmp_path):
    kinds = {"a": "blur", "b": "noise", "c": "noise", "d": "noise", "e": "blur", "not scored": "blur"}
    rows = by_kind([RESULT, RESULT._replace(name="n")], {**SEVERITIES, "not scored": 1.0}, kinds)
    found = [(row.method, row.part, row.severity_from, row.severity_to) for row in rows]
    assert found[::2] == [("m", "mostly noise", 0.1, 0.8), ("m", "mostly blur", 0.4, 0.9)]
    assert [row.intervals["psnr_y"].mean for row in rows] == [2.0, 2.0, 2.0, 2.0]
    assert by_kind([RESULT], SEVERITIES, dict.fromkeys(IMAGES, "noise")) == []
