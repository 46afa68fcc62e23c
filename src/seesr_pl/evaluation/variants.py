"""The same images restored once more, under other seeds or with another tag: what differs was not in the photograph."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32

from seesr_pl.evaluation.benchmark import Pair
from seesr_pl.evaluation.methods import Method
from seesr_pl.evaluation.metrics import ImageMetric, Metrics
from seesr_pl.evaluation.restoring import Restored, kept
from seesr_pl.evaluation.results import Result
from seesr_pl.files import Record
from seesr_pl.imaging.io import read_rgb
from seesr_pl.types import RGB

Heat = Float32[np.ndarray, "h w"]
"""How much each pixel differs, in 8-bit levels."""
SPREAD, CHANGE = "seed spread", "tag difference"
OTHER_TAG = "other tag"
_BRIGHTEST = 4
"""Times the largest mean of a set: what the brightest color of its heat maps stands for."""


class Variant(NamedTuple):
    """The method under another seed or with another tag: a name for its folder, what makes it, and its settings."""

    kind: Literal["seed", "tag"]
    name: str
    build: Callable[[str], Method]
    settings: Mapping[str, Any]


class CloseUp(NamedTuple):
    """A part of the report: the images with the largest `metric` in the `views` named, of which `images` makes some.

    `caption` tells of an image what else is to be said.
    """

    title: str
    text: str
    metric: ImageMetric
    views: Sequence[str]
    images: Callable[[Pair], Mapping[str, RGB]]
    caption: Callable[[Pair], str] = lambda pair: ""


class Varied(NamedTuple):
    """A variant's images in `folder`, and why some images have none."""

    kind: Literal["seed", "tag"]
    folder: Path
    failed: Mapping[str, str]

    def path(self, pair: Pair) -> Path:
        """Return the file of an image. Raises ValueError that says why there is none."""
        if pair.name in self.failed:
            raise ValueError(self.failed[pair.name])
        return self.folder / f"{pair.name}.png"


def restore_variants(
    variants: Sequence[Variant],
    pairs: Sequence[Pair],
    folder: Path,
    restore: Callable[..., list[Restored]],
    *,
    may_build: bool,
) -> list[Varied]:
    """Restore `pairs` by each variant into `folder`/variants/<name> with `restore`; else find what is there already.

    The errors raised are those of `restore`.
    """
    found = []
    for variant in variants:
        place = folder / "variants" / variant.name
        if may_build:
            restored = restore(variant.build, pairs, place, settings=variant.settings)
            failed = {item.pair.name: item.failure for item in restored if item.failure}
        else:
            absent = [pair.name for pair in pairs if kept(pair, place, variant.settings) is None]
            failed = dict.fromkeys(absent, "not restored yet, and stages leaves out restore")
        found.append(Varied(variant.kind, place, failed))
    return found


def spread_map(images: Sequence[RGB]) -> Heat:
    """Compute the standard deviation of each pixel over at least two `images`, the quadratic mean of its channels."""
    variances = np.stack(images).astype(np.float32).var(axis=0, ddof=1)  # of the seeds that were not drawn too
    return np.sqrt(variances.mean(axis=-1, dtype=np.float32))


def change_map(first: RGB, second: RGB) -> Heat:
    """Compute the difference of two images at each pixel, the quadratic mean of its channels."""
    return np.sqrt(((first.astype(np.float32) - second) ** 2).mean(axis=-1, dtype=np.float32))


def seed_spread(sr: RGB, hq: RGB | None, *others: Path) -> float:
    """Compute the mean of the `spread_map` of `sr` and the images of other seeds, in 8-bit levels."""
    return float(spread_map([sr, *map(read_rgb, others)]).mean())


def tag_effect(sr: RGB, hq: RGB | None, other: Path) -> float:
    """Compute the mean of the `change_map` of `sr` and the image made with another tag, in 8-bit levels."""
    return float(change_map(sr, read_rgb(other)).mean())


SEED_SPREAD = ImageMetric("seed_spread", seed_spread, False, False, "1")
TAG_EFFECT = ImageMetric("tag_effect", tag_effect, False, False, "1")


def variant_metrics(varied: Sequence[Varied]) -> list[ImageMetric]:
    """Return the metrics of the kinds that are there."""
    found = []
    for metric, kind in ((SEED_SPREAD, "seed"), (TAG_EFFECT, "tag")):
        if others := [one for one in varied if one.kind == kind]:
            found.append(metric._replace(further=_files(others)))
    return found


def with_variants(build: Callable[..., Metrics], varied: Sequence[Varied], *, device: str) -> Metrics:
    """Return the metrics of `build` on a device, and those of the variants."""
    metrics = build(device=device)
    return metrics._replace(available=[*metrics.available, *variant_metrics(varied)])


def _files(others: Sequence[Varied]) -> Callable[[Pair], list[Path]]:
    return lambda pair: [one.path(pair) for one in others]


def heat_image(heat: Heat, brightest: float) -> RGB:
    """Color `heat`: black is 0, yellow `brightest` and above."""
    levels = np.clip(heat * (255 / brightest), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1])


def close_ups(varied: Sequence[Varied], result: Result) -> list[CloseUp]:
    """Return what the report shows of each kind of variant, for the method of `result`."""
    found = []
    for metric in variant_metrics(varied):
        top = max(1.0, _BRIGHTEST * max((scores.get(metric.name, 0.0) for scores in result.values.values()), default=0))
        scale = f"In the heat map black is no difference, yellow {top:.3g} of 255 levels and more."
        if metric.name == SEED_SPREAD.name:
            seeds = [one for one in varied if one.kind == "seed"]
            text = f"The standard deviation of each pixel over {len(seeds) + 1} seeds: what chance decided. {scale}"
            views = ("LQ", result.name, SPREAD, "HQ")
            found.append(CloseUp("Where it invents", text, metric, views, _spread_views(seeds, result, top)))
        else:
            [other] = [one for one in varied if one.kind == "tag"]
            text = f"The same image and noise, with another tag in the prompt: what a word did. {scale}"
            views = (result.name, OTHER_TAG, CHANGE, "HQ")
            views_of = _tag_views(other, result, top)
            found.append(CloseUp("What a tag does", text, metric, views, views_of, partial(_note, other)))
    return found


def _spread_views(seeds: Sequence[Varied], result: Result, top: float) -> Callable[[Pair], dict[str, RGB]]:
    def views(pair: Pair) -> dict[str, RGB]:
        if any(pair.name in one.failed for one in seeds):
            return {}
        images = [read_rgb(path) for path in (result.paths[pair.name], *(one.path(pair) for one in seeds))]
        return {SPREAD: heat_image(spread_map(images), top)}

    return views


def _tag_views(other: Varied, result: Result, top: float) -> Callable[[Pair], dict[str, RGB]]:
    def views(pair: Pair) -> dict[str, RGB]:
        if pair.name in other.failed:
            return {}
        first, second = read_rgb(result.paths[pair.name]), read_rgb(other.path(pair))
        return {OTHER_TAG: second, CHANGE: heat_image(change_map(first, second), top)}

    return views


def _note(varied: Varied, pair: Pair) -> str:
    """Return what was changed in the prompt of an image, as the method recorded it beside the image."""
    return str(Record.beside(varied.path(pair)).read().get("note", ""))
