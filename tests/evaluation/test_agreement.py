"""AP, PQ and mean IoU of cases that can be computed by hand, and against the libraries' own results."""

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.detection import PanopticQuality

from seesr_pl.evaluation.agreement import AveragePrecision, mean_iou, overlaps, panoptic_quality, segment_counts
from seesr_pl.evaluation.coco import Annotations, Categories

AREAS = Categories({"cat": 1, "dog": 3, "sky": 7}, {1, 3})


def _annotations(*boxes):
    """One image for each list of boxes (category, x, y, width, height)."""
    images = [{"id": 10 * i, "file_name": f"{i}.jpg", "width": 100, "height": 100} for i in range(1, len(boxes) + 1)]
    objects = [
        {"id": 100 * i + j, "image_id": 10 * i, "category_id": kind, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for i, found in enumerate(boxes, start=1)
        for j, (kind, *box) in enumerate(found)
    ]
    content = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "a"}, {"id": 3, "name": "b"}]}
    ids = {str(i): 10 * i for i in range(1, len(boxes) + 1)}
    return Annotations(content, {}, None, Categories({"a": 1, "b": 3}, {1, 3}), Categories({}, set()), ids, {}, "")


def _precision(annotations, *found, known=(1, 3)):
    pytest.importorskip("faster_coco_eval")
    results = [
        {"image_id": 10 * image, "category_id": kind, "bbox": box, "score": score} for image, kind, score, *box in found
    ]
    return AveragePrecision(annotations, results, list(annotations.ids), kind="bbox", known=known)


def test_ap_of_one_box_found_and_one_missed_is_that_of_half_the_recall():
    judge = _precision(_annotations([(1, 10, 10, 20, 20)], [(1, 50, 50, 30, 30)]), (1, 1, 0.9, 10, 10, 20, 20))
    # Precision is 1 at the 51 of 101 recall levels up to 0.5.
    assert judge.of(np.array([1, 1])) == pytest.approx((100 * 51 / 101, 100 * 51 / 101))
    assert judge.of(np.array([2, 0])) == pytest.approx((100, 100))
    assert judge.of(np.array([0, 2])) == pytest.approx((0, 0))
    assert judge.of(np.array([1, 1])) == pytest.approx((100 * 51 / 101, 100 * 51 / 101))


def test_ap_counts_the_thresholds_that_a_shifted_box_reaches():
    # 23 of 30 columns overlap: IoU 23 / 37 = 0.62, above 0.5, 0.55 and 0.6 of the ten thresholds.
    judge = _precision(_annotations([(3, 10, 10, 30, 30)]), (1, 3, 0.5, 17, 10, 30, 30))
    assert judge.of(np.array([1])) == pytest.approx((30, 100))


def test_a_confident_wrong_box_halves_the_precision_and_an_unknown_category_does_not_count():
    annotations = _annotations([(1, 10, 10, 20, 20), (3, 60, 60, 20, 20)])
    found = [(1, 1, 0.9, 70, 10, 20, 20), (1, 1, 0.5, 10, 10, 20, 20)]
    assert _precision(annotations, *found).of(np.array([1])) == pytest.approx((25, 25))
    assert _precision(annotations, *found, known=[1]).of(np.array([1])) == pytest.approx((50, 50))


def test_ap_of_no_detection_is_0():
    assert _precision(_annotations([(1, 10, 10, 20, 20)])).of(np.array([1])) == (0, 0)


def test_images_keep_their_order_whatever_their_ids():
    pytest.importorskip("faster_coco_eval")
    annotations = _annotations([(1, 10, 10, 20, 20)], [(1, 50, 50, 30, 30)])
    found = [{"image_id": 10, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.9}]
    judge = AveragePrecision(annotations, found, ["2", "1"], kind="bbox", known=[1])
    assert judge.of(np.array([0, 2])) == pytest.approx((100, 100))


def _maps(generator):
    categories = generator.choice([0, 1, 3, 7], size=(4, 4)).repeat(8, 0).repeat(8, 1)
    segments = np.where(categories == 7, 0, np.arange(16).reshape(4, 4).repeat(8, 0).repeat(8, 1) + 1)
    return categories, segments


def test_pq_of_a_segment_of_four_fifths_and_a_wrong_one():
    truth = np.zeros((10, 10), int)
    truth[:5] = 1
    seen = truth.copy()
    seen[4] = 3  # a strip of the cat is taken for a dog
    counts = segment_counts(seen, seen, truth, truth, AREAS)
    # cat: IoU 40 / 50, found. dog: one false positive. sky: neither seen nor there.
    assert counts.tolist() == [[pytest.approx(0.8), 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert panoptic_quality(counts) == pytest.approx(100 * (0.8 + 0) / 2)


def test_pixels_without_a_true_category_count_for_nothing():
    truth = np.zeros((10, 10), int)
    truth[:4], seen = 1, np.ones((10, 10), int)
    assert segment_counts(seen, seen, truth, truth, AREAS)[0].tolist() == [pytest.approx(1), 1, 0, 0]
    assert overlaps(seen, truth, AREAS).tolist() == [[40, 40], [0, 0], [0, 0]]


def test_pq_of_summed_counts_is_that_of_torchmetrics_over_the_set():
    generator, metric = np.random.default_rng(0), PanopticQuality({1, 3}, {7}, allow_unknown_preds_category=True)
    total = np.zeros((3, 4))
    for _ in range(3):
        truth = _maps(generator)
        seen = [np.where(generator.random((32, 32)) < 0.2, 0, each) for each in truth]
        total += segment_counts(*seen, *truth, AREAS)
        metric.update(*(torch.from_numpy(np.stack(maps, -1))[None] for maps in (seen, truth)))
    assert 0 < panoptic_quality(total) < 100
    assert panoptic_quality(total) == pytest.approx(100 * float(metric.compute()), rel=1e-6)


def test_mean_iou_by_hand_and_by_torchmetrics():
    truth, seen = np.array([[1, 1, 3, 3], [0, 7, 7, 3]]), np.array([[1, 3, 3, 3], [1, 7, 0, 3]])
    # cat 1 of 2; dog 3 of 4, one cat's pixel among them; sky 1 of 2.
    counts = overlaps(seen, truth, AREAS)
    assert counts.tolist() == [[1, 2], [3, 4], [1, 2]]
    assert mean_iou(counts) == pytest.approx(100 * (1 / 2 + 3 / 4 + 1 / 2) / 3)
    index = {0: 0, 1: 1, 3: 2, 7: 3}
    mapped = [torch.tensor([[index[int(v)] for v in row] for row in each]) for each in (seen, truth)]
    theirs = MulticlassJaccardIndex(4, average="none", ignore_index=0)(*mapped)[1:].mean()
    assert mean_iou(counts) == pytest.approx(100 * float(theirs))


def test_a_resample_without_any_category_has_no_value():
    assert np.isnan(mean_iou(np.zeros((2, 3, 2)))).all()
    assert panoptic_quality(np.array([[[1.0, 1, 0, 0]], [[0.0, 0, 0, 0]]]))[0] == 100


def test_labels_are_categories_by_name_also_by_that_of_pascal_voc():
    coco = Categories({"couch": 63, "tv": 72}, {63, 72})
    assert coco.of_labels({0: "Sofa", 1: "tvmonitor", 2: "N/A"}, "detector") == {0: 63, 1: 72}
    with pytest.raises(ValueError, match=r"detector: none of its 1 classes \(n/a\) is a category of the annotations"):
        coco.of_labels({2: "N/A"}, "detector")
