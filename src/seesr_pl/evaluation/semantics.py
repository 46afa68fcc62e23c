"""Does DAPE see on the LQ picture what RAM sees on the HQ one? Compared with plain RAM on the same LQ picture."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from seesr_pl.evaluation.statistics import paired_interval
from seesr_pl.imaging.io import write_bytes
from seesr_pl.models.ram import RAM, RAMOutput
from seesr_pl.models.ram_inputs import RAMInputs
from seesr_pl.types import Batch

PICTURE_METRICS = ("representation_error", "cross_entropy", "logit_error", "precision", "recall", "f1")


class TagExample(NamedTuple):
    """A picture pair, uint8 RGB arrays, with what the teacher sees on the HQ and both networks on the LQ."""

    key: str
    severity: float
    lq: np.ndarray
    hq: np.ndarray
    teacher: list[str]
    ram: list[str]
    dape: list[str]


class TagRow(NamedTuple):
    """One metric over the pictures of a range of severity: plain RAM, DAPE, and DAPE minus RAM with its 95 % interval.

    `n` counts the pictures for which the metric is defined for both. mAP has no interval: it is no mean over pictures.
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


class TagResult(NamedTuple):
    """`rows`: every metric over all pictures first, then by severity, mildest first; `examples` to look at."""

    rows: list[TagRow]
    examples: list[TagExample]

    def scalars(self) -> dict[str, float]:
        """The metrics over all pictures, as `dape/f1` and `ram/f1`."""
        overall = self.rows[: len(PICTURE_METRICS) + 1]
        return {f"{name}/{row.metric}": getattr(row, name) for row in overall for name in ("dape", "ram")}


class Seen(NamedTuple):
    """What was collected: the scores of each picture, and the first examples."""

    pictures: list[dict[str, Any]]
    examples: list[TagExample]


class TagComparison:
    """Collects what three views of each picture pair say, batch by batch; `result()` compares them.

    The `severity_bins` ranges hold equally many pictures each. `seen` is what one process saw, to be joined by `merge`.
    """

    def __init__(
        self, ram: RAM, *, inputs: RAMInputs | None = None, severity_bins: int = 3, num_examples: int = 8
    ) -> None:
        self.ram = ram
        self.inputs = inputs or RAMInputs(size=ram.config.image_size)
        self.severity_bins, self.num_examples = severity_bins, num_examples
        self.seen = Seen([], [])

    @torch.no_grad()
    def add(self, batch: Batch) -> None:
        """Look at the pictures of `batch`, which lie on the device of the network; leaves the network in eval mode."""
        self.ram.eval()
        lq = self.inputs.lq(batch["lq"], (batch["hq"].shape[1], batch["hq"].shape[2]))
        with self.ram.disable_adapter():
            teacher, plain = self.ram(self.inputs.hq(batch["hq"])), self.ram(lq)
        views = {"teacher": teacher, "ram": plain, "dape": self.ram(lq)}
        self._keep_examples(batch, views)
        self._keep_scores(batch, views)

    def merge(self, seen: Iterable[Seen]) -> None:
        """Replace what this process saw by what all processes saw, each picture once."""
        parts = list(seen)
        pictures = {(picture["key"], picture["id"]): picture for part in parts for picture in part.pictures}
        examples = {example.key: example for part in parts for example in part.examples}
        self.seen = Seen(list(pictures.values()), list(examples.values())[: self.num_examples])

    def result(self) -> TagResult:
        """The table and the examples. Raises ValueError if no picture was added."""
        if not self.seen.pictures:
            raise ValueError("no picture was compared: the validation data is empty")
        ordered = sorted(self.seen.pictures, key=lambda picture: (picture["severity"], picture["key"]))
        groups = np.array_split(np.arange(len(ordered)), min(self.severity_bins, len(ordered)))
        ranges = [ordered] + ([[ordered[index] for index in group] for group in groups] if len(groups) > 1 else [])
        return TagResult([row for pictures in ranges for row in _rows(pictures)], self.seen.examples)

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
            picture: dict[str, Any] = {"key": key, "id": int(batch["sample_id"][i]), "wanted": wanted[i].cpu()}
            picture["severity"] = float(batch["severity"][i])
            for view, values in scores.items():
                picture[view] = {name: value[i] for name, value in values.items()}
            self.seen.pictures.append(picture)

    def _scores(self, student: RAMOutput, teacher: RAMOutput, wanted: Tensor) -> dict[str, Tensor]:
        errors = (student.representation.float() - teacher.representation.float()).square().mean(dim=(1, 2))
        ours, theirs = student.logits.float(), teacher.logits.float()
        entropies = binary_cross_entropy_with_logits(ours, theirs.sigmoid(), reduction="none").mean(dim=1)
        logit_errors = (ours - theirs).abs().mean(dim=1)
        scores = {"representation_error": errors, "cross_entropy": entropies, "logit_error": logit_errors}
        scores |= precision_recall_f1(self.ram.tag_mask(student.logits), wanted)
        # Half precision: at full size and 1000 pictures, two times 9 MB instead of 18.
        return {name: value.cpu() for name, value in scores.items()} | {"logits": student.logits.half().cpu()}


def compare_tags(
    ram: RAM,
    batches: Iterable[Batch],
    *,
    inputs: RAMInputs | None = None,
    severity_bins: int = 3,
    num_examples: int = 8,
) -> TagResult:
    """Compare DAPE and plain RAM on the LQ pictures of `batches` with RAM on their HQ pictures.

    Raises ValueError if `ram` has no LoRA or `batches` no picture.
    """
    if ram.lora_rank is None:
        raise ValueError("this RAM has no LoRA: there is no DAPE to compare with it")
    comparison = TagComparison(ram, inputs=inputs, severity_bins=severity_bins, num_examples=num_examples)
    for batch in batches:
        on_device = {"hq": batch["hq"].to(ram.device), "lq": batch["lq"].to(ram.device)}
        comparison.add({**batch, **on_device})  # type: ignore[typeddict-item]
    return comparison.result()


def precision_recall_f1(predicted: Bool[Tensor, "b k"], wanted: Bool[Tensor, "b k"]) -> dict[str, Float[Tensor, " b"]]:
    """Per picture, of the tags that are on; not a number where a picture gives no denominator."""
    both = (predicted & wanted).sum(1).float()
    num_predicted, num_wanted = predicted.sum(1), wanted.sum(1)
    return {
        "precision": both / num_predicted,
        "recall": both / num_wanted,
        "f1": 2 * both / (num_predicted + num_wanted),
    }


def mean_average_precision(logits: Float[Tensor, "b k"], wanted: Bool[Tensor, "b k"]) -> float:
    """Average precision of each tag's ranking of the pictures, averaged over the tags that some picture has.

    Not a number if no picture has any. Pictures of equal logit keep their order.
    """
    present = wanted.any(0)
    if not present.any():
        return float("nan")
    order = logits[:, present].float().argsort(dim=0, descending=True, stable=True)
    hits = wanted[:, present].gather(0, order).double()
    ranks = torch.arange(1, len(hits) + 1, dtype=torch.double)[:, None]
    precision_at_hits = hits.cumsum(0) / ranks * hits
    return float((precision_at_hits.sum(0) / hits.sum(0)).mean())


def write_table(result: TagResult, path: str | Path) -> None:
    """Write the rows of `result` as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(TagRow._fields)
    writer.writerows(result.rows)
    write_bytes(path, text.getvalue().encode())


def _rows(pictures: Sequence[dict[str, Any]]) -> list[TagRow]:
    severities = pictures[0]["severity"], pictures[-1]["severity"]
    return [*(_paired(pictures, metric, severities) for metric in PICTURE_METRICS), _map_row(pictures, severities)]


def _paired(pictures: Sequence[dict[str, Any]], metric: str, severities: tuple[float, float]) -> TagRow:
    pairs = [(float(picture["ram"][metric]), float(picture["dape"][metric])) for picture in pictures]
    defined = [pair for pair in pairs if np.isfinite(pair).all()]
    if not defined:
        return TagRow(metric, *severities, 0, *[float("nan")] * 5)
    ram, dape = zip(*defined, strict=True)
    difference = paired_interval(dape, ram)
    means = float(np.mean(ram)), float(np.mean(dape))
    return TagRow(metric, *severities, len(defined), *means, difference.mean, difference.low, difference.high)


def _map_row(pictures: Sequence[dict[str, Any]], severities: tuple[float, float]) -> TagRow:
    wanted = torch.stack([picture["wanted"] for picture in pictures])
    ram, dape = (
        mean_average_precision(torch.stack([picture[view]["logits"] for picture in pictures]), wanted)
        for view in ("ram", "dape")
    )
    return TagRow("map", *severities, len(pictures), ram, dape, dape - ram, float("nan"), float("nan"))
