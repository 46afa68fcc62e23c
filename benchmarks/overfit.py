"""Show that SeeSR's training step learns: the tiny stack overfits eight photographs.

    python benchmarks/overfit.py [--steps 1000] [--weights random|shipped] [--out outputs/overfit]

Eight crops with one fixed LQ image each, through SeeSRDiffusion and Lightning's Trainer; noise, timesteps and prompt
drop are new at every step. What trains is what the paper trains: ControlNet and RCA; the UNet stays as it is, random or
the shipped prior. Prints Markdown: the loss before and after, on noise and timesteps that were never trained on, by
range of timesteps, beside that of the unchanged LQ latent; and PSNR-Y of the pipeline's results beside that of
bicubic. Writes `<out>/panel.png`: LQ, restored before, restored after, HQ.
"""

import argparse
import functools
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from lightning import Trainer, seed_everything
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from seesr_pl.degradation import RealESRGANDegradation
from seesr_pl.evaluation.metrics import psnr_y
from seesr_pl.imaging.io import write_image
from seesr_pl.imaging.sheet import row, with_caption
from seesr_pl.imaging.tensors import to_float
from seesr_pl.models.prompts import TagPrompter
from seesr_pl.tiny.photographs import Photograph, photographs
from seesr_pl.tiny.stack import tiny_ram, tiny_stack
from seesr_pl.training import SeeSRDiffusion
from seesr_pl.training.validation import Restored, restore
from seesr_pl.types import Batch

NAMES = ("astronaut", "chelsea", "coffee", "motorcycle-left", "hubble", "rocket", "brick", "grass")
RANGES = ((0, 249), (250, 499), (500, 749), (750, 999))
UNSEEN_EPOCH, NUM_DRAWS = 10**6, 16
_ZOOM = 2


class EveryStep(IterableDataset[Batch]):
    """The same images at every step, each time as another epoch, which keys noise and timestep."""

    def __init__(self, batch: Batch, num_steps: int) -> None:
        self.batch, self.num_steps = batch, num_steps

    def __iter__(self) -> Iterator[Batch]:
        return (in_epoch(self.batch, step) for step in range(self.num_steps))


def main() -> None:
    """Train, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--size", type=int, default=48, help="side of the crops in pixels")
    parser.add_argument("--learning-rate", type=float, default=2.5e-3)
    parser.add_argument("--weights", choices=("random", "shipped"), default="random")
    parser.add_argument("--out", type=Path, default=Path("outputs/overfit"))
    arguments = parser.parse_args()
    seed_everything(0)
    batch = photograph_batch(arguments.size)
    module = SeeSRDiffusion(
        tiny_stack(weights=arguments.weights)._replace(ram=tiny_ram(weights="shipped")),
        representation="ram",
        tags="shards",
        optimizer=functools.partial(torch.optim.AdamW, fused=True),
        learning_rate=arguments.learning_rate,
        warmup_steps=20,
        decay_steps=arguments.steps,
    )
    skip = SeeSRDiffusion(tiny_stack(weights="skip"), representation="ram")
    losses = {"LQ latent as it is": unseen_losses(skip, batch), "before": unseen_losses(module, batch)}
    before = restored(module, batch)
    started = time.process_time()
    train(module, batch, arguments.steps)
    seconds = time.process_time() - started
    losses["after"] = unseen_losses(module, batch)
    after = restored(module, batch)
    threads = torch.get_num_threads()
    print(f"{arguments.steps} steps of {len(NAMES)} in {seconds:.0f} s of CPU time, {threads} threads\n")
    print_losses(losses)
    print_scores(batch, before, after)
    draw(batch, before, after, arguments.out / "panel.png")


def photograph_batch(size: int) -> Batch:
    """Return the middle of each photograph, shrunk to `size` pixels, degraded by the official chain."""
    chain = RealESRGANDegradation()
    known = {photo.name: photo for photo in photographs(("train", "choice", "held-out"), source="pip")}
    pairs = [chain.apply(middle(known[name], size), chain.sample(0, 0, row)) for row, name in enumerate(NAMES)]
    hq, lq = (torch.from_numpy(np.stack(images)) for images in zip(*pairs, strict=True))
    number = len(NAMES)
    # As experiment=tiny_seesr would say at every step; the crops are the same at every step.
    tags = [f"{text}," for text in TagPrompter(tiny_ram(weights="shipped"), use_lora=False)(to_float(hq))]
    return Batch(
        hq=hq,
        lq=lq,
        key=list(NAMES),
        sample_id=torch.arange(number),
        epoch=torch.zeros(number, dtype=torch.int64),
        severity=torch.zeros(number),
        tags=tags,
    )


def middle(photo: Photograph, size: int) -> np.ndarray:
    """Return the central square of `2 * size` pixels (or of the whole shorter side), shrunk to `size`."""
    image = photo.read()
    side = min(2 * size, *image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    square = image[top : top + side, left : left + side]
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)


def in_epoch(batch: Batch, epoch: int) -> Batch:
    """Return the same images in another epoch, that is, with other noise."""
    return {**batch, "epoch": torch.full_like(batch["epoch"], epoch)}


def train(module: SeeSRDiffusion, batch: Batch, num_steps: int) -> None:
    """Train for `num_steps` optimizer steps, each with new noise and timesteps."""
    trainer = Trainer(
        accelerator="cpu",
        max_steps=num_steps,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    trainer.fit(module, DataLoader(EveryStep(batch, num_steps), batch_size=None))


@torch.no_grad()
def unseen_losses(module: SeeSRDiffusion, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return losses and timesteps of NUM_DRAWS draws for each image that training does not use."""
    module.eval()
    draws = [module.training_step(in_epoch(batch, UNSEEN_EPOCH + number), 0) for number in range(NUM_DRAWS)]
    return torch.cat([draw["losses"] for draw in draws]), torch.cat([draw["timesteps"] for draw in draws])


def restored(module: SeeSRDiffusion, batch: Batch) -> Restored:
    """Restore the LQ images by the pipeline with the tiny sampler: one step, no guidance."""
    sampler = {"num_inference_steps": 1, "guidance_scale": 1.0, "color_fix": "none"}
    return restore(module.eval(), batch, sampler=sampler)


def print_losses(losses: dict[str, tuple[Tensor, Tensor]]) -> None:
    """Print a row for each state, a column for each range of timesteps, and how much the loss fell."""
    print("| loss | all | " + " | ".join(f"t {first} to {last}" for first, last in RANGES) + " |")
    print("|---" * (2 + len(RANGES)) + "|")
    rows = {name: means(*found) for name, found in losses.items()}
    for name, values in rows.items():
        print(f"| {name} | " + " | ".join(f"{value:.5f}" for value in values) + " |")
    ratios = [start / end for start, end in zip(rows["before"], rows["after"], strict=True)]
    print("| before / after | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |\n")


def means(losses: Tensor, timesteps: Tensor) -> list[float]:
    """Return the mean loss over all timesteps and over each range of them."""
    inside = [(timesteps >= first) & (timesteps <= last) for first, last in RANGES]
    return [losses.mean().item(), *(losses[rows].mean().item() for rows in inside)]


def print_scores(batch: Batch, before: Restored, after: Restored) -> None:
    """Print PSNR-Y of each image."""
    columns = {"bicubic": after.bicubic, "before": before.images, "after": after.images}
    print("| PSNR-Y, dB | " + " | ".join(columns) + " |\n" + "|---" * (1 + len(columns)) + "|")
    hq = batch["hq"].numpy()
    table = np.array([[psnr_y(i.numpy(), truth) for i, truth in zip(c, hq, strict=True)] for c in columns.values()])
    for name, values in [*zip(NAMES, table.T, strict=True), ("mean", table.mean(axis=1))]:
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |")


def draw(batch: Batch, before: Restored, after: Restored, path: Path) -> None:
    """Write a row for each image: LQ enlarged, restored before, restored after, HQ."""
    columns = [after.bicubic, before.images, after.images, batch["hq"]]
    rows = []
    for number, name in enumerate(NAMES):
        images = [column[number].numpy().repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1) for column in columns]
        rows.append(with_caption(row(*images), f"{name}: LQ, before, after, HQ. RAM sees: {after.tags[number]}"))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.concatenate(rows))


if __name__ == "__main__":
    main()
