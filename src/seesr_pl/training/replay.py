"""A step of a run once more: its batch, noise and timesteps from the keyed stream, and the loss of each sample."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch

from seesr_pl.data.datamodule import ShardDataModule
from seesr_pl.imaging.sheet import CaptionedPair, contact_sheet
from seesr_pl.training.dape import DAPEDistillation
from seesr_pl.training.frozen import cast_frozen
from seesr_pl.training.seesr import SeeSRDiffusion
from seesr_pl.types import RGB

Module = SeeSRDiffusion | DAPEDistillation


class Replayed(NamedTuple):
    """A sample of the step, its training pair, and its loss; `timestep` is None where there is none (DAPE)."""

    sample_id: int
    epoch: int
    key: str
    timestep: int | None
    loss: float
    hq: RGB
    lq: RGB


def replay(
    module: Module, data: ShardDataModule, checkpoint: Mapping[str, Any], *, step: int, device: str, precision: str
) -> Iterator[Replayed]:
    """Yield the samples of the step that began with `step` completed ones, as `metrics.csv` counts.

    Args:
        module: as it was built; it gets the weights of `checkpoint`.
        data: the run's.
        checkpoint: of the run, of any step: weights differ from those of the step unless it is the step's own. {} for
            the weights that the run started from.
        step: counted from 0.
        device: where the networks run.
        precision: of the run's trainer.

    Raises ValueError where the data differ from the checkpoint's, or the step lies before the run.
    """
    position = _position(data, checkpoint, step)
    if checkpoint:
        content = dict(checkpoint)
        module.on_load_checkpoint(content)
        # Where the weights are averaged, "state_dict" is the average.
        module.load_state_dict(content.get("current_model_state", content["state_dict"]))
        data.load_state_dict({**content["ShardDataModule"], "samples_consumed": position})
    else:
        data.load_state_dict({**data.state_dict(), "samples_consumed": position})
    if module.frozen_dtype != torch.float32:
        cast_frozen(module, module.frozen_dtype)
    module.to(device).train()
    data.num_workers = 0
    with warnings.catch_warnings(), torch.no_grad(), _autocast(device, precision):
        warnings.filterwarnings("ignore", message="You are trying to `self.log")
        for batch in data.train_loader(rank=0, world_size=1, steps=(step, step + 1)):
            yield from _samples(module, module.transfer_batch_to_device(batch, torch.device(device), 0))


def sheet(samples: list[Replayed], *, most: int = 32) -> RGB:
    """Lay out the training pairs, those whose loss is not finite or the largest first, at most `most`."""
    order = sorted(samples, key=lambda sample: -sample.loss if abs(sample.loss) < float("inf") else float("-inf"))
    return contact_sheet([CaptionedPair(sample.hq, sample.lq, describe(sample)) for sample in order[:most]])


def describe(sample: Replayed) -> str:
    """Return a line about the sample: its number and key, and what it met."""
    timestep = "" if sample.timestep is None else f"  timestep {sample.timestep}"
    return f"sample {sample.sample_id}  epoch {sample.epoch}  {sample.key}{timestep}  loss {sample.loss:.6g}"


def _position(data: ShardDataModule, checkpoint: Mapping[str, Any], step: int) -> int:
    """Return where the step begins in the stream; a run that was resumed by force may have changed its batch."""
    done = checkpoint["global_step"] if checkpoint else 0
    consumed = checkpoint["ShardDataModule"]["samples_consumed"] if checkpoint else 0
    position = int(consumed + (step - done) * data.global_batch_size)
    if step < 0 or position < 0:
        raise ValueError(f"step {step} lies before the run")
    return position


def _samples(module: Module, batch: Any) -> Iterator[Replayed]:
    facts = module.sample_facts(batch)
    losses = facts["loss"].float().tolist()
    timesteps = facts["timestep"].tolist() if "timestep" in facts else [None] * len(losses)
    numbers, epochs = batch["sample_id"].tolist(), batch["epoch"].tolist()
    images = batch["hq"].cpu().numpy(), batch["lq"].cpu().numpy()
    yield from map(Replayed, numbers, epochs, batch["key"], timesteps, losses, *images)


def _autocast(device: str, precision: str) -> AbstractContextManager[Any]:
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    return torch.autocast(device.split(":")[0], dtype=dtype) if dtype else nullcontext()
