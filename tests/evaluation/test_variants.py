"""What differs between results of other seeds, and with another tag: by hand, image by image, and in the report."""

import json
import math
import re

import numpy as np
import pytest

from seesr_pl.evaluation import Bicubic, GaussianBlur, image_metrics, judge_method
from seesr_pl.evaluation.variants import Variant, change_map, heat_image, seed_spread, spread_map, tag_effect
from seesr_pl.imaging.io import read_rgb, write_image
from seesr_pl.types import RGB


def _flat(*levels: int) -> RGB:
    return np.full((4, 4, 3), levels, np.uint8)


def test_the_spread_is_the_standard_deviation_of_a_pixel_over_the_images(tmp_path):
    np.testing.assert_allclose(spread_map([_flat(10), _flat(12), _flat(14)]), 2.0)
    # One channel of three differs, by 6: its variance is 18, and 6 on average.
    np.testing.assert_allclose(spread_map([_flat(10, 0, 0), _flat(16, 0, 0)]), math.sqrt(6))
    half = _flat(10)
    half[:2] = 12
    write_image(tmp_path / "other.png", half)
    assert seed_spread(_flat(10), None, tmp_path / "other.png") == pytest.approx(math.sqrt(2) / 2)


def test_the_effect_of_a_tag_is_the_difference_of_a_pixel(tmp_path):
    np.testing.assert_allclose(change_map(_flat(250, 0, 0), _flat(4, 0, 0)), 246 / math.sqrt(3), rtol=1e-6)
    write_image(tmp_path / "other.png", _flat(7))
    assert tag_effect(_flat(10), None, tmp_path / "other.png") == pytest.approx(3)


def test_a_heat_map_is_black_where_nothing_differs_and_brightest_from_its_limit_on():
    colors = heat_image(np.array([[0, 2, 8, 90]], np.float32), 8.0)[0]
    brightness = colors.astype(int).sum(axis=1)
    assert brightness[0] < 10
    assert brightness[0] < brightness[1] < brightness[2] == brightness[3]


class Retagged(GaussianBlur):
    """Stands for the method with another tag: it notes what it changed, and cannot change one image."""

    def __init__(self) -> None:
        super().__init__(sigma=2.0)
        self.notes = {}

    def __call__(self, lq: RGB, *, name: str) -> RGB:
        if name == "lake_1":
            raise ValueError("its prompt has no tag to change")
        self.notes[name] = "without 'lake'"
        return super().__call__(lq, name=name)


def _judged(benchmark, folder, **options):
    variants = [
        Variant("seed", "seed_1", lambda device: GaussianBlur(), {"seed": 1}),
        Variant("seed", "seed_2", lambda device: GaussianBlur(sigma=1.5), {"seed": 2}),
        Variant("tag", "tag_lake", lambda device: Retagged(), {"tag_change": "lake"}),
    ]
    given = {"name": "ours", "settings": {}, "metrics": image_metrics(["psnr_y"]), "variants": variants}
    return judge_method(benchmark, lambda device: Bicubic(), folder, **given | options)


def test_each_image_has_a_number_a_heat_map_and_what_was_changed(benchmark, tmp_path):
    shown = _judged(benchmark, tmp_path / "out")
    assert not shown.failed
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {name: each["n"] for name, each in summary["metrics"].items()} == {
        "psnr_y": 4,
        "seed_spread": 4,
        "tag_effect": 3,
    }
    assert summary["unscored"]["tag_effect"] == {"lake_1": "its prompt has no tag to change"}
    folders = [tmp_path / "out" / name for name in ("restored", "variants/seed_1", "variants/seed_2")]
    images = [read_rgb(folder / "lake_0.png") for folder in folders]
    header, first, *_ = (tmp_path / "out" / "scores.csv").read_text().splitlines()
    row = dict(zip(header.split(","), first.split(","), strict=True))
    assert float(row["seed_spread"]) == pytest.approx(spread_map(images).mean(), abs=1e-5)
    page = (tmp_path / "out" / "report.html").read_text()
    for text in ("<h2>Where it invents</h2>", "<h2>What a tag does</h2>", "without &#39;lake&#39;", "over 3 seeds"):
        assert text in page
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])
    assert data["views"] == ["LQ", "bicubic", "ours", "seed spread", "other tag", "tag difference", "HQ"]
    views = {image["name"]: set(image["views"]) for image in data["images"]}
    assert views["lake_0"] - views["lake_1"] == {"other tag", "tag difference"}


def test_numbers_of_variants_are_kept_and_follow_their_images(benchmark, tmp_path):
    def spread(**options):
        _judged(benchmark, tmp_path / "out", stages=["restore", "score"], **options)
        summary = json.loads((tmp_path / "out" / "summary.json").read_text())
        return summary["metrics"]["seed_spread"]["mean"]

    first = spread()
    lines = (tmp_path / "out" / "scores.jsonl").read_text()
    assert spread() == first
    assert (tmp_path / "out" / "scores.jsonl").read_text() == lines
    same = [
        Variant("seed", f"seed_{seed}", lambda device: Bicubic(), {"seed": seed, "as": "the method"}) for seed in (1, 2)
    ]
    assert spread(variants=same) == 0


def test_without_the_stage_restore_a_variant_that_is_not_there_has_no_number(benchmark, tmp_path):
    _judged(benchmark, tmp_path / "out", variants=[], stages=["restore"])
    _judged(benchmark, tmp_path / "out", stages=["score"])
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert "psnr_y" in summary["metrics"]
    assert all("not restored yet" in reasons["lake_0"] for reasons in summary["unscored"].values())
    assert summary["unscored"]
