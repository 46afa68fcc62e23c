"""Whether restored images still show what they showed: section 4.3, by networks that detect and segment objects."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seesr_pl.evaluation import tables
from seesr_pl.evaluation.agreement import (
    EXTRA,
    MAX_DETECTIONS,
    AveragePrecision,
    has_coco,
    mean_iou,
    overlaps,
    panoptic_quality,
    segment_counts,
)
from seesr_pl.evaluation.coco import VOID, Annotations, Categories, CocoBenchmark
from seesr_pl.evaluation.pairing import listed
from seesr_pl.evaluation.recognition import Detection, Networks, Segments
from seesr_pl.evaluation.restoring import Track, silently
from seesr_pl.evaluation.results import csv_text
from seesr_pl.evaluation.statistics import Interval, draw_counts, finite_or_none, standard_interval
from seesr_pl.files import fingerprint, read_lines, write_whole
from seesr_pl.imaging.io import read_rgb
from seesr_pl.limits import read_file
from seesr_pl.types import RGB

HQ = "HQ"
NUM_RESAMPLES = 200
"""Enough for a standard error; each resample ranks all detections of the set again."""
_STORE = "seen.jsonl"


class Measured(NamedTuple):
    """A method's values by metric, in percent: over the set first, then over each of the same resamples of images."""

    name: str
    values: dict[str, np.ndarray]

    def interval(self, metric: str, reference: "Measured | None" = None) -> Interval:
        """Return the value, or its difference to that of `reference`, with the interval of the resampled ones."""
        values = self.values[metric] - (reference.values[metric] if reference else 0)
        return standard_interval(float(values[0]), values[1:])


def judge_semantics(
    benchmark: CocoBenchmark,
    methods: Mapping[str, Path],
    folder: Path,
    networks: Networks,
    *,
    others: Sequence[Path] = (),
    track: Track[Any] = silently,
) -> tables.Shown:
    """Compare what `networks` see in the results of `methods`, and in the HQ images, with the annotations of the set.

    Writes `semantics.csv`, `semantics.json`, `semantics.md` and `semantics.tex` into `folder`, and `seen.jsonl`: what
    was seen in which pixels, so that nothing is looked at twice.

    Args:
        benchmark: the images and annotations.
        methods: the folder of each method's results, `<image>.png`; the first is the one that is judged.
        folder: of this evaluation.
        networks: at least one.
        others: folders of finished evaluations whose `seen.jsonl` is used too.
        track: shows progress.

    Images that a method has no result of count for none. Raises ValueError where no image is left, and where the
    annotations do not fit the images or the networks.
    """
    annotations, pairs = Annotations.read(benchmark), benchmark.pairs()
    names = [p.name for p in pairs if all((results / f"{p.name}.png").is_file() for results in methods.values())]
    if not names:
        raise ValueError(f"no image of {benchmark.name} was restored by all of {', '.join(methods)}")
    images = {HQ: {pair.name: pair.hq for pair in pairs if pair.hq}}
    images |= {method: {name: results / f"{name}.png" for name in names} for method, results in methods.items()}
    look = _Look(annotations, networks, folder / _STORE, [other / _STORE for other in others])
    counts = np.concatenate([np.ones((1, len(names)), int), draw_counts(names, num_resamples=NUM_RESAMPLES)])
    measured = []
    for method, paths in images.items():
        seen = [look(name, paths[name]) for name in track(names, f"see {method}")]
        measured.append(Measured(method, dict(look.measures(seen, names, counts))))
    title = f"{benchmark.name}, {len(names)} of {len(pairs)} images: AP, PQ and mIoU in percent"
    shown = _written(measured, folder, title=title)
    return shown._replace(skipped=look.skipped, sentences=[*shown.sentences, *look.gaps()])


class _Look:
    """Looks at images and keeps what was seen, by the pixels, the networks' weights and the annotations."""

    def __init__(self, annotations: Annotations, networks: Networks, store: Path, others: Sequence[Path]) -> None:
        self.annotations, self.store = annotations, store
        self.detector, self.segmenter = networks
        self.skipped = {} if has_coco() else {"ap, ap50, mask_ap, mask_ap50": EXTRA}
        self.boxes, self.masks, self.areas = self._categories(annotations.boxes, annotations.areas)
        if not (self.boxes or self.masks or self.areas):
            raise ValueError("; ".join(["no metric can be computed", *self.skipped.values()]))
        versions = [each.version for each in networks if each]
        self.version = fingerprint(annotations.version, versions, MAX_DETECTIONS, has_coco(), 1)
        self.known: dict[str, dict[str, Any]] = {}
        for path in (*others, store):
            self.known |= {line["key"]: line["value"] for line in read_lines(path, repair=path == store)}
        self.store.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, name: str, path: Path) -> dict[str, Any]:
        """Return what is seen in the image `path` of `name`: JSON values."""
        key = f"{self.version}/{fingerprint(read_file(path))}"
        if key not in self.known:
            self.known[key] = self._seen(name, read_rgb(path))
            with self.store.open("a") as lines:
                lines.write(json.dumps({"image": name, "key": key, "value": self.known[key]}) + "\n")
        return self.known[key]

    def measures(
        self, seen: Sequence[dict[str, Any]], names: Sequence[str], counts: np.ndarray
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each metric with its value for each row of `counts`, (resamples, images)."""
        kinds = {"boxes": ("bbox", "", self.boxes), "masks": ("segm", "mask_", self.masks)}
        for field, (kind, prefix, of_label) in kinds.items():
            if of_label:
                known = sorted(set(of_label.values()))
                found = [each for image in seen for each in image[field]]
                judge = AveragePrecision(self.annotations, found, names, kind=kind, known=known)
                values = np.array([judge.of(each) for each in counts])
                yield from ((f"{prefix}ap", values[:, 0]), (f"{prefix}ap50", values[:, 1]))
        if self.areas:
            for name, function in (("pq", panoptic_quality), ("miou", mean_iou)):
                tables_of_images = np.array([image[name] for image in seen])
                yield name, function(np.tensordot(counts, tables_of_images, axes=1))

    def gaps(self) -> list[str]:
        """Say which categories a network has no class for."""
        known = {"AP": (self.boxes, self.annotations.boxes), "mask AP": (self.masks, self.annotations.boxes)}
        known |= {"PQ and mIoU": (self.areas, self.annotations.areas)}
        lacking = {
            metric: [name for name, category in wanted.ids.items() if category not in found.values()]
            for metric, (found, wanted) in known.items()
            if found
        }
        counted = {"PQ and mIoU": "count as missed"}
        return [
            f"{metric}: the network has no class for {listed(names)}, which {counted.get(metric, 'do not count')}."
            for metric, names in lacking.items()
            if names
        ]

    def _categories(self, boxes: Categories, areas: Categories) -> tuple[dict[int, int], ...]:
        """Return the categories of labels for boxes, masks and segments; {} where a kind is not measured."""
        detects = self.detector if has_coco() else None
        masks = self.segmenter if has_coco() else None
        parts = self.segmenter if areas.ids else None
        kinds = ((detects, boxes, "detector"), (masks, boxes, "segmenter"), (parts, areas, "segmenter"))
        return tuple(known.of_labels(each.labels, name) if each else {} for each, known, name in kinds)

    def _seen(self, name: str, image: RGB) -> dict[str, Any]:
        image_id, (width, height) = self.annotations.ids[name], self.annotations.sizes[name]
        seen: dict[str, Any] = {}
        if self.detector and self.boxes:
            found = self.detector(image, (height, width), count=MAX_DETECTIONS)
            seen["boxes"] = [_result(image_id, *each) for each in _of_categories(found, self.boxes)]
        if self.segmenter:
            stuff = [label for label, category in self.areas.items() if category not in self.annotations.areas.things]
            segments = self.segmenter(image, (height, width), stuff=stuff, count=MAX_DETECTIONS)
            seen["masks"] = [_result(image_id, *each) for each in _of_categories(segments.objects, self.masks)]
            if self.areas:
                seen |= self._compared(image_id, segments)
        return seen

    def _compared(self, image_id: int, segments: Segments) -> dict[str, Any]:
        truth, true_segments = self.annotations.category_map(image_id)
        areas: Categories = self.annotations.areas
        category_of = {part: self.areas.get(label, VOID) for part, label in segments.label_of.items()}
        seen = _looked_up(segments.ids, category_of)
        without_crowds = np.where(np.isin(true_segments, self.annotations.crowds(image_id)), VOID, truth)
        return {
            "pq": segment_counts(seen, segments.ids + 1, without_crowds, true_segments, areas).tolist(),
            "miou": overlaps(_looked_up(segments.labels, self.areas), truth, areas).tolist(),
        }


def _of_categories(found: Iterable[Detection], categories: Mapping[int, int]) -> list[tuple[int, Detection]]:
    return [(categories[each.label], each) for each in found if each.label in categories]


def _result(image_id: int, category: int, found: Detection) -> dict[str, Any]:
    """A detection in COCO's result format; a mask is run-length encoded."""
    facts: dict[str, Any] = {"image_id": image_id, "category_id": category, "score": found.score}
    if found.mask is None:
        return {**facts, "bbox": list(found.box or ())}
    return {**facts, "segmentation": _encoded(found.mask)}


def _encoded(mask: np.ndarray) -> dict[str, Any]:
    from faster_coco_eval import mask as codec

    code = codec.encode(np.asfortranarray(mask.astype(np.uint8)))
    counts = code["counts"]
    return {"size": list(code["size"]), "counts": counts.decode() if isinstance(counts, bytes) else counts}


def _looked_up(keys: np.ndarray, values: Mapping[int, int]) -> np.ndarray:
    found = np.full(keys.shape, VOID)
    for key, value in values.items():
        found[keys == key] = value
    return found


def _written(measured: Sequence[Measured], folder: Path, *, title: str) -> tables.Shown:
    hq, judged = measured[:2]
    metrics = [tables.Column(name, True) for name in hq.values]
    rows = [(row.name, {metric.name: row.interval(metric.name) for metric in metrics}) for row in measured]
    table = tables.interval_table(rows[1:], metrics)
    # What is seen in the HQ images is the upper bound, and has no rank among the methods.
    table = table._replace(rows=tables.interval_table(rows[:1], metrics).rows + table.rows)
    facts = [
        {
            "method": row.name,
            "metric": metric.name,
            **_numbers("", row.interval(metric.name)),
            **_numbers("minus_hq", row.interval(metric.name, hq)),
            **_numbers(f"minus_{judged.name}", row.interval(metric.name, judged)),
        }
        for row in measured
        for metric in metrics
    ]
    write_whole(folder / "semantics.csv", csv_text(facts))
    write_whole(folder / "semantics.json", json.dumps({"title": title, "rows": facts}, indent=2) + "\n")
    write_whole(folder / "semantics.md", tables.markdown(table))
    write_whole(folder / "semantics.tex", tables.latex(table))
    sentences = [
        _sentence(metric.name, judged, other, other is hq) for other in (hq, *measured[2:]) for metric in metrics
    ]
    files = [folder / f"semantics.{ending}" for ending in ("md", "csv", "json", "tex")]
    return tables.Shown(tables.terminal(table, title=title), {}, files, sentences)


def _numbers(name: str, interval: Interval) -> dict[str, float | None]:
    mean, low, high = map(finite_or_none, interval[:3])
    return {name or "value": mean, f"{name}_low".strip("_"): low, f"{name}_high".strip("_"): high}


def _sentence(metric: str, judged: Measured, other: Measured, is_bound: bool) -> str:
    """Say in words how `judged` differs from `other`, which may be the upper bound."""
    difference, low, high, _ = judged.interval(metric, other)
    if isnan(low):
        return f"{metric}: {judged.name} minus {other.name} is {difference:.4g}; the resamples give no interval."
    if not (low > 0 or high < 0):
        return f"{metric}: no difference between {judged.name} and {other.name} is shown; the interval holds 0."
    direction = "higher" if low > 0 else "lower"
    near, far = sorted((abs(low), abs(high)))
    amount = f"{abs(difference):.4g}" + (f" of {other.values[metric][0]:.4g}" if is_bound else "")
    return f"{metric}: {judged.name} is {direction} than {other.name} by {amount} ({near:.4g} to {far:.4g})."
