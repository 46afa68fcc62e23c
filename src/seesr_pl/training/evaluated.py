"""An evaluation in Weights & Biases: its means, a table with images, and its report as an artifact."""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb

from seesr_pl.evaluation import Pair
from seesr_pl.training.wandb_logger import WandB

NUM_IMAGES = 32
"""Rows of the table; all images are in the evaluation's folder."""
_FILES = ("report.html", "summary.json", "scores.csv", "table.md", "semantics.csv", "semantics.md", "tags.csv")


def log_evaluation(logger: WandB, folder: Path, pairs: Sequence[Pair], *, num_images: int = NUM_IMAGES) -> None:
    """Log what an evaluation of `pairs` left in `folder`, and end the W&B run.

    Scalars are `<metric>`, with `<metric>/low` and `<metric>/high` where it has an interval, and of section 4.3
    `<method>/<metric>`; the table holds up to `num_images` images; the artifact is the report beside the numbers.
    Raises FileNotFoundError for a folder without `summary.json`.
    """
    summary = json.loads((folder / "summary.json").read_text())
    run = logger.experiment
    told = {"evaluation": summary.get("settings", {}), "checkpoint": summary.get("checkpoint")}
    run.config.update(told, allow_val_change=True)  # a run that goes on has those of the evaluation before
    run.summary.update(dict(_scalars(summary, folder / "semantics.json")))
    table = _table(folder, pairs[:num_images])
    if table is not None:
        run.log({"images": table})
    artifact = wandb.Artifact(re.sub(r"[^\w.-]+", "_", f"evaluation-{folder.name}"), type="evaluation")
    for name in _FILES:
        if (folder / name).is_file():
            artifact.add_file(str(folder / name))
    run.log_artifact(artifact)
    logger.finalize("success")


def _scalars(summary: Mapping[str, Any], semantics: Path) -> Iterator[tuple[str, float]]:
    for name, told in summary.get("metrics", {}).items():
        low, high = told.get("ci95", (None, None))
        values = {name: told["mean"], f"{name}/low": low, f"{name}/high": high}
        yield from ((key, value) for key, value in values.items() if value is not None)
    if semantics.is_file():
        for row in json.loads(semantics.read_text())["rows"]:
            if row["value"] is not None:
                yield f"{row['method']}/{row['metric']}", row["value"]


def _table(folder: Path, pairs: Sequence[Pair]) -> wandb.Table | None:
    """Return the images with their scores, in the order of `pairs`; None where nothing was scored."""
    scores = folder / "scores.csv"
    if not scores.is_file():
        return None
    with scores.open(newline="") as file:
        rows = {row.pop("image"): row for row in csv.DictReader(file)}
    names = list(next(iter(rows.values()), {}))
    table = wandb.Table(columns=["image", "LQ", "restored", "HQ", *names])
    for pair in pairs:
        restored = folder / "restored" / f"{pair.name}.png"
        if restored.is_file() and pair.name in rows:
            images = [None if path is None else wandb.Image(str(path)) for path in (pair.lq, restored, pair.hq)]
            values = [float(text) if text else None for text in rows[pair.name].values()]
            table.add_data(pair.name, *images, *values)
    return table
