"""An evaluation keeps what still holds, redo what does not, and write what they found."""

import csv
import errno
import json
import re
import shutil

import numpy as np
import pytest

from seesr_pl.evaluation import (
    Bicubic,
    FolderBenchmark,
    Images,
    Interval,
    Result,
    image_metrics,
    judge_method,
    psnr_y,
    restore,
    score_all,
    write_result,
)
from seesr_pl.evaluation.benchmark import pixel_digest
from seesr_pl.evaluation.metrics import ImageMetric, Metrics
from seesr_pl.imaging.io import read_rgb, write_image
from seesr_pl.jobs import pool
from seesr_pl.types import RGB

NUMBERS = ("restore", "score")


class Counting(Bicubic):
    """Bicubic that knows how often it was called."""

    calls = 0

    def __call__(self, lq: RGB, *, name: str) -> RGB:
        self.calls += 1
        return super().__call__(lq, name=name)


def bicubic(device):
    return Bicubic()


def test_what_is_restored_is_what_the_method_gives(benchmark, tmp_path):
    pairs = benchmark.pairs()
    restored = restore(bicubic, pairs, tmp_path, settings={})
    assert [item.pair for item in restored] == pairs
    for item in restored:
        np.testing.assert_array_equal(read_rgb(item.path), Bicubic()(read_rgb(item.pair.lq), name=""))


def test_a_second_run_restores_nothing_and_does_not_build_the_method(benchmark, tmp_path):
    first = restore(bicubic, benchmark.pairs(), tmp_path, settings={"steps": 1})
    second = restore(lambda device: pytest.fail("built"), benchmark.pairs(), tmp_path, settings={"steps": 1})
    assert first == second


@pytest.mark.parametrize("change", ["settings", "input", "image", "sidecar", "overwrite"])
def test_what_no_longer_holds_is_restored_again(benchmark, tmp_path, change, make_image):
    restore(bicubic, benchmark.pairs(), tmp_path, settings={"steps": 1})
    if change == "input":
        write_image(benchmark.lq_folder / "lake_0.png", make_image(9, 16))
    if change in ("image", "sidecar"):
        (tmp_path / f"lake_0.{'png' if change == 'image' else 'json'}").unlink()
    method = Counting()
    settings = {"steps": 2 if change == "settings" else 1}
    restore(lambda device: method, benchmark.pairs(), tmp_path, settings=settings, overwrite=change == "overwrite")
    assert method.calls == (4 if change in ("settings", "overwrite") else 1)


def test_results_of_another_program_are_taken_again_when_one_of_its_files_changes(benchmark, root, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(root / "hq", results)
    settings = {"dir": results}
    method = Counting()
    restore(lambda device: method, benchmark.pairs(), tmp_path / "restored", settings=settings)
    restore(lambda device: pytest.fail("built"), benchmark.pairs(), tmp_path / "restored", settings=settings)
    (results / "lake_1.png").unlink()
    restore(lambda device: method, benchmark.pairs(), tmp_path / "restored", settings=settings)
    assert method.calls == 8


def test_where_every_result_has_the_wrong_size_none_is_kept(benchmark, tmp_path):
    with pytest.raises(ValueError, match=r"none of 4 .* lake_0: bicubic: lake_0 is 32x32, expected 64x64"):
        restore(lambda device: Bicubic(scale=2), benchmark.pairs(), tmp_path, settings={})


class Choosy(Bicubic):
    """Bicubic that cannot take one image, and gives another one in a wrong size."""

    def __call__(self, lq: RGB, *, name: str) -> RGB:
        if name == "lake_1":
            raise RuntimeError("out of memory")
        return super().__call__(lq[:8] if name == "street_0" else lq, name=name)


def test_an_image_that_a_method_cannot_take_is_named_counted_and_left_out(benchmark, tmp_path):
    given = {"name": "choosy", "settings": {}, "metrics": image_metrics(["psnr_y"])}
    restore(bicubic, benchmark.pairs(), tmp_path / "out" / "restored", settings={"of": "an earlier run"})
    shown = judge_method(benchmark, lambda device: Choosy(), tmp_path / "out", **given)
    assert list(shown.failed) == ["lake_1", "street_0"]
    assert shown.failed["lake_1"] == "out of memory"
    assert "street_0 is 64x32, expected 64x64" in shown.failed["street_0"]
    assert any(
        "psnr_y: 2 of 4 images, without lake_1 (not restored: out of memory)" in line for line in shown.sentences
    )
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["metrics"]["psnr_y"]["n"], summary["not_restored"]) == (2, shown.failed)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "psnr_y: 2 of 4 images, without lake_1" in page
    assert sorted(path.stem for path in (tmp_path / "out" / "restored").glob("*.png")) == ["lake_0", "street_1"]
    beside = {**given, "name": "bicubic", "compare": [tmp_path / "out"]}
    assert judge_method(benchmark, bicubic, tmp_path / "whole", **beside).failed == {}
    rows = list(csv.DictReader((tmp_path / "whole" / "comparisons.csv").open()))
    assert [row["images"] for row in rows] == ["2"]
    # What is mended is restored, and nothing else.
    method = Counting()
    assert judge_method(benchmark, lambda device: method, tmp_path / "out", **given).failed == {}
    assert method.calls == 2


def test_an_input_that_cannot_be_read_ends_nothing_where_there_is_no_reference(root, tmp_path):
    (root / "lq" / "lake_1.png").write_bytes((root / "lq" / "lake_1.png").read_bytes()[:60])
    for _ in range(2):
        restored = restore(bicubic, FolderBenchmark(str(root), hq=None).pairs(), tmp_path, settings={})
        assert [item.pair.name for item in restored if item.failure] == ["lake_1"]


def test_a_full_disk_ends_an_evaluation(benchmark, tmp_path):
    class Full(Bicubic):
        def __call__(self, lq: RGB, *, name: str) -> RGB:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        restore(lambda device: Full(), benchmark.pairs(), tmp_path, settings={})


def test_missing_images_of_another_program_are_all_listed_before_the_first_is_copied(benchmark, root, tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    for name in ("lake_0", "street_1"):
        shutil.copy(root / "hq" / f"{name}.png", results)
    with pytest.raises(ValueError, match="2 of 4 missing: lake_1, street_0"):
        restore(lambda device: Images(str(results)), benchmark.pairs(), tmp_path / "restored", settings={})
    assert not list(tmp_path.glob("restored/*"))


def test_scores_are_those_of_the_metric_functions(benchmark, tmp_path):
    restored = restore(bicubic, benchmark.pairs(), tmp_path, settings={})
    scores = score_all("bicubic", restored, image_metrics(["psnr_y"]).available, tmp_path / "scores.jsonl")
    assert [values["psnr_y"] for values in scores.values.values()] == [
        psnr_y(read_rgb(item.path), read_rgb(item.pair.hq)) for item in restored
    ]


def test_a_metric_is_computed_once_for_the_same_pixels_and_version(benchmark, tmp_path):
    restored = restore(bicubic, benchmark.pairs(), tmp_path, settings={})
    calls = []

    def metric(version: str) -> ImageMetric:
        return ImageMetric("mean", lambda sr, hr: calls.append(1) or sr.mean(), False, True, version)

    first = score_all("bicubic", restored, [metric("1")], tmp_path / "scores.jsonl")
    assert score_all("bicubic", restored, [metric("1")], tmp_path / "scores.jsonl") == first
    assert len(calls) == 4
    score_all("bicubic", restored, [metric("2")], tmp_path / "scores.jsonl")
    assert len(calls) == 8
    write_image(restored[0].path, np.zeros((64, 64, 3), np.uint8))
    score_all("bicubic", restored, [metric("2")], tmp_path / "scores.jsonl")
    assert len(calls) == 9


def test_a_store_cut_short_by_a_crash_is_read_up_to_the_cut(benchmark, tmp_path):
    restored = restore(bicubic, benchmark.pairs(), tmp_path, settings={})
    metrics, store = image_metrics(["psnr_y"]).available, tmp_path / "scores.jsonl"
    expected = score_all("bicubic", restored, metrics, store)
    store.write_text(store.read_text()[:-20])
    assert score_all("bicubic", restored, metrics, store) == expected
    assert len([json.loads(line) for line in store.read_text().splitlines()]) == 4


def test_the_interval_of_a_mean_draws_photographs_and_not_crops(benchmark, tmp_path):
    restored = restore(bicubic, benchmark.pairs(), tmp_path, settings={})
    result = score_all("bicubic", restored, image_metrics(["psnr_y"]).available, tmp_path / "scores.jsonl")
    interval = result.intervals["psnr_y"]
    values = {image: scores["psnr_y"] for image, scores in result.values.items()}
    by_group = [np.mean([values[f"{group}_{index}"] for index in range(2)]) for group in ("lake", "street")]
    assert interval.mean == pytest.approx(np.mean(by_group))
    # Of two photographs the interval is Student's with one degree of freedom.
    half = 12.7062 * abs(by_group[1] - by_group[0]) / 2
    assert (interval.low, interval.high) == pytest.approx((interval.mean - half, interval.mean + half), rel=1e-4)


def test_scores_csv_has_one_row_for_each_image(benchmark, tmp_path):
    restored = restore(bicubic, benchmark.pairs(), tmp_path, settings={})
    result = score_all("bicubic", restored, image_metrics(["psnr_y", "ssim_y"]).available, tmp_path / "scores.jsonl")
    write_result(tmp_path, result, {})
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["lake_0", "lake_1", "street_0", "street_1"]
    assert float(rows[0]["psnr_y"]) == pytest.approx(result.values["lake_0"]["psnr_y"], abs=1e-6)
    assert list(rows[0]) == ["image", "psnr_y", "ssim_y"]
    seconds = json.loads((tmp_path / "summary.json").read_text())["seconds"]
    assert seconds["street_1"] == pytest.approx(restored[3].seconds, abs=1e-3)


def test_summary_json_is_strict_json_even_for_infinite_means(tmp_path):
    intervals = {"psnr_y": Interval(float("inf"), float("nan"), float("nan"), 2), "ssim_y": Interval(0.5, 0.4, 0.6, 2)}
    write_result(tmp_path, Result("bicubic", {}, intervals, {}, {}, {}), {"settings": {"dir": tmp_path}})
    read = json.loads((tmp_path / "summary.json").read_text(), parse_constant=lambda text: pytest.fail(text))
    assert read["metrics"]["ssim_y"] == {"mean": 0.5, "ci95": [0.4, 0.6], "n": 2}
    assert read["metrics"]["psnr_y"] == {"mean": None, "ci95": [None, None], "n": 2}
    assert read["method"] == "bicubic"
    assert read["settings"] == {"dir": str(tmp_path)}


@pytest.mark.parametrize(
    ("stages", "written"),
    [
        (["restore"], ["restored"]),
        (["restore", "score"], ["restored", "scores.csv", "scores.jsonl", "summary.json", "table.md", "table.tex"]),
    ],
)
def test_each_stage_writes_its_files_and_shows_those_to_look_at(benchmark, tmp_path, stages, written):
    given = {"name": "bicubic", "settings": {}, "metrics": image_metrics(["psnr_y", "niqe"]), "stages": stages}
    shown = judge_method(benchmark, bicubic, tmp_path / "out", **given)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == written
    shows = [name for name in ("table.md", "summary.json", "scores.csv", "restored") if name in written]
    assert [path.name for path in shown.files] == shows
    assert (shown.table is not None, list(shown.skipped)) == ((True, ["niqe"]) if "score" in stages else (False, []))


def test_an_image_without_a_value_is_named_counted_and_left_out_of_the_mean(benchmark, tmp_path):
    pairs = benchmark.pairs()
    restored = restore(bicubic, pairs, tmp_path / "restored", settings={})
    shutil.copy(pairs[0].hq, restored[0].path)

    def fails_on_lakes(sr, hr):
        if np.array_equal(hr, read_rgb(pairs[1].hq)):
            raise np.linalg.LinAlgError("SVD did not converge")
        return 1.0

    metrics = [*image_metrics(["psnr_y"]).available, ImageMetric("odd", fails_on_lakes, True, True, "1")]
    result = score_all("bicubic", restored, metrics, tmp_path / "scores.jsonl")
    assert result.intervals["psnr_y"].n == len(pairs) - 1
    assert np.isfinite(result.intervals["psnr_y"][:3]).all()
    assert result.unscored == {
        "psnr_y": {pairs[0].name: "infinite: equal to its reference"},
        "odd": {pairs[1].name: "SVD did not converge"},
    }
    name, count = pairs[1].name, len(pairs)
    assert result.gaps()[1] == f"odd: {count - 1} of {count} images, without {name} (SVD did not converge)."
    again = score_all("bicubic", restored, metrics, tmp_path / "scores.jsonl")
    assert again.unscored == result.unscored


def test_an_evaluation_of_other_references_is_not_compared(benchmark, tmp_path):
    metrics = image_metrics(["psnr_y"])
    judge_method(benchmark, bicubic, tmp_path / "first", name="a", settings={}, metrics=metrics, stages=NUMBERS)
    reference = benchmark.pairs()[0].hq
    write_image(reference, read_rgb(reference) // 2)
    with pytest.raises(ValueError, match="first was scored against other reference images"):
        judge_method(
            *(benchmark, bicubic, tmp_path / "second"),
            name="b",
            settings={},
            metrics=metrics,
            stages=NUMBERS,
            compare=[tmp_path / "first"],
        )


def test_published_rows_stand_beside_the_published_pixels_alone(benchmark, tmp_path):
    benchmark.count, benchmark.published = len(benchmark.pairs()), {"SeeSR": {"psnr_y": 25.18}}
    for digest, shown in ((pixel_digest(benchmark.pairs()), True), ("0" * 64, False), (None, True)):
        benchmark.digest = digest
        judge_method(
            *(benchmark, bicubic, tmp_path / str(digest)),
            name="bicubic",
            settings={},
            metrics=image_metrics(["psnr_y"]),
            stages=NUMBERS,
        )
        assert ("SeeSR" in (tmp_path / str(digest) / "table.md").read_text()) == shown


def test_the_page_names_checkpoint_and_step_and_has_a_row_for_each_setting(benchmark, tmp_path):
    given = {"settings": {"method": {"name": "x"}, "sampler": {"tile": 96}}, "metrics": image_metrics(["psnr_y"])}
    about = {"checkpoint": {"file": "outputs/run/checkpoints/last.ckpt", "step": 250}, "commit": "abc"}
    judge_method(benchmark, bicubic, tmp_path, name="ours", about=about, command="python evaluate.py", **given)
    page = (tmp_path / "report.html").read_text()
    assert f"<title>ours on {benchmark.name}: run/last.ckpt, step 250</title>" in page
    assert re.search(r"sampler\.tile</td>\s*<td class=\"text\">96</td>", page)
    assert "<dd>commit abc</dd>" in page


def test_a_set_without_references_is_judged_to_its_end(benchmark, tmp_path):
    real = FolderBenchmark(str(benchmark.root), hq=None)
    metrics = Metrics([ImageMetric("level", lambda sr, hr: float(sr.mean()), False, True, "1")], {})
    judge_method(real, bicubic, tmp_path, name="bicubic", settings={}, metrics=metrics)
    assert json.loads((tmp_path / "summary.json").read_text())["metrics"]["level"]["n"] == len(real.pairs())
    assert (tmp_path / "report.html").is_file()


def test_an_evaluation_of_the_same_name_stands_beside_the_new_one_by_its_folder(benchmark, tmp_path):
    given = {"name": "seesr", "settings": {}, "metrics": image_metrics(["psnr_y"]), "stages": NUMBERS}
    judge_method(benchmark, bicubic, tmp_path / "first", **given)
    judge_method(benchmark, bicubic, tmp_path / "second", compare=[tmp_path / "first"], **given)
    table = (tmp_path / "second" / "table.md").read_text()
    assert "| seesr |" in table
    assert "| seesr (first) |" in table


@pytest.mark.whole
def test_what_restores_nothing_says_so_in_another_process_too(benchmark, tmp_path):
    place = pool.place("local", "cpu", folder=tmp_path, num_processes=2)
    given = {"name": "bicubic", "settings": {}, "metrics": image_metrics(["psnr_y"]), "place": place}
    with pytest.raises(ValueError, match=r"stages=\['score'\] leaves out restore"):
        judge_method(benchmark, bicubic, tmp_path, stages=["score"], **given)
