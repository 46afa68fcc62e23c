"""What tells whether an image is invented: by definition, by hand, and stored by all that it depends on."""

import math

import numpy as np
import pytest
import torch
from ram_cases import TINIEST

from seesr_pl.degradation import RealESRGANDegradation, recorded
from seesr_pl.evaluation import Bicubic, FolderBenchmark, image_metrics, restore, score_all
from seesr_pl.evaluation.benchmark import MadePair, write_pairs
from seesr_pl.evaluation.faithfulness import NO_RAM, Tagger, lq_psnr, lq_psnr_own
from seesr_pl.evaluation.metrics import TAG_SCORES
from seesr_pl.imaging.io import write_image
from seesr_pl.imaging.tensors import to_float
from seesr_pl.models.ram import RAM


@pytest.fixture
def ram():
    torch.manual_seed(0)
    ram = RAM(TINIEST, ["cat", "dog", "house", "tree", "sky", "sea"], [0.5] * 6)
    torch.nn.init.normal_(ram.label_embed, std=9.0)
    return ram


def test_a_result_as_bright_as_its_input_but_for_ten_levels_has_the_consistency_of_ten_levels(tmp_path):
    write_image(tmp_path / "lq.png", np.full((8, 8, 3), 100, np.uint8))
    value = lq_psnr(np.full((32, 32, 3), 110, np.uint8), None, tmp_path / "lq.png")
    assert value == pytest.approx(20 * math.log10(255 / (10 * 219 / 255)))


def test_detail_that_the_reduction_loses_costs_no_consistency(tmp_path, make_image):
    plain = (make_image(0) // 2 + 64).astype(np.uint8)
    checkers = np.where(np.indices((64, 64)).sum(0) % 2, 12, -12)[..., None]
    write_image(tmp_path / "lq.png", make_image(0, 64)[::4, ::4] // 2 + 64)
    values = [lq_psnr(image, None, tmp_path / "lq.png") for image in (plain, (plain + checkers).astype(np.uint8))]
    assert values[1] == pytest.approx(values[0], abs=0.05)


def test_the_hq_image_is_wholly_consistent_under_its_own_degradation_and_another_image_is_not(tmp_path, make_image):
    chain = RealESRGANDegradation(sharpen=False)
    params = chain.sample(0, 0, 0)
    hq, lq = chain.apply(make_image(0), params)
    write_image(tmp_path / "lq.png", lq)
    assert lq_psnr_own(hq, None, tmp_path / "lq.png", recorded(chain, params)) == math.inf
    assert lq_psnr_own(make_image(1), None, tmp_path / "lq.png", recorded(chain, params)) < 25


def test_tag_scores_count_the_tags_of_both_images(ram, make_image):
    sr, hq = make_image(0, 32), make_image(3, 32)
    with torch.no_grad():
        logits = [ram.see(to_float(torch.from_numpy(image)[None])).logits for image in (sr, hq)]
    ours, theirs = (set(ram.tags(one)[0]) for one in logits)
    both = len(ours & theirs)
    assert 0 < both < len(ours | theirs)
    ranked = [ram.tag_names[index] for index in logits[0][0].argsort(descending=True)]
    places = sorted(ranked.index(tag) + 1 for tag in theirs)
    expected = {
        "tags_precision": both / len(ours),
        "tags_recall": both / len(theirs),
        "tags_f1": 2 * both / (len(ours) + len(theirs)),
        "tags_ap": sum(hits / place for hits, place in enumerate(places, 1)) / len(places),
    }
    tagger = Tagger(ram)
    assert {name: tagger.score(name, sr, hq) for name in TAG_SCORES} == pytest.approx(expected)
    assert [tagger.score(name, hq, hq) for name in TAG_SCORES] == pytest.approx([1, 1, 1, 1])


def test_the_judge_of_tags_is_plain_ram_whatever_lora_it_has(ram, make_image):
    tagger = Tagger(ram)
    before = tagger.version(), tagger.score("tags_ap", make_image(0, 32), make_image(3, 32))
    ram.add_lora(2)
    torch.nn.init.normal_(next(parameter for name, parameter in ram.named_parameters() if "lora_B" in name), std=9.0)
    tagger = Tagger(ram)
    assert (tagger.version(), tagger.score("tags_ap", make_image(0, 32), make_image(3, 32))) == before
    with torch.no_grad():
        ram.fc.bias += 1
    assert Tagger(ram).version() != before[0]


def test_an_image_without_tags_has_no_score(ram, make_image):
    ram.thresholds += 1
    with pytest.raises(ValueError, match="no tag on the HQ image"):
        Tagger(ram).score("tags_f1", make_image(0), make_image(1))


def test_what_is_scored_of_itself_depends_on_what_is_known(ram):
    metrics = image_metrics("auto")
    assert ([metric.name for metric in metrics.available], metrics.skipped) == (
        ["psnr_y", "ssim_y"],
        {"tags_f1": NO_RAM},
    )
    assert image_metrics("auto", strict=True).skipped == {"tags_f1": NO_RAM}
    for degradations, consistency in (({}, "lq_psnr"), ({"a": {}}, "lq_psnr_own")):
        found = image_metrics("auto", degradations=degradations, tagger=lambda device: ram)
        assert [metric.name for metric in found.available] == ["psnr_y", "ssim_y", consistency, "tags_f1"]
    assert "degradations.json" in image_metrics(["lq_psnr_own"]).skipped["lq_psnr_own"]


def test_stored_consistency_is_that_of_the_input_and_of_the_degradation(benchmark, root, tmp_path, make_image):
    chain = RealESRGANDegradation(sharpen=False)
    drawn = [chain.sample(0, 0, index) for index in range(2)]
    records = [recorded(chain, params) for params in drawn]
    restored = restore(lambda device: Bicubic(), benchmark.pairs(), tmp_path / "restored", settings={})

    def scores(record):
        metrics = image_metrics(["lq_psnr", "lq_psnr_own"], degradations={"lake_0": record}).available
        return score_all("bicubic", restored, metrics, tmp_path / "scores.jsonl")

    first, second = (scores(record) for record in records)
    assert first.values["lake_0"]["lq_psnr"] == second.values["lake_0"]["lq_psnr"]
    assert first.values["lake_0"]["lq_psnr_own"] != second.values["lake_0"]["lq_psnr_own"]
    assert scores(records[0]).values == first.values
    assert first.unscored["lq_psnr_own"]["lake_1"] == "how it was degraded is not known"
    write_image(root / "lq" / "lake_0.png", make_image(7, 16))
    assert scores(records[0]).values["lake_0"]["lq_psnr"] != first.values["lake_0"]["lq_psnr"]


def test_a_made_set_tells_how_its_images_were_degraded(tmp_path, make_image):
    chain = RealESRGANDegradation()
    params = chain.sample(0, 0, 0)
    hq, lq = chain.apply(make_image(0), params)
    pair = MadePair("a", hq, lq, params.severity, params.kind, recorded(chain, params))
    write_pairs(tmp_path, [pair, MadePair("b", hq, lq, 0.0)])
    benchmark = FolderBenchmark(str(tmp_path))
    assert (benchmark.kinds(), benchmark.degradations()) == ({"a": params.kind}, {"a": pair.record})
    assert benchmark.severities() == pytest.approx({"a": params.severity, "b": 0.0})
