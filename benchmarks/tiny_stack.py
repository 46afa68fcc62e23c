"""Score a trained tiny stack on held-out photographs, and measure what each of its parts contributes.

    python benchmarks/tiny_stack.py --seesr outputs/demo/seesr --debian-root FOLDER --realsr REALSR
    python benchmarks/tiny_stack.py --dape outputs/tiny_dape --debian-root FOLDER     the tags alone

Prints Markdown tables: PSNR-Y, PSNR-RGB and SSIM with paired 95 % intervals by photograph, against bicubic, against
trivial denoisers at the strength that suits them best on this very set, and against the same run with a part removed.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track

from seesr_pl import keyed, runs
from seesr_pl.evaluation import (
    Bicubic,
    FolderBenchmark,
    GaussianBlur,
    NonLocalMeans,
    image_metrics,
    paired_interval,
    score,
)
from seesr_pl.evaluation.semantics import mean_average_precision
from seesr_pl.evaluation.statistics import draw_counts, percentile_interval, precision_difference
from seesr_pl.imaging.io import read_rgb
from seesr_pl.imaging.tensors import resize_bicubic, to_float
from seesr_pl.sampling.pipeline import SeeSRPipeline
from seesr_pl.tiny.pairs import photo_pairs
from seesr_pl.tiny.photographs import photographs

METRICS = ("psnr_y", "psnr_rgb", "ssim_y")
# conf/sampler/tiny.yaml
SAMPLER = {"num_inference_steps": 1, "guidance_scale": 1.0, "color_fix": "none", "tile": 32, "overlap": 8}
SAMPLER["process_size"] = 64
BLURS, STRENGTHS = (0.5, 0.6, 0.7, 0.8, 1.0, 1.3), (3.0, 5.0, 7.0, 10.0, 14.0, 20.0)
Restore = Callable[[np.ndarray, str], np.ndarray]


class Item(NamedTuple):
    """A pair of images and the photograph that it was cut from; `severity` is that of its degradation."""

    name: str
    group: str
    lq: np.ndarray
    hq: np.ndarray
    severity: float = float("nan")


class Blind(SeeSRPipeline):
    """A pipeline that replaces the representation of an image by `change` of it."""

    change: Callable[[torch.Tensor], torch.Tensor]

    def look(self, images):
        """Return the changed representation and the tags."""
        representation, tags = super().look(images)
        return self.change(representation), tags


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seesr", help="run folder of experiment=tiny_seesr")
    parser.add_argument("--dape", help="run folder of experiment=tiny_dape: its tags are compared, nothing is restored")
    parser.add_argument("--debian-root", help="where the Debian packages are unpacked; without it, pip's photographs")
    parser.add_argument("--realsr", help="the folder of benchmark=realsr; its pairs are a second set")
    parser.add_argument("--crops", type=int, default=5, help="held-out crops of each photograph")
    parser.add_argument("--crop-size", type=int, default=128)
    parser.add_argument(
        "--split", default="held-out", help="`choice` to choose settings, so that held-out stays unseen"
    )
    parser.add_argument("--steps", type=int, nargs="*", default=[2, 4, 10])
    arguments = parser.parse_args()
    if bool(arguments.seesr) == bool(arguments.dape):
        parser.error("give one of --seesr and --dape")
    torch.manual_seed(0)
    held_out = photo_items(arguments)
    if arguments.dape:
        compare_tags(held_out, runs.load_ram(arguments.dape))
        return
    pipeline = runs.load_pipeline(arguments.seesr)
    pipeline.set_progress_bar_config(disable=True)
    compare("held-out photographs, official degradation", held_out, methods(pipeline, arguments.steps))
    compare_tags(held_out, pipeline.ram)
    if arguments.realsr:
        pairs = FolderBenchmark(arguments.realsr, lq="test_LR", hq="test_HR").pairs()
        items = [Item(pair.name, pair.group, read_rgb(pair.lq), read_rgb(pair.hq)) for pair in pairs]
        compare("RealSR", items, {"tiny SeeSR": methods(pipeline, [])["tiny SeeSR"]})


def photo_items(arguments: argparse.Namespace) -> list[Item]:
    """Crops of the photographs that do not train, degraded by the official chain."""
    pairs = photo_pairs(
        photographs((arguments.split,), source="all" if arguments.debian_root else "pip"),
        crop_size=arguments.crop_size,
        crops_per_photo=arguments.crops,
        debian_root=arguments.debian_root,
    )
    return [Item(pair.name, pair.name.rsplit("_", 1)[0], pair.lq, pair.hq, pair.severity) for pair in pairs]


def methods(pipeline: SeeSRPipeline, steps: Sequence[int]) -> dict[str, Restore]:
    """The stack as it is, and with parts removed."""
    kept = {"representation": pipeline.config["representation"]}
    blind, shuffled = (Blind(**pipeline.components, **kept) for _ in range(2))
    blind.change = lambda representation: torch.zeros_like(representation[:, :1])
    shuffled.change = Previous()
    for other in (blind, shuffled):
        other.set_progress_bar_config(disable=True)
    return {
        "tiny SeeSR": restorer(pipeline),
        "representation zero": restorer(blind),
        "another image's representation": restorer(shuffled),
        "no tags": restorer(pipeline, tags=""),
        "wrong tags": restorer(pipeline, tags="fruit, fur, sand"),
        "RAM instead of DAPE": without_lora(pipeline, restorer(pipeline)),
        "no ControlNet": restorer(pipeline, conditioning_scale=0.0),
        **{f"{count} steps": restorer(pipeline, num_inference_steps=count) for count in steps},
    }


class Previous:
    """Replaces each representation by that of the previous call."""

    def __init__(self) -> None:
        self.last: torch.Tensor | None = None

    def __call__(self, representation: torch.Tensor) -> torch.Tensor:
        """Return the representation of the previous image; for the first image its own."""
        given, self.last = self.last, representation
        return representation if given is None else given


def restorer(pipeline: SeeSRPipeline, **settings) -> Restore:
    """Return a function that restores with the tiny sampler, changed by `settings`; the noise is keyed by name."""

    def restore(lq: np.ndarray, name: str) -> np.ndarray:
        generator = keyed.torch_generator(0, "restore", name)
        return np.asarray(pipeline(Image.fromarray(lq), generator=generator, **{**SAMPLER, **settings}).images[0])

    return restore


def without_lora(pipeline: SeeSRPipeline, restore: Restore) -> Restore:
    """`restore` while RAM is without its LoRA: tags and representation are plain RAM's."""

    def plain(lq: np.ndarray, name: str) -> np.ndarray:
        with pipeline.ram.disable_adapter():
            return restore(lq, name)

    return plain


def compare(title: str, items: Sequence[Item], candidates: dict[str, Restore]) -> None:
    """Restore `items` by every candidate and by the trivial methods, and print both tables."""
    values = {"bicubic": scores(items, lambda lq, name: Bicubic()(lq, name=name))}
    values["Gaussian blur"] = best(items, "blur", {s: GaussianBlur(sigma=s) for s in BLURS})
    values["non-local means"] = best(items, "nlm", {s: NonLocalMeans(strength=s) for s in STRENGTHS})
    values |= {name: scores(items, restore, name) for name, restore in candidates.items()}
    groups = [item.group for item in items]
    console = Console(width=160, highlight=False)
    console.print(f"\n### {title}: {len(items)} crops of {len(set(groups))} photographs\n")
    first = next(iter(candidates))
    minus = [f"{first} minus it, {metric}" for metric in METRICS]
    console.print(f"| method | {' | '.join(METRICS)} | {' | '.join(minus)} |")
    console.print("|---" * (1 + 2 * len(METRICS)) + "|")
    for name, rows in values.items():
        means = [f"{np.mean(rows[metric]):.3f}" for metric in METRICS]
        differences = [paired_interval(values[first][metric], rows[metric], groups) for metric in METRICS]
        cells = [f"{d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}]" for d in differences]
        console.print(f"| {name} | {' | '.join(means)} | {' | '.join(cells)} |")


def best(items: Sequence[Item], label: str, variants: dict) -> dict[str, list[float]]:
    """Return the scores of the variant with the highest mean PSNR-Y on `items`."""
    tried = [scores(items, lambda lq, name, v=v: v(lq, name=name), f"{label} {s}") for s, v in variants.items()]
    return max(tried, key=lambda rows: np.mean(rows["psnr_y"]))


def scores(items: Sequence[Item], restore: Restore, label: str = "bicubic") -> dict[str, list[float]]:
    """Return each metric of each item."""
    metrics = image_metrics(METRICS, has_reference=True).available
    found = [score(restore(item.lq, item.name), item.hq, metrics) for item in track(items, f"{label:>32}")]
    return {metric: [row[metric] for row in found] for metric in METRICS}


@torch.no_grad()
def compare_tags(items: Sequence[Item], ram) -> None:
    """Print the error of the representation and the mAP of the tags of RAM and DAPE on the LQ, with intervals."""
    hq, lq = (to_float(torch.from_numpy(np.stack([getattr(item, kind) for item in items]))) for kind in ("hq", "lq"))
    enlarged = resize_bicubic(lq, (hq.shape[-2], hq.shape[-1]))
    teacher, plain = ram.see(hq, adapter=False), ram.see(enlarged, adapter=False)
    dape, wanted = ram.see(enlarged), ram.tag_mask(teacher.logits)
    errors = [(view.representation - teacher.representation).square().mean((1, 2)).numpy() for view in (plain, dape)]
    severities = np.array([item.severity for item in items])
    console = Console(width=160, highlight=False)
    console.print("\n### Tags and representation on the degraded image against RAM's on the clean one\n")
    console.print("| | crops | RAM | DAPE | gain |\n|---|---|---|---|---|")
    for name, chosen in (("all", severities >= 0), ("the heavier half", severities >= np.median(severities))):
        groups = [item.group for item, taken in zip(items, chosen, strict=True) if taken]
        fall, low, high = relative_fall(errors[0][chosen], errors[1][chosen], groups)
        means = " | ".join(f"{error[chosen].mean():.4f}" for error in errors)
        console.print(f"| error, {name} | {len(groups)} | {means} | {-fall:+.1%} [{-high:+.1%}, {-low:+.1%}] |")
        scored = dape.logits[chosen], plain.logits[chosen], wanted[chosen]
        difference = precision_difference(*scored, groups)
        means = " | ".join(f"{mean_average_precision(logits, scored[2]):.4f}" for logits in reversed(scored[:2]))
        interval = f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
        console.print(f"| mAP, {name} | {len(groups)} | {means} | {interval} |")


def relative_fall(before: np.ndarray, after: np.ndarray, groups: Sequence[str]) -> tuple[float, float, float]:
    """Return by which share the mean falls from `before` to `after`, with its 95 % interval by photograph."""
    counts = draw_counts(groups, num_resamples=10_000)
    low, high = percentile_interval(1 - (counts @ after) / (counts @ before))
    return float(1 - after.mean() / before.mean()), low, high


if __name__ == "__main__":
    main()
