"""All that a graphics card is to show, by one command, without weights: the networks are random, at full size.

    python benchmarks/gpu.py                          # about ten minutes; writes gpu_<card>_<date>.md, .json and .png
    python benchmarks/gpu.py --device cpu --tiny      # tries this script; figures of the tiny stack mean nothing

Training: images/s, MFU and peak memory with each option on and off, operations and waits of a step, its parts, the
data path alone and together. Restoring: seconds an image at three numbers of steps and three sizes. Last, which
goals hold. What does not fit into the memory, or into --minutes, is said so.
"""

import argparse
import datetime
import gc
import json
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import train_step
from diffusers.utils import logging
from lightning import Callback
from torch.utils._python_dispatch import TorchDispatchMode

from seesr_pl.checkpoints.stack import random_stack
from seesr_pl.data import ShardDataModule, ShardSource, ShardWriter
from seesr_pl.sampling.pipeline import SeeSRPipeline
from seesr_pl.tiny.stack import tiny_stack
from seesr_pl.training import SeeSRDiffusion
from seesr_pl.training.phases import Phases
from seesr_pl.training.speed import peak_bytes

GOALS = {
    "training reaches 35 % of the card's peak": lambda found: _best(found, "mfu") >= 0.35,
    "a step waits for nothing": lambda found: found["step"]["waits"] == 0,
    "the wait for data is below 2 %": lambda found: found["together"]["data_wait"] < 0.02,
    "the data path alone is faster than training": lambda found: (
        found["data"]["images_per_second"] > _best(found, "images_per_second")
    ),
}


class Operations(TorchDispatchMode):
    """Counts the operations of torch, each of which is a kernel or a few, and those that read a value back."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self.waits = 0, 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self.count += 1
        self.waits += function is torch.ops.aten._local_scalar_dense.default
        return function(*arguments, **(keywords or {}))


def main() -> None:
    """Measure each part in turn, and write what was found after each."""
    arguments = _arguments()
    if arguments.tiny:
        arguments.num_workers = 0
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    begun = time.perf_counter()
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu"
    stem = f"gpu_{re.sub(r'[^a-z0-9]+', '-', name.lower())}_{datetime.date.today()}"
    found: dict[str, Any] = {"card": name, "torch": torch.__version__, "tiny": arguments.tiny, "training": {}}
    with tempfile.TemporaryDirectory() as folder:
        parts: dict[str, Callable[[], Any]] = {
            "step": lambda: step_counts(arguments),
            "phases": lambda: phases(arguments),
            "restore": lambda: restore(arguments),
            "data": lambda: data_alone(arguments, folder),
            "together": lambda: train(
                arguments, "--shards", f"{folder}/*.tar", "--num-workers", str(arguments.num_workers)
            ),
            **{f"training/{name}": _training(arguments, extra) for name, extra in _options(arguments).items()},
        }
        for part, measure in parts.items():
            late = (time.perf_counter() - begun) / 60 > arguments.minutes
            figures = f"not run: {arguments.minutes:g} minutes were over" if late else _tried(measure)
            group, _, option = part.partition("/")
            if option:
                found[group][option] = figures
            else:
                found[group] = figures
            print(f"{part}: {figures}", flush=True)
    found["goals"] = {goal: _holds(holds, found) for goal, holds in GOALS.items()}
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / f"{stem}.json").write_text(json.dumps(found, indent=2) + "\n")
    (arguments.out / f"{stem}.md").write_text(markdown(found, stem))
    plot(found["phases"], arguments.out / f"{stem}.png")
    print(f"{arguments.out / stem}.md")


def train(arguments: argparse.Namespace, *extra: str, callbacks: Sequence[Callback] = ()) -> dict[str, float]:
    """Train as `train_step.py` does with these options."""
    size, batch, steps = ("64", "1", "2") if arguments.tiny else ("512", "8", "8")
    given = ["--device", arguments.device, "--size", size, "--micro-batch-size", batch, "--steps", steps]
    if arguments.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    options = train_step.parse([*given, *(["--tiny"] if arguments.tiny else []), *extra])
    figures = train_step.measure(options, callbacks=callbacks)
    return {name.rpartition("/")[2]: value for name, value in figures.items() if name != "s"}


def step_counts(arguments: argparse.Namespace) -> dict[str, int]:
    """Count the operations of one training step, forward and backward, and its waits for the device."""
    module, batch = _module(arguments), _batch(arguments)
    module.training_step(batch, 0)["loss"].backward()
    on_gpu = arguments.device == "cuda"
    with warnings.catch_warnings(record=True) as caught, Operations() as operations:
        warnings.simplefilter("always")
        if on_gpu:
            torch.cuda.set_sync_debug_mode("warn")
        module.training_step(batch, 0)["loss"].backward()
    if on_gpu:
        torch.cuda.set_sync_debug_mode("default")
    waits = sum("synchroniz" in str(one.message) for one in caught) if on_gpu else operations.waits
    return {"operations": operations.count, "waits": waits}


def phases(arguments: argparse.Namespace) -> dict[str, float]:
    """Return the seconds of each part of a step."""
    watching = Phases(num_skipped=2)
    train(arguments, callbacks=[watching])
    return {name: seconds / (watching.num_batches - 2) for name, seconds in watching.seconds.items()}


def restore(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return seconds and peak GiB for each number of steps and each side of the result."""
    dtype = torch.float16 if arguments.device == "cuda" else torch.float32
    pipeline = SeeSRPipeline(*_stack(arguments)).to(arguments.device, dtype=dtype)
    pipeline.ram.to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    sides, numbers = ((64, 96, 128), (4, 2, 1)) if arguments.tiny else ((512, 1024, 2048), (50, 20, 2))
    found = {}
    for side in sides:
        lq = np.random.default_rng(0).integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
        for number in numbers:
            scale = 1.0 if number == numbers[-1] else 5.5
            pipeline(lq, num_inference_steps=1, guidance_scale=scale, process_size=64)  # warms up
            begun = time.perf_counter()  # the call ends with the image on the CPU
            pipeline(
                lq, num_inference_steps=number, guidance_scale=scale, process_size=64
            )  # ends with the image on the CPU
            seconds = time.perf_counter() - begun
            peak = peak_bytes(torch.device(arguments.device)) / 2**30
            found[f"{side} x {side}, {number} steps"] = {"seconds": seconds, "peak_gib": peak}
    return found


def data_alone(arguments: argparse.Namespace, folder: str) -> dict[str, float]:
    """Write shards of photograph-like images and return the images a second that the loader gives."""
    side, count, steps = (96, 8, 4) if arguments.tiny else (640, 256, 64)
    generator = np.random.default_rng(0)
    with ShardWriter(folder, max_samples=64) as writer:
        for number in range(count):
            coarse = generator.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
            png = cv2.imencode(".png", coarse.repeat(8, 0).repeat(8, 1))[1].tobytes()
            writer.write(f"{number:05d}", png, extension="png", tags="")
    crop = 64 if arguments.tiny else 512
    source, workers = ShardSource(f"{folder}/*.tar"), arguments.num_workers
    data = ShardDataModule([source], global_batch_size=8, num_workers=workers, crop_size=crop)
    batches = iter(data.train_loader(rank=0, world_size=1, steps=(0, steps)))
    next(batches)  # the workers have started
    begun = time.perf_counter()
    number = sum(len(batch["hq"]) for batch in batches)
    return {"images_per_second": number / (time.perf_counter() - begun)}


def markdown(found: dict[str, Any], stem: str) -> str:
    """Return the report."""
    lines = [f"# {found['card']}, torch {found['torch']}", "", "`python benchmarks/gpu.py`; the networks are random."]
    if found["tiny"]:
        lines += ["", "**The tiny stack: these figures say nothing of the full size.**"]
    for title, rows in (("Training", found["training"]), ("Restoring", found["restore"])):
        lines += ["", f"## {title}", "", *_table(rows)]
    others = {name: found[name] for name in ("step", "together", "data", "phases")}
    lines += ["", "## A step, its data, its parts in seconds", "", *_table(others), "", f"![phases]({stem}.png)"]
    lines += ["", "## Goals", "", *(f"- {goal}: {holds}" for goal, holds in found["goals"].items())]
    return "\n".join(lines) + "\n"


def plot(seconds: Any, path: Path) -> None:
    """Draw the parts of a step as bars; nothing where they were not measured."""
    if not isinstance(seconds, dict):
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.5), layout="constrained")
    axes = figure.subplots()
    axes.barh(list(seconds), [1000 * each for each in seconds.values()])
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds of a training step")
    figure.savefig(path, dpi=150)


def _table(rows: Any) -> list[str]:
    if not isinstance(rows, dict):
        return [str(rows)]
    cells = {
        name: figures if isinstance(figures, str) else ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
        for name, figures in rows.items()
    }
    return ["| what | found |", "| --- | --- |", *(f"| {name} | {cell} |" for name, cell in cells.items())]


def _training(arguments: argparse.Namespace, extra: list[str]) -> Callable[[], dict[str, float]]:
    return lambda: train(arguments, *extra)


def _options(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """Return the settings to try; the compiler takes longer than all of a tiny run."""
    return {name: extra for name, extra in train_step.SWEEP.items() if not (arguments.tiny and "--compile" in extra)}


def _tried(measure: Callable[[], Any]) -> Any:
    try:
        return measure()
    except (torch.OutOfMemoryError, ImportError) as error:  # an option that this machine does not offer
        return f"not possible here: {str(error).splitlines()[0]}"
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _best(found: dict[str, Any], name: str) -> float:
    return max(figures[name] for figures in found["training"].values() if isinstance(figures, dict))


def _holds(goal: Callable[[dict[str, Any]], bool], found: dict[str, Any]) -> str:
    try:
        return "holds" if goal(found) else "does not hold"
    except (KeyError, TypeError, ValueError):
        return "not measured"


def _stack(arguments: argparse.Namespace) -> Any:
    with torch.device(arguments.device):
        return tiny_stack(lora_rank=8) if arguments.tiny else random_stack()


def _module(arguments: argparse.Namespace) -> SeeSRDiffusion:
    return SeeSRDiffusion(_stack(arguments)).to(arguments.device)


def _batch(arguments: argparse.Namespace) -> Any:
    batch = train_step.SameBatch(1, 2, 64 if arguments.tiny else 512)[0]
    return {**batch, **{name: batch[name].to(arguments.device) for name in ("hq", "lq")}}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="the tiny stack, to try this script")
    parser.add_argument("--minutes", type=float, default=10, help="nothing is begun after so many minutes")
    parser.add_argument("--num-workers", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    return parser.parse_args()


if __name__ == "__main__":
    main()
