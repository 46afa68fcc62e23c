"""How well what is seen in the images of a set agrees with its annotations: AP, PQ and mean IoU, and of resamples."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torchmetrics.detection import PanopticQuality
from torchmetrics.functional.classification import multiclass_confusion_matrix

from seesr_pl.evaluation.coco import VOID, Annotations, Categories

MAX_DETECTIONS = 100
"""Detections of an image that count, the most confident ones, as in COCO's AP."""
EXTRA = "faster-coco-eval is not installed: pip install 'seesr-pl[coco]'"
"""Why there is no AP."""


def has_coco() -> bool:
    """Return whether the extra [coco] is installed."""
    return find_spec("faster_coco_eval") is not None


class AveragePrecision:
    """COCO's AP and AP50 in percent of the detections of a set, by faster-coco-eval, and those of its resamples.

    Args:
        annotations: of the set.
        detections: of each image, in COCO's result format.
        names: of the images that count.
        kind: boxes or masks.
        known: the categories that count.
    """

    def __init__(
        self,
        annotations: Annotations,
        detections: Sequence[Mapping[str, Any]],
        names: Sequence[str],
        *,
        kind: str,
        known: Sequence[int],
    ) -> None:
        from faster_coco_eval import COCO, COCOeval_faster

        truth = COCO(annotations.instances, use_deepcopy=True)
        found = truth.loadRes([dict(each) for each in detections]) if detections else None
        self.num_images = len(names)
        self.judge = None
        if found is None:
            return
        self.judge = COCOeval_faster(truth, found, kind, print_function=_silently, separate_eval=True)
        parameters = self.judge.params
        parameters.imgIds = [annotations.ids[name] for name in names]
        parameters.catIds = sorted(known)
        parameters.maxDets, parameters.areaRng, parameters.areaRngLbl = [MAX_DETECTIONS], [[0, 1e10]], ["all"]
        self.judge.evaluate()
        order = {image: position for position, image in enumerate(parameters.imgIds)}
        matches = np.empty(len(self.judge._evalImgs_cpp), object)
        matches[:] = self.judge._evalImgs_cpp
        # The library sorts images by id: back into the order of `names`.
        self.matches = matches.reshape(-1, self.num_images)[:, [order[annotations.ids[name]] for name in names]]

    def of(self, counts: np.ndarray) -> tuple[float, float]:
        """Return AP and AP50 of the resample in which image i occurs `counts[i]` times."""
        if self.judge is None:
            return 0.0, 0.0
        drawn = np.repeat(np.arange(self.num_images), counts)
        self.judge._evalImgs_cpp = self.matches[:, drawn].ravel().tolist()
        self.judge._paramsEval.imgIds = list(range(len(drawn)))
        self.judge.accumulate()
        precision = np.asarray(self.judge.eval["precision"])  # thresholds, recalls, categories, 1, 1
        return _mean_over_known(precision), _mean_over_known(precision[:1])


def _mean_over_known(precision: np.ndarray) -> float:
    # -1 marks a category of which there is no object.
    known = precision[precision > -1]
    return 100 * float(known.mean()) if known.size else float("nan")


def segment_counts(
    seen: np.ndarray, seen_segments: np.ndarray, truth: np.ndarray, truth_segments: np.ndarray, areas: Categories
) -> np.ndarray:
    """Compare an image's segments with the true ones: (categories, 4), IoU sum, true and false positives, negatives.

    All are (h, w): category (0 is none) and segment of each pixel. Rows are in the order of sorted category ids.
    """
    metric = PanopticQuality(areas.things, set(areas.ids.values()) - areas.things, allow_unknown_preds_category=True)
    metric.update(*(_stacked(*maps) for maps in ((seen, seen_segments), (truth, truth_segments))))
    sums = (metric.iou_sum, metric.true_positives, metric.false_positives, metric.false_negatives)
    columns = torch.stack([each.double() for each in sums], dim=1).numpy()
    rows = [metric.cat_id_to_continuous_id[category] for category in sorted(areas.ids.values())]
    return columns[rows]


def panoptic_quality(counts: np.ndarray) -> np.ndarray:
    """Compute PQ in percent (Kirillov et al., 2019) of `segment_counts` summed over images, (..., categories, 4)."""
    iou, hits, wrong, missed = np.moveaxis(counts, -1, 0)
    return _mean_over_present(iou, hits + wrong / 2 + missed / 2)


def overlaps(seen: np.ndarray, truth: np.ndarray, areas: Categories) -> np.ndarray:
    """Compare categories of pixels, (h, w): (categories, 2), pixels of intersection and of union; 0 in `truth` is none.

    A pixel whose true category is none counts for nothing.
    """
    ids = [VOID, *sorted(areas.ids.values())]
    index = {category: position for position, category in enumerate(ids)}
    found, wanted = (
        torch.from_numpy(np.vectorize(index.__getitem__, otypes=[np.int64])(each)) for each in (seen, truth)
    )
    num = len(ids)
    table = multiclass_confusion_matrix(found, wanted, num_classes=num, ignore_index=0, validate_args=False).numpy()
    both = np.diag(table)
    return np.stack([both, table.sum(0) + table.sum(1) - both], axis=1)[1:].astype(np.float64)


def mean_iou(counts: np.ndarray) -> np.ndarray:
    """Compute the mean intersection over union, in percent, of `overlaps` summed over images, (..., categories, 2)."""
    return _mean_over_present(counts[..., 0], counts[..., 1])


def _mean_over_present(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Average ratios over the categories whose denominator is not 0, in percent; not a number without any."""
    present = denominator > 0
    ratios = np.divide(numerator, denominator, out=np.zeros_like(numerator, dtype=np.float64), where=present)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 100 * ratios.sum(-1) / present.sum(-1)


def _stacked(categories: np.ndarray, segments: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack([categories, segments], axis=-1).astype(np.int64))[None]


def _silently(*words: Any) -> None:
    """Print nothing."""
