"""The norm of the gradients, logged, and the guard that ends a run whose loss or gradients are not finite."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from seesr_pl.checkpoints.saved import newest_sound
from seesr_pl.training import ranks
from seesr_pl.training.stops import NotFinite

_NUM_NAMED = 16


class GradientNorm(Callback):
    """Log `train/grad_norm`, of all gradients together, unscaled and before clipping; stop where it is not finite.

    Loss and gradients are judged on the device. The verdict is read one step later, when it has long arrived, so that
    no step waits for it; and before each validation and checkpoint. With a float16 scaler, which leaves out steps with
    infinite gradients itself, the loss alone counts.

    Args:
        max_skipped: steps, in the whole run, that may be left out because loss or gradients are not finite: they change
            no weight and are counted in `train/skipped_steps`. Above 0 each step waits for the device once.

    Raises NotFinite where more steps are not finite.
    """

    def __init__(self, *, max_skipped: int = 0) -> None:
        if max_skipped < 0:
            raise ValueError(f"max_skipped={max_skipped} must be at least 0")
        self.max_skipped, self.skipped = max_skipped, 0
        self._samples: list[list[str]] = []
        self._finite: list[Tensor] = []
        self._pending: _Verdict | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note which samples the micro batch has."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._samples, self._finite = [], []
        numbers = zip(batch["sample_id"].tolist(), batch["epoch"].tolist(), batch["key"], strict=True)
        self._samples.append([f"{sample} ({key}, epoch {epoch})" for sample, epoch, key in numbers])

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Judge the loss of the micro batch."""
        self._finite.append(loss.detach().isfinite())

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Log the norm, once per optimizer step, after all its micro batches; read the verdict on the step before."""
        norm = get_total_norm([each.grad for each in pl_module.parameters() if each.grad is not None])
        pl_module.log("train/grad_norm", norm)
        self._read(trainer)
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        flags = torch.stack([*self._finite, torch.ones_like(self._finite[0]) if scaled else norm.isfinite()])
        self._pending = _Verdict.of(trainer.global_step, self._samples, flags)
        if self.max_skipped:
            if self._read(trainer, skip=True) and not scaled:
                optimizer.zero_grad(set_to_none=True)  # without gradients a step changes neither weights nor moments
            pl_module.log("train/skipped_steps", float(self.skipped))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the verdict: weights that are not finite need no validation."""
        self._read(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Read the verdict before anything is written; not after an error, when other ranks may be gone."""
        if not trainer.interrupted:
            self._read(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the verdict on the last step."""
        self._read(trainer)

    def state_dict(self) -> dict[str, int]:
        """Return how many steps were left out."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on counting."""
        self.skipped = state_dict["skipped"]

    def _read(self, trainer: Trainer, *, skip: bool = False) -> bool:
        """Return whether the step is to be left out; raise NotFinite, on all ranks, where it may not be."""
        verdict, self._pending = self._pending, None
        if verdict is None or not ranks.agree(int(not verdict.is_finite())):
            return False
        self.skipped += skip
        if skip and self.skipped <= self.max_skipped:
            return True
        raise NotFinite(_message(trainer, verdict.step, ranks.gather(verdict.blamed()), self.max_skipped))


class _Verdict(NamedTuple):
    """Whether the loss of each micro batch of a step, and last the norm of its gradients, is finite."""

    step: int
    samples: list[list[str]]
    flags: Tensor
    arrived: torch.cuda.Event | None

    @classmethod
    def of(cls, step: int, samples: list[list[str]], flags: Tensor) -> "_Verdict":
        """Begin to copy the flags to the host, without waiting for them."""
        if not flags.is_cuda:
            return cls(step, samples, flags, None)
        host = torch.empty(flags.shape, dtype=flags.dtype, pin_memory=True)
        host.copy_(flags, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        return cls(step, samples, host, arrived)

    def is_finite(self) -> bool:
        """Wait for the flags, if they have not arrived yet."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return bool(self.flags.all())

    def blamed(self) -> list[str]:
        """Return the samples of the micro batches whose loss is not finite."""
        flags = self.flags[:-1].tolist()
        return [name for finite, names in zip(flags, self.samples, strict=True) if not finite for name in names]


def _message(trainer: Trainer, step: int, blamed: list[str], max_skipped: int) -> str:
    run = Path(trainer.default_root_dir)
    saved, _ = newest_sound(list(run.glob("checkpoints/*.ckpt")))
    named = ", ".join(blamed[:_NUM_NAMED]) + (f" and {len(blamed) - _NUM_NAMED} more" if blamed[_NUM_NAMED:] else "")
    what = f"the loss of these samples is not finite: {named}" if blamed else "the gradients are not finite"
    return "\n".join(
        [
            f"step {step}: {what}",
            f"last good checkpoint: {saved.path}, step {saved.step}" if saved else "there is no good checkpoint yet",
            f"see the batch:  seesr replay {run} --step {step}",
            "the same command again meets it again; to leave such steps out: "
            f"callbacks.gradient_norm.max_skipped={max(10, 2 * max_skipped)}",
        ]
    )
