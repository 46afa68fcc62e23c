"""Whether DAPE sees on the LQ image what RAM sees on the HQ one, beside plain RAM on the same LQ image."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torchmetrics.functional.classification import multilabel_average_precision

from seesr_pl.evaluation.benchmark import group_of
from seesr_pl.evaluation.statistics import paired_interval, precision_difference
from seesr_pl.imaging.tensors import resize_bicubic, to_float
from seesr_pl.models.ram import BILINEAR, RAM, RAMOutput, Resize
from seesr_pl.types import Batch

IMAGE_METRICS = ("representation_error", "cross_entropy", "logit_error", "precision", "recall", "f1")


class TagExample(NamedTuple):
    """An image pair, uint8 RGB arrays, with what the teacher sees on the HQ and both networks on the LQ."""

    key: str
    severity: float
    lq: np.ndarray
    hq: np.ndarray
    teacher: list[str]
    ram: list[str]
    dape: list[str]


class TagRow(NamedTuple):
    """One metric over the images of a range of severity: plain RAM, DAPE, and DAPE minus RAM with its 95 % interval.

    With a `kind`, over the images that this kind of degradation hurt most. `n` counts the images for which the metric
    is defined for both. Images of one photograph are resampled together.
    """

    metric: str
    severity_from: float
    severity_to: float
    n: int
    ram: float
    dape: float
    difference: float
    low: float
    high: float
    kind: str = ""

    @property
    def part(self) -> str:
        """The images in words."""
        kind = f"mostly {self.kind}, " if self.kind else ""
        return f"{kind}severity {self.severity_from:.2f} to {self.severity_to:.2f}"


class TagResult(NamedTuple):
    """`rows`: every metric over all images, then by severity, mildest first, then by kind; `examples` to look at."""

    rows: list[TagRow]
    examples: list[TagExample]

    @property
    def overall(self) -> list[TagRow]:
        """The rows over all images."""
        return self.rows[: len(IMAGE_METRICS) + 1]

    def scalars(self) -> dict[str, float]:
        """Return the metrics over all images, as `dape/f1` and `ram/f1`."""
        return {f"{name}/{row.metric}": getattr(row, name) for row in self.overall for name in ("dape", "ram")}


class Seen(NamedTuple):
    """What was collected: the scores of each image, and the first examples."""

    images: list[dict[str, Any]]
    examples: list[TagExample]


class TagComparison:
    """Collect, batch by batch, what RAM sees on HQ images, and RAM and DAPE on LQ ones; `result()` compares them.

    Args:
        ram: with a LoRA, which makes it DAPE.
        resize: to RAM's square.
        lq_upscale: "bicubic" enlarges the LQ to the HQ's size first, as the official distillation's pairs are stored
            (make_paired_data_DAPE.py); "none" does not.
        severity_bins: ranges of severity, equally filled; images of one severity are not split.
        num_examples: images kept to look at.
        group: a regular expression whose first group, in an image's key, names its photograph.

    `seen` is what one process saw; `merge` joins the processes.
    """

    def __init__(
        self,
        ram: RAM,
        *,
        resize: Resize = BILINEAR,
        lq_upscale: Literal["bicubic", "none"] = "bicubic",
        severity_bins: int = 3,
        num_examples: int = 8,
        group: str = "(.*)",
    ) -> None:
        self.ram = ram
        self.resize, self.lq_upscale = resize, lq_upscale
        self.severity_bins, self.num_examples, self.group = severity_bins, num_examples, re.compile(group)
        self.seen = Seen([], [])

    @torch.no_grad()
    def add(self, batch: Batch) -> None:
        """Look at the images of `batch`, which lie on the device of the network; leaves the network in eval mode."""
        self.ram.eval()
        hq, lq = to_float(batch["hq"]), to_float(batch["lq"])
        if self.lq_upscale == "bicubic":
            lq = resize_bicubic(lq, (hq.shape[-2], hq.shape[-1]))
        views = {
            "teacher": self.ram.see(hq, adapter=False, resize=self.resize),
            "ram": self.ram.see(lq, adapter=False, resize=self.resize),
            "dape": self.ram.see(lq, resize=self.resize),
        }
        self._keep_examples(batch, views)
        self._keep_scores(batch, views)

    def merge(self, seen: Iterable[Seen]) -> None:
        """Replace what this process saw by what all processes saw, each image once."""
        parts = list(seen)
        images = {(image["key"], image["id"]): image for part in parts for image in part.images}
        examples = {example.key: example for part in parts for example in part.examples}
        self.seen = Seen(list(images.values()), list(examples.values())[: self.num_examples])

    def result(self) -> TagResult:
        """Return the table and the examples. Raises ValueError if no image was added."""
        if not self.seen.images:
            raise ValueError("no image was compared: the validation data is empty")
        ordered = sorted(self.seen.images, key=lambda image: (image["severity"], image["key"]))
        num_severities = len({image["severity"] for image in ordered})
        bins = np.array_split(np.arange(len(ordered)), min(self.severity_bins, num_severities))
        ranges = [ordered] + ([[ordered[index] for index in indices] for indices in bins] if len(bins) > 1 else [])
        rows = [row for images in ranges for row in _rows(images, self._photographs(images))]
        kinds = Counter(image["kind"] for image in ordered if image["kind"]).most_common()
        for kind, _ in kinds if len(kinds) > 1 else ():
            images = [image for image in ordered if image["kind"] == kind]
            rows += [row._replace(kind=kind) for row in _rows(images, self._photographs(images))]
        return TagResult(rows, self.seen.examples)

    def _photographs(self, images: Sequence[dict[str, Any]]) -> list[str]:
        return [group_of(image["key"], self.group) for image in images]

    def _keep_examples(self, batch: Batch, views: dict[str, RAMOutput]) -> None:
        room = max(self.num_examples - len(self.seen.examples), 0)
        names = {view: self.ram.tags(output.logits[:room]) for view, output in views.items()}
        for i, key in enumerate(batch["key"][:room]):
            pixels = (batch["lq"][i].cpu().numpy(), batch["hq"][i].cpu().numpy())
            severity = float(batch["severity"][i])
            self.seen.examples.append(TagExample(key, severity, *pixels, *(names[view][i] for view in views)))

    def _keep_scores(self, batch: Batch, views: dict[str, RAMOutput]) -> None:
        wanted = self.ram.tag_mask(views["teacher"].logits)
        scores = {view: self._scores(views[view], views["teacher"], wanted) for view in ("ram", "dape")}
        for i, key in enumerate(batch["key"]):
            image: dict[str, Any] = {"key": key, "id": int(batch["sample_id"][i]), "wanted": wanted[i].cpu()}
            image |= {"severity": float(batch["severity"][i]), "kind": batch["kind"][i] if "kind" in batch else ""}
            for view, values in scores.items():
                image[view] = {name: value[i] for name, value in values.items()}
            self.seen.images.append(image)

    def _scores(self, student: RAMOutput, teacher: RAMOutput, wanted: Tensor) -> dict[str, Tensor]:
        errors = (student.representation.float() - teacher.representation.float()).square().mean(dim=(1, 2))
        ours, theirs = student.logits.float(), teacher.logits.float()
        entropies = binary_cross_entropy_with_logits(ours, theirs.sigmoid(), reduction="none").mean(dim=1)
        logit_errors = (ours - theirs).abs().mean(dim=1)
        scores = {"representation_error": errors, "cross_entropy": entropies, "logit_error": logit_errors}
        scores |= precision_recall_f1(self.ram.tag_mask(student.logits), wanted)
        # Half precision: at full size and 1000 images, two times 9 MB instead of 18.
        return {name: value.cpu() for name, value in scores.items()} | {"logits": student.logits.half().cpu()}


def compare_tags(
    ram: RAM,
    batches: Iterable[Batch],
    *,
    resize: Resize = BILINEAR,
    lq_upscale: Literal["bicubic", "none"] = "bicubic",
    severity_bins: int = 3,
    num_examples: int = 8,
    group: str = "(.*)",
) -> TagResult:
    """Compare DAPE and plain RAM on the LQ images of `batches` with RAM on their HQ images, as `TagComparison`.

    Raises ValueError if `ram` has no LoRA or `batches` no image.
    """
    if ram.lora_rank is None:
        raise ValueError("this RAM has no LoRA: there is no DAPE to compare with it")
    comparison = TagComparison(
        ram,
        resize=resize,
        lq_upscale=lq_upscale,
        severity_bins=severity_bins,
        num_examples=num_examples,
        group=group,
    )
    for batch in batches:
        on_device = {"hq": batch["hq"].to(ram.device), "lq": batch["lq"].to(ram.device)}
        comparison.add({**batch, **on_device})  # type: ignore[typeddict-item]
    return comparison.result()


def precision_recall_f1(predicted: Bool[Tensor, "b k"], wanted: Bool[Tensor, "b k"]) -> dict[str, Float[Tensor, " b"]]:
    """Compute the three for each image, over the tags that are on; not a number where the denominator is 0."""
    both = (predicted & wanted).sum(1).float()
    num_predicted, num_wanted = predicted.sum(1), wanted.sum(1)
    return {
        "precision": both / num_predicted,
        "recall": both / num_wanted,
        "f1": 2 * both / (num_predicted + num_wanted),
    }


def mean_average_precision(logits: Float[Tensor, "b k"], wanted: Bool[Tensor, "b k"]) -> float:
    """Average, over the tags that some image has, the average precision of a tag's ranking of the images.

    Not a number if no image has any. Equal logits are one threshold.
    """
    present = wanted.any(0)
    if not present.any():
        return float("nan")
    # In double precision, so that the sigmoid that torchmetrics takes keeps different logits apart.
    scores, targets = logits[:, present].double(), wanted[:, present].long()
    # Arguments are not validated, because that would refuse a single tag.
    return float(multilabel_average_precision(scores, targets, num_labels=targets.shape[1], validate_args=False))


def _rows(images: Sequence[dict[str, Any]], photographs: Sequence[str]) -> list[TagRow]:
    severities = images[0]["severity"], images[-1]["severity"]
    rows = [_paired(images, photographs, metric, severities) for metric in IMAGE_METRICS]
    return [*rows, _map_row(images, photographs, severities)]


def _paired(
    images: Sequence[dict[str, Any]], photographs: Sequence[str], metric: str, severities: tuple[float, float]
) -> TagRow:
    pairs = np.array([[float(image[view][metric]) for view in ("ram", "dape")] for image in images])
    defined = np.flatnonzero(np.isfinite(pairs).all(axis=1)).tolist()
    if not defined:
        nan = float("nan")
        return TagRow(metric, *severities, 0, nan, nan, nan, nan, nan)
    ram, dape = pairs[defined].T.tolist()
    difference = paired_interval(dape, ram, [photographs[index] for index in defined])
    means = float(np.mean(ram)), float(np.mean(dape))
    return TagRow(metric, *severities, len(defined), *means, difference.mean, difference.low, difference.high)


def _map_row(images: Sequence[dict[str, Any]], photographs: Sequence[str], severities: tuple[float, float]) -> TagRow:
    wanted = torch.stack([image["wanted"] for image in images])
    ram, dape = (torch.stack([image[view]["logits"] for image in images]) for view in ("ram", "dape"))
    means = mean_average_precision(ram, wanted), mean_average_precision(dape, wanted)
    difference = precision_difference(dape, ram, wanted, photographs)
    return TagRow("map", *severities, len(images), *means, difference.mean, difference.low, difference.high)
