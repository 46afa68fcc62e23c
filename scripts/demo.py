"""The whole system in minutes on two CPU cores: photographs, DAPE, SeeSR, restoration, scores, an HTML report.

Every stage is a command of the project and is printed before it runs; `make demo` calls this file.
"""

import argparse
import csv
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

ROOT = Path(__file__).resolve().parents[1]
BASELINES = ("bicubic", "gaussian_blur", "nlm")
NEXT = """[bold]What to type next[/]
  python evaluate.py ckpt={out}/seesr benchmark=folder benchmark.root=FOLDER   [dim]your own pairs[/]
  python train.py experiment=tiny_seesr trainer.max_steps=3000 run_name=longer
  python train.py experiment=seesr        [dim]the real thing: lists the weights and data it needs[/]"""
HONEST = (
    "This is a toy: networks of {millions:.1f} million parameters. The frozen UNet and the tagger learned before, from "
    "a few dozen photographs; DAPE's LoRA, the ControlNet and the representation cross-attention learned just now, for "
    "minutes. The lines above were measured on photographs that no training saw; an interval that holds zero shows no "
    "difference. What tags and representation add to the images is too little to measure at this size. Real weights "
    "(Stable Diffusion 2, RAM and SeeSR, 2.2 billion parameters) bring texture that a toy cannot; nothing here says "
    "how good SeeSR is."
)


class Size(NamedTuple):
    """How long a demo is: optimizer steps of both stages, not minutes, and crops of each held-out photograph."""

    dape_steps: int
    seesr_steps: int
    crops: int


FULL, QUICK = Size(600, 600, 6), Size(40, 60, 2)


def main() -> None:
    """Run every stage, then write the report and say what was done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the training: it runs, but learns nothing")
    parser.add_argument("--out", type=Path, default=Path("outputs/demo"), help="folder of everything that is made")
    arguments = parser.parse_args()
    console = Console(highlight=False)
    start = time.perf_counter()
    commands = stages(arguments.out, QUICK if arguments.quick else FULL)
    for number, (title, command) in enumerate(commands, start=1):
        console.rule(f"[bold]{number}/{len(commands) + 1} {title}")
        console.print(f"$ {command}", style="dim", markup=False, soft_wrap=True)
        run(command)
    console.rule(f"[bold]{len(commands) + 1}/{len(commands) + 1} the report")
    report(arguments.out, console)
    minutes = (time.perf_counter() - start) / 60
    console.print(f"\nDone in {minutes:.1f} minutes. Look at [bold]{arguments.out}/report.html[/]\n")
    console.print(NEXT.format(out=arguments.out), soft_wrap=True)


def stages(out: Path, size: Size) -> list[tuple[str, str]]:
    """Title and command of each stage; training that was finished before is not done again."""
    crops = f"benchmark=folder benchmark.root={out}/photos/benchmark \"benchmark.group='(.*)_'\" paths.outputs={out}"
    judge = f"python evaluate.py {crops} metrics=[psnr_y,psnr_rgb,ssim_y] stages=[restore,score]"
    train = f"python train.py paths.outputs={out} paths.shards={out}/shards"
    dape, seesr = f"trainer.max_steps={size.dape_steps}", f"trainer.max_steps={size.seesr_steps}"
    compare = ",".join(f"{out}/{name}" for name in BASELINES)
    return [
        ("photographs, and degraded crops of the held-out ones", f"seesr photos {out}/photos --crops {size.crops}"),
        ("DAPE learns to tag degraded images", f"{train} experiment=tiny_dape run_name=dape {dape}"),
        ("what RAM and DAPE see", f"python evaluate.py task=tags ckpt={out}/dape run_name=tags {crops}"),
        ("DAPE as a file in the published format", f"seesr convert dape {out}/dape {out}/dape.safetensors"),
        (
            "SeeSR learns to restore",
            f"{train} experiment=tiny_seesr run_name=seesr {seesr} module.representation=dape "
            f"module.stack.dape={out}/dape.safetensors",
        ),
        *((f"for comparison: {name}", f"{judge} method={name} run_name={name}") for name in BASELINES),
        (
            "restore the held-out crops",
            f"{judge} ckpt={out}/seesr run_name=restored compare=[{compare}]",
        ),
    ]


def run(command: str) -> None:
    """Run a command of the project with this Python; a failure ends the demo with its exit code."""
    name, *arguments = shlex.split(command)
    program = sys.executable if name == "python" else str(Path(sys.executable).with_name(name))
    # A second thread slows networks this small: it waits more than it works.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    finished = subprocess.run([program, *arguments], cwd=ROOT, env=environment, check=False)
    if finished.returncode:
        sys.exit(finished.returncode)


def report(out: Path, console: Console) -> None:
    """Write `out`/report.html from what the stages left."""
    from seesr_pl import evaluation

    pairs = evaluation.FolderBenchmark(str(out / "photos" / "benchmark"), group="(.*)_").pairs()
    groups = {pair.name: pair.group for pair in pairs}
    results = [evaluation.load_result(out / name, groups) for name in ("restored", *BASELINES)]
    metrics = evaluation.image_metrics(["psnr_y", "psnr_rgb", "ssim_y"], has_reference=True).available
    text = HONEST.format(millions=parameters())
    evaluation.write_report(
        out / "report.html",
        title="seesr_pl demo: a toy SeeSR on held-out photographs",
        pairs=pairs,
        results=results,
        metrics=metrics,
        notes=[text, *verdict(results)],
        sections=[tag_section(out / "tags"), curve_section(out)],
    )
    for line in (*verdict(results), text):
        console.print(line, soft_wrap=True)


def verdict(results: Sequence[object]) -> list[str]:
    """One line for each comparison: the difference in PSNR-Y and RGB with its interval, whatever it is."""
    from seesr_pl import evaluation

    lines = []
    for reference in results[1:]:
        found = {item.metric: item.difference for item in evaluation.compare(results[0], reference)}
        parts = [f"{name} {d.mean:+.2f} ({d.low:+.2f} to {d.high:+.2f})" for name, d in found.items()]
        lines.append(f"restored minus {reference.name}: {', '.join(parts)}")
    return lines


def tag_section(folder: Path) -> object:
    """Return the section with the tags of some images and the table by severity."""
    from seesr_pl import evaluation
    from seesr_pl.imaging.io import read_rgb

    with (folder / "tags.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    return evaluation.Section(
        title="What RAM and DAPE see",
        text="Tags of the degraded image by RAM and by DAPE against RAM's on the clean one. Black: it sees them too.",
        tables=[evaluation.Table(header, [[_short(cell) for cell in row] for row in rows])],
        images={path.stem: read_rgb(path) for path in sorted(folder.glob("example_*.png"))},
    )


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


def _short(cell: str) -> str:
    if cell.isdigit():
        return cell
    try:
        return f"{float(cell):.3f}"
    except ValueError:
        return cell


if __name__ == "__main__":
    main()
