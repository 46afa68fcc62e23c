"""What DAPE sees is judged by the definitions of the metrics, by severity, and image by image."""

import csv
import json

import numpy as np
import pytest
import torch
from ram_cases import TINY

from seesr_pl.evaluation.semantics import (
    IMAGE_METRICS,
    TagComparison,
    TagExample,
    compare_tags,
    precision_recall_f1,
)
from seesr_pl.evaluation.tag_report import tag_sheet, tags_section, write_tags
from seesr_pl.imaging.tensors import resize_bicubic, to_float
from seesr_pl.models.ram import BICUBIC, RAM


@pytest.fixture
def ram():
    torch.manual_seed(0)
    ram = RAM(TINY, ["cat", "dog", "house", "tree"], [0.5] * 4)
    torch.nn.init.normal_(ram.label_embed, std=3.0)
    ram.add_lora(2)
    return ram


def batches(num_images, size=2, *, lq_equals_hq=False):
    generator = torch.Generator().manual_seed(1)
    for start in range(0, num_images, size):
        hq = torch.randint(0, 256, (size, 32, 32, 3), generator=generator, dtype=torch.uint8)
        yield {
            "hq": hq,
            "lq": hq if lq_equals_hq else hq[:, ::4, ::4],
            "key": [f"image{start + index}" for index in range(size)],
            "sample_id": torch.arange(start, start + size),
            "epoch": torch.zeros(size, dtype=torch.int64),
            "severity": torch.arange(start, start + size) / num_images,
            "tags": [""] * size,
        }


def test_precision_recall_and_f1_count_tags_of_each_image():
    predicted = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    wanted = torch.tensor([[1, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    scores = precision_recall_f1(predicted, wanted)
    nan = float("nan")
    torch.testing.assert_close(scores["precision"], torch.tensor([1 / 2, nan, nan]), equal_nan=True)
    torch.testing.assert_close(scores["recall"], torch.tensor([1 / 3, 0.0, nan]), equal_nan=True)
    torch.testing.assert_close(scores["f1"], torch.tensor([2 / 5, 0.0, nan]), equal_nan=True)


def test_a_fresh_lora_sees_what_plain_ram_sees(ram):
    for row in compare_tags(ram, batches(6)).rows:
        assert row.ram == pytest.approx(row.dape, nan_ok=True)
        if row.n > 1:
            assert (row.difference, row.low, row.high) == pytest.approx((0, 0, 0))


def test_on_an_undamaged_image_plain_ram_errs_nowhere(ram):
    rows = compare_tags(ram, batches(6, lq_equals_hq=True)).rows
    values = {row.metric: row.ram for row in rows[: len(IMAGE_METRICS) + 1] if row.metric != "cross_entropy"}
    assert values == pytest.approx(
        {"representation_error": 0, "logit_error": 0, "precision": 1, "recall": 1, "f1": 1, "map": 1}, abs=1e-5
    )


def test_the_ranges_of_severity_hold_equally_many_images_mildest_first(ram):
    rows = [row for row in compare_tags(ram, batches(6)).rows if row.metric == "representation_error"]
    ranges = [(round(row.severity_from * 6), round(row.severity_to * 6), row.n) for row in rows]
    assert ranges == [(0, 5, 6), (0, 1, 2), (2, 3, 2), (4, 5, 2)]


def test_images_of_one_severity_are_not_split_into_ranges(ram):
    same = [batch | {"severity": torch.zeros(2)} for batch in batches(6)]
    assert [row.n for row in compare_tags(ram, same).rows if row.metric == "map"] == [6]


def test_images_of_one_photograph_are_resampled_together(ram):
    torch.nn.init.normal_(next(parameter for name, parameter in ram.named_parameters() if "lora_B" in name))
    alone, together = (compare_tags(ram, batches(6), group=group).rows for group in ("(.*)", "(image)"))
    assert all(row.low <= row.difference <= row.high for row in alone if row.metric in ("logit_error", "map"))
    assert [row.difference for row in alone] == pytest.approx([row.difference for row in together], nan_ok=True)
    assert np.isnan([row.low for row in together]).all()


def test_two_processes_see_together_what_one_sees_alone(ram):
    alone = compare_tags(ram, batches(6))
    parts = [TagComparison(ram), TagComparison(ram)]
    for index, batch in enumerate(batches(6)):
        parts[index % 2].add(batch)
    parts[1].add(next(batches(6)))  # an image that a sampler repeated to fill the last batch
    parts[0].merge([part.seen for part in parts])
    assert str(parts[0].result().rows) == str(alone.rows)


def test_examples_are_the_first_images_with_three_lists(ram):
    examples = compare_tags(ram, batches(6), num_examples=3).examples
    assert [example.key for example in examples] == ["image0", "image1", "image2"]
    with torch.no_grad():
        expected = ram.tags(ram.see(to_float(next(batches(6))["hq"]), adapter=False).logits)
    assert [example.teacher for example in examples[:2]] == expected


@pytest.mark.parametrize("lq_upscale", ["bicubic", "none"])
def test_every_view_is_resized_as_asked(ram, lq_upscale):
    torch.nn.init.normal_(next(parameter for name, parameter in ram.named_parameters() if "lora_B" in name))
    batch = next(batches(6))
    comparison = TagComparison(ram, resize=BICUBIC, lq_upscale=lq_upscale)
    comparison.add(batch)
    hq, lq = to_float(batch["hq"]), to_float(batch["lq"])
    lq = resize_bicubic(lq, (32, 32)) if lq_upscale == "bicubic" else lq
    with torch.no_grad():
        teacher = ram.see(hq, adapter=False, resize=BICUBIC)
        students = {"ram": ram.see(lq, adapter=False, resize=BICUBIC), "dape": ram.see(lq, resize=BICUBIC)}
    for view, student in students.items():
        errors = (student.representation - teacher.representation).square().mean(dim=(1, 2))
        assert [image[view]["representation_error"] for image in comparison.seen.images] == list(errors)


def test_the_table_is_written_as_csv_and_each_example_as_a_sheet(ram, tmp_path):
    result = compare_tags(ram, batches(4))
    write_tags(result, tmp_path)
    with (tmp_path / "tags.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [path.name for path in sorted(tmp_path.glob("*.png"))] == [f"example_{index}.png" for index in range(4)]
    assert [row["metric"] for row in rows] == [row.metric for row in result.rows]
    assert [float(row["ram"]) for row in rows] == pytest.approx([row.ram for row in result.rows], nan_ok=True)
    summary = json.loads((tmp_path / "summary.json").read_text(), parse_constant=lambda text: pytest.fail(text))
    assert summary["metrics"]["dape/map"]["n"] == 4
    assert [row["metric"] for row in summary["by_degradation"]] == [row.metric for row in result.rows[7:]]


def test_the_images_of_each_kind_of_degradation_have_rows_of_their_own(ram):
    kinds = ["noise", "blur", "noise"]
    given = [batch | {"kind": [kind, "noise"]} for batch, kind in zip(batches(6), kinds, strict=True)]
    result = compare_tags(ram, given)
    counted = [(row.kind, row.n) for row in result.rows if row.metric == "map"]
    assert counted == [("", 6), ("", 2), ("", 2), ("", 2), ("noise", 5), ("blur", 1)]
    assert [table.header[0] for table in tags_section(result).tables[-2:]] == [
        "mostly noise, severity 0.00 to 0.83",
        "mostly blur, severity 0.33 to 0.33",
    ]


def test_a_ram_without_lora_is_refused():
    with pytest.raises(ValueError, match="no LoRA"):
        compare_tags(RAM(TINY, ["cat"], [0.5]), batches(2))


def test_no_images_are_refused(ram):
    with pytest.raises(ValueError, match="no image"):
        compare_tags(ram, [])


def test_a_sheet_shows_both_images_and_grows_with_the_tags():
    lq, hq = np.full((16, 16, 3), 40, np.uint8), np.full((64, 64, 3), 200, np.uint8)
    few = tag_sheet(TagExample("a", 0.5, lq, hq, ["cat"], ["cat"], ["dog"]), side=100)
    many = tag_sheet(TagExample("a", 0.5, lq, hq, ["cat"] * 90, ["cat"], ["dog"]), side=100)
    assert (few[50, 50] == 40).all()
    assert (few[50, 160] == 200).all()
    assert few.shape[1] == many.shape[1] == 224
    assert many.shape[0] > few.shape[0]
