"""Speed of a run, its wait for data, its peak memory, and the operations of its step."""

import resource
import sys
import time
import warnings
from collections.abc import Iterator
from copy import deepcopy
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import torch
from diffusers.models.modeling_utils import ModelMixin
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities.throughput import measure_flops
from torch import Tensor, nn

from seesr_pl.models.denoiser import Condition, predict
from seesr_pl.models.stack import SeeSRStack
from seesr_pl.training.callbacks import ends_logged_step
from seesr_pl.training.seesr import SeeSRDiffusion

Network = TypeVar("Network")
# Datasheet peaks of dense 16-bit matrix products with 32-bit accumulation, in TFLOP/s; the first match counts.
# Lightning 2.6's get_available_flops knows no H200 and no B200, takes an L40S for an L4 (121), an H100 NVL for two, and
# gives an A6000, a 4090 and a 3090 the rate of their vector units (38.7, 82.6, 35.6).
PEAK_TFLOPS = {
    "B200": 2250.0,
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "A6000": 154.8,
    "RTX 4090": 165.2,
    "RTX 3090": 71.0,
    "V100": 125.0,
}

SLOW_DATA_WAIT, SLOW_STEPS = 0.2, 3
"""Share of the time, and logged steps one after another, from which on a wait for data is worth a warning."""


class Throughput(Callback):
    """Log `speed/images_per_second`, `speed/data_wait`, `speed/mfu` and `memory/peak_gib` at logged steps.

    The data wait is the fraction of the training time in which the process waits for the loader alone; a wait for a
    device with work queued is none. Validation and saving checkpoints do not count as training time. MFU is the step's
    arithmetic (tagging included, recomputation not) as a share of the devices' peak; it is logged for `SeeSRDiffusion`
    alone.
    Where the wait is above 20 % in three logged steps one after another, a warning says so, once.

    Args:
        peak_tflops: of one device; None looks it up by the device's name, and logs no MFU for an unknown one.
    """

    def __init__(self, *, peak_tflops: float | None = None) -> None:
        self.peak_tflops = peak_tflops
        self._flops_per_image: int | None = None
        self._batch_started = 0.0
        self._batch_ended: float | None = None
        self._batches = _Timed(iter(()))
        self._slow_in_a_row, self._warned = 0, False
        self._clear()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look up the device's peak, and watch the loader."""
        fetcher: Any = trainer.fit_loop._data_fetcher
        fetcher.iterator = self._batches = _Timed(fetcher.iterator)
        if self.peak_tflops is None:
            self.peak_tflops = device_peak_tflops(pl_module.device)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Count the time since the last batch; before the first one, count the operations of a step."""
        self._batch_started = time.perf_counter()
        if self._batch_ended is not None:
            self._seconds += self._batch_started - self._batch_ended
        if self._flops_per_image is None and self.peak_tflops is not None and isinstance(pl_module, SeeSRDiffusion):
            self._flops_per_image = step_flops(pl_module, size=batch["hq"].shape[1]).total
            self._batch_started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the micro batch; log at the end of a step that the loggers record."""
        is_logged = ends_logged_step(trainer, batch_idx)
        if is_logged and pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        self._batch_ended = time.perf_counter()
        self._seconds += self._batch_ended - self._batch_started
        self._images += len(batch["hq"]) * trainer.world_size
        if is_logged:
            figures = self._figures(trainer.world_size, pl_module.device)
            pl_module.log_dict(figures)
            self._warn(figures["speed/data_wait"])
            self._clear()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do not count validation."""
        self._batch_ended = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Do not count saving."""
        self._batch_ended = None

    def _figures(self, world_size: int, device: torch.device) -> dict[str, float]:
        seconds = self._seconds
        figures = {
            "speed/images_per_second": self._images / seconds,
            "speed/data_wait": self._batches.take() / seconds,
            "memory/peak_gib": peak_bytes(device) / 2**30,
        }
        if self._flops_per_image is not None and self.peak_tflops is not None:
            done = self._images / seconds * self._flops_per_image
            figures["speed/mfu"] = done / (self.peak_tflops * 1e12 * world_size)
        return figures

    def _warn(self, data_wait: float) -> None:
        self._slow_in_a_row = self._slow_in_a_row + 1 if data_wait > SLOW_DATA_WAIT else 0
        if self._slow_in_a_row >= SLOW_STEPS and not self._warned:
            self._warned = True
            warnings.warn(
                f"the run waits for data {data_wait:.0%} of the time: raise data.num_workers, or cut large images up"
                " by `seesr shards build --tile 1024` (docs/data.md)",
                stacklevel=2,
            )

    def _clear(self) -> None:
        self._seconds, self._images = 0.0, 0


class _Timed:
    """An iterator that counts the seconds until it has what it is asked for."""

    def __init__(self, items: Iterator[Any]) -> None:
        self.items, self.seconds = items, 0.0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        begun = time.perf_counter()
        try:
            return next(self.items)
        finally:
            self.seconds += time.perf_counter() - begun

    def take(self) -> float:
        """Return the seconds since the last call."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


class StepFlops(NamedTuple):
    """Floating-point operations for one image; a multiply-add counts as two, recomputation does not count."""

    networks: int
    vae: int
    text: int
    representation: int
    tags: int

    @property
    def total(self) -> int:
        """The operations of the whole step."""
        return sum(self)


def step_flops(module: SeeSRDiffusion, *, size: int) -> StepFlops:
    """Return the operations of a training step of `module` for an HQ crop of `size` pixels a side.

    `networks` is UNet and ControlNet, forward and backward; `tags` is RAM on the share of crops that it tags. They
    are counted on copies of the networks without data (`on_meta`).
    """
    stack = on_meta(module.stack)
    vae: Any = stack.vae
    image = torch.empty(1, 3, size, size, device="meta")
    pixels = torch.empty(1, 3, stack.ram.config.image_size, stack.ram.config.image_size, device="meta")
    tokens = torch.zeros(1, stack.tokenizer.model_max_length, dtype=torch.int64, device="meta")
    latents = vae.encode(image).latent_dist.mode()
    text, representation = stack.text_encoder(tokens)[0], stack.ram.representation(pixels)
    seen = measure_flops(stack.ram, lambda: stack.ram.representation(pixels))
    tagged = 1 - module.prompt_drop_probability if module.tags in ("ram", "dape") else 0
    represented = module.rca and module.representation != "none"

    def prediction() -> Tensor:
        timesteps = torch.zeros(1, dtype=torch.int64, device="meta")
        condition = Condition(text, representation if module.rca else None, image)
        return predict(stack.unet, stack.controlnet, latents, timesteps, condition)

    return StepFlops(
        # The loss is a sum over the prediction: without a product of matrices, and so without operations that count.
        networks=measure_flops(stack.unet, prediction, lambda answer: answer.float().square().mean()),
        vae=measure_flops(vae, lambda: vae.encode(image).latent_dist.mean),
        text=measure_flops(stack.text_encoder, lambda: stack.text_encoder(tokens)[0]),
        representation=seen if represented else 0,
        tags=round(tagged * (seen + measure_flops(stack.ram, lambda: stack.ram.tag_logits(representation)))),
    )


def device_peak_tflops(device: torch.device) -> float | None:
    """Return the peak of the device by its name; None for a CPU and for a name that is not in the table."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for known, peak in PEAK_TFLOPS.items() if known in name), None)


def peak_bytes(device: torch.device) -> int:
    """Return the peak of memory so far, in bytes: of tensors on a GPU, of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def on_meta(stack: SeeSRStack) -> SeeSRStack:
    """Return the same networks on the meta device: shapes without data, and so without memory."""
    return stack._replace(
        vae=_on_meta(stack.vae),
        text_encoder=_on_meta(stack.text_encoder),
        unet=_on_meta(stack.unet),
        controlnet=_on_meta(stack.controlnet),
        ram=_on_meta(stack.ram),
        # A scheduler moves its tables to the device of what it is given.
        scheduler=deepcopy(stack.scheduler),
    )


def _on_meta(network: Network) -> Network:
    assert isinstance(network, nn.Module)
    # deepcopy takes from its memo what it finds there, so no weight is ever copied.
    memo: dict[int, Tensor] = {}
    for tensor in chain(network.parameters(), network.buffers()):
        memo[id(tensor)] = torch.empty_like(
            tensor, dtype=torch.float32 if tensor.is_floating_point() else None, device="meta"
        )
        if isinstance(tensor, nn.Parameter):
            memo[id(tensor)] = nn.Parameter(memo[id(tensor)], requires_grad=tensor.requires_grad)
    copy = deepcopy(network, memo)
    if isinstance(copy, ModelMixin):
        copy.disable_gradient_checkpointing()
    return copy
