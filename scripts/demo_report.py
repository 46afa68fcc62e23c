"""The report of the demo: what its stages left, as a page that opens with the images, and as lines for the terminal."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
from rich.console import Console

if TYPE_CHECKING:
    from seesr_pl.evaluation import Pair, Result
    from seesr_pl.types import RGB

PEER = "realesrgan"
# Less of the first is better, more of the second.
SEEN = ("representation_error", "map")
HONEST = (
    "This is a toy: networks of {millions:.1f} million parameters. The frozen UNet and the tagger learned before, from "
    "a few dozen photographs; DAPE's LoRA, the ControlNet and the representation cross-attention learned just now, for "
    "minutes. The lines above were measured on photographs that no training saw; an interval that holds zero shows no "
    "difference. What tags and representation add to the images is too little to measure at this size. Real weights "
    "(Stable Diffusion 2, RAM and SeeSR, 2.2 billion parameters) bring texture that a toy cannot; nothing here says "
    "how good SeeSR is."
)

ABOUT_PEER = (
    "realesrgan is Real-ESRGAN x4plus, a network of 16.7 million parameters that its authors trained for weeks on "
    "graphics cards. It shows what training at that scale brings; the toy is no rival to it. It was not trained here."
)


def report(out: Path, others: Sequence[str], console: Console) -> None:
    """Write `out`/report.html from what the stages left."""
    from seesr_pl import evaluation
    from seesr_pl.imaging.io import write_image

    pairs = evaluation.FolderBenchmark(str(out / "photos" / "benchmark"), group="(.*)_").pairs()
    groups = {pair.name: pair.group for pair in pairs}
    results = [evaluation.load_result(out / name, groups) for name in ("restored", *others)]
    metrics = evaluation.image_metrics(["psnr_y", "psnr_rgb", "ssim_y"], has_reference=True).available
    write_image(out / "overview.jpg", overview(pairs, results[0], results[1]))
    said = [*verdict(results), tag_verdict(out / "tags")]
    text, peer = HONEST.format(millions=parameters()), [ABOUT_PEER] if PEER in others else []
    evaluation.write_report(
        out / "report.html",
        title="seesr_pl demo: a toy SeeSR on held-out photographs",
        pairs=pairs,
        results=results,
        metrics=metrics,
        notes=[text, *peer, *said],
        sections=[
            *(peer_section(pairs, results[0], result) for result in results if result.name == PEER),
            tag_section(out / "tags"),
            curve_section(out),
        ],
    )
    for line in (*said, text, *peer):
        console.print(line, soft_wrap=True)


def one_each(pairs: "Sequence[Pair]", count: int = 4) -> "list[Pair]":
    """Return the first crop of each of the first `count` photographs."""
    first = {pair.group: pair for pair in reversed(pairs)}
    return [first[group] for group in dict.fromkeys(pair.group for pair in pairs)][:count]


def overview(pairs: "Sequence[Pair]", ours: "Result", bicubic: "Result") -> "RGB":
    """Lay out, for a crop of each of four photographs, the LQ image, bicubic interpolation, the restored image, HQ."""
    from seesr_pl.imaging import sheet
    from seesr_pl.imaging.io import read_rgb

    rows = []
    for pair in one_each(pairs):
        hq, lq = read_rgb(pair.hq), read_rgb(pair.lq)
        named = {"LQ": cv2.resize(lq, hq.shape[1::-1], interpolation=cv2.INTER_NEAREST)}
        named |= {"bicubic": read_rgb(bicubic.paths[pair.name]), "restored": read_rgb(ours.paths[pair.name])}
        cells = [sheet.with_caption(image, title) for title, image in (named | {"HQ": hq}).items()]
        rows.append(sheet.row(*cells, gap=4))
    return sheet.grid(rows, num_columns=1)


def peer_section(pairs: "Sequence[Pair]", ours: "Result", peer: "Result") -> object:
    """Return the section with a crop of each of four photographs: LQ, ours, the peer's, HQ."""
    from seesr_pl import evaluation
    from seesr_pl.imaging.io import read_rgb

    images = {}
    for pair in one_each(pairs):
        paths = {"restored": ours.paths[pair.name], PEER: peer.paths[pair.name], "HQ": pair.hq}
        shown = {title: read_rgb(path) for title, path in paths.items()}
        lq = cv2.resize(read_rgb(pair.lq), shown["HQ"].shape[1::-1], interpolation=cv2.INTER_NEAREST)
        images |= {f"{pair.name}: {title}": image for title, image in ({"LQ": lq} | shown).items()}
    return evaluation.Section(title="Beside a network trained for weeks", text=ABOUT_PEER, images=images)


def verdict(results: "Sequence[Result]") -> list[str]:
    """One line for each comparison: the difference in PSNR-Y and RGB with its interval, whatever it is."""
    from seesr_pl import evaluation

    lines = []
    for reference in results[1:]:
        found = {item.metric: item.difference for item in evaluation.compare(results[0], [reference])}
        parts = [f"{name} {d.mean:+.2f} ({d.low:+.2f} to {d.high:+.2f})" for name, d in found.items()]
        lines.append(f"restored minus {reference.name}: {', '.join(parts)}")
    return lines


def tag_section(folder: Path) -> object:
    """Return the section with the tags of some images and the table over all of them."""
    from seesr_pl import evaluation
    from seesr_pl.imaging.io import read_rgb

    header = ("metric", "crops", "RAM", "DAPE", "DAPE minus RAM", "95 % interval")
    rows = [
        (metric, row["n"], *(f"{float(row[key]):.3f}" for key in ("ram", "dape", "difference")), _interval(row))
        for metric, row in tag_rows(folder).items()
    ]
    return evaluation.Section(
        title="What RAM and DAPE see",
        text="Tags of the degraded image by RAM and by DAPE against RAM's on the clean one. Black: it sees them too. "
        "Of the first three rows less is better. tags/report.html has them by severity and kind of degradation.",
        tables=[evaluation.Table(header, rows)],
        images={path.stem: read_rgb(path) for path in sorted(folder.glob("example_*.png"))},
    )


def tag_rows(folder: Path) -> dict[str, dict[str, str]]:
    """Return the rows of a tags.csv that are over all images, by metric: they come first."""
    found: dict[str, dict[str, str]] = {}
    with (folder / "tags.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["metric"], row)
    return found


def tag_verdict(folder: Path) -> str:
    """Say in one line what DAPE changes in what is seen on degraded crops, whatever it is."""
    rows = tag_rows(folder)
    parts = [f"{name} {float(rows[name]['difference']):+.3f} ({_interval(rows[name])})" for name in SEEN]
    return f"DAPE minus RAM on degraded crops: {', '.join(parts)}"


def curve_section(out: Path) -> object:
    """Return the section with both training losses."""
    from seesr_pl import evaluation

    charts = [
        evaluation.Chart(f"{run}: training loss", {"train/loss": smoothed(out / run / "metrics.csv")}, y_label="loss")
        for run in ("dape", "seesr")
    ]
    return evaluation.Section(title="How it learned", text="Means over twenty steps.", charts=charts)


def smoothed(path: Path, *, width: int = 20) -> list[tuple[float, float]]:
    """Return (step, mean of the losses of `width` steps) of a metrics.csv."""
    with path.open(newline="") as file:
        points = [(float(row["step"]), float(row["train/loss"])) for row in csv.DictReader(file) if row["train/loss"]]
    parts = [points[start : start + width] for start in range(0, len(points), width)]
    return [(part[-1][0], sum(loss for _, loss in part) / len(part)) for part in parts]


def parameters() -> float:
    """Return the millions of parameters of the networks that the demo used."""
    from torch import nn

    from seesr_pl.tiny.stack import tiny_stack

    parts = [part for part in tiny_stack() if isinstance(part, nn.Module)]
    return sum(parameter.numel() for part in parts for parameter in part.parameters()) / 1e6


def _interval(row: Mapping[str, str]) -> str:
    return f"{float(row['low']):+.3f} to {float(row['high']):+.3f}"
