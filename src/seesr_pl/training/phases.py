"""How long the parts of a training step take, without a wait for the device."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch._C._distributed_c10d import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from seesr_pl.training.seesr import SeeSRDiffusion

PHASES = ("data", "encode", "condition", "forward", "backward", "communication", "optimizer")


class Mark(NamedTuple):
    """The moment at which a phase begins: by the device's clock on a GPU, else by the host's, in seconds."""

    phase: str
    event: torch.cuda.Event | None
    seconds: float


class Phases(Callback):
    """Sum up, in `seconds`, the time of each of `PHASES` over the micro batches after the first `num_skipped`.

    On a GPU the moments are events that are recorded there and read at the end of training; no step waits for one.
    "data" is all between two micro batches. "communication" is what the backward pass does not hide of the reduction of
    gradients: from the last gradient on; with compressed gradients it is within "backward". `encode`, `condition` and
    `forward` are told apart for `SeeSRDiffusion` alone; its networks must not be compiled.

    Args:
        num_skipped: micro batches that warm up.
    """

    def __init__(self, *, num_skipped: int = 0) -> None:
        self.num_skipped = num_skipped
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.num_batches = 0
        self._marks: list[Mark] = []
        self._handles: list[Any] = []
        self._is_on_gpu = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watch the networks of the step."""
        self._is_on_gpu = pl_module.device.type == "cuda"
        if isinstance(pl_module, SeeSRDiffusion):
            for network in (pl_module.ram.visual_encoder, pl_module.text_encoder):
                self._watch(network, "condition", pl_module)
            self._watch(pl_module.controlnet, "forward", pl_module)
        model = trainer.strategy.model
        if isinstance(model, DistributedDataParallel) and not model._comm_hooks:
            model.register_comm_hook(None, self._reduce)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Begin the step."""
        self._mark("encode" if isinstance(pl_module, SeeSRDiffusion) else "forward")

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Begin the backward pass."""
        self._mark("backward")

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Begin the optimizer's step."""
        self._mark("optimizer")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Begin the wait for the next micro batch."""
        self._mark("data")
        self.num_batches += 1
        if self.num_batches == self.num_skipped:
            self._marks = self._marks[-1:]

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the moments and sum up."""
        for handle in self._handles:
            handle.remove()
        if self._is_on_gpu:
            torch.cuda.synchronize()
        for mark, following in zip(self._marks, self._marks[1:], strict=False):
            self.seconds[mark.phase] += _between(mark, following)

    def _watch(self, network: nn.Module, phase: str, module: LightningModule) -> None:
        def begin(*_: Any) -> None:
            if module.training:
                self._mark(phase)

        hook: Callable[..., None] = begin
        self._handles.append(network.register_forward_pre_hook(hook))

    def _reduce(self, group: Any, bucket: GradBucket) -> Future[Tensor]:
        if bucket.is_last():
            self._mark("communication")
        return allreduce_hook(group, bucket)

    def _mark(self, phase: str) -> None:
        event = None
        if self._is_on_gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
        self._marks.append(Mark(phase, event, time.perf_counter()))


def _between(first: Mark, second: Mark) -> float:
    if first.event is None or second.event is None:
        return second.seconds - first.seconds
    return first.event.elapsed_time(second.event) / 1000
