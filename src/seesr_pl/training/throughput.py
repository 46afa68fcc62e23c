"""How fast a run is, what it waits for, and what it holds."""

import resource
import sys
import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from seesr_pl.training.callbacks import ends_logged_step
from seesr_pl.training.flops import step_flops
from seesr_pl.training.seesr import SeeSRDiffusion

# Datasheet peaks of dense 16-bit matrix products with 32-bit accumulation, in TFLOP/s; the first name that fits counts.
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


class Throughput(Callback):
    """Logs `speed/images_per_second`, `speed/data_wait`, `speed/mfu` and `memory/peak_gib` at logged steps.

    The data wait is the fraction of the time in which the process has no batch; time spent in validation and in
    saving checkpoints counts in neither. MFU is the share of the devices' peak that the step's own arithmetic makes,
    without recomputation, tagging included; it is logged for `SeeSRDiffusion` alone.

    Args:
        peak_tflops: of one device; None looks its name up, and logs no MFU where it is not known.
    """

    def __init__(self, *, peak_tflops: float | None = None) -> None:
        self.peak_tflops = peak_tflops
        self._flops_per_image: int | None = None
        self._batch_started = 0.0
        self._batch_ended: float | None = None
        self._clear()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks up the peak."""
        if self.peak_tflops is None:
            self.peak_tflops = device_peak_tflops(pl_module.device)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The wait is over."""
        self._batch_started = time.perf_counter()
        if self._batch_ended is not None:
            self._wait += self._batch_started - self._batch_ended
        if self._flops_per_image is None and self.peak_tflops is not None and isinstance(pl_module, SeeSRDiffusion):
            self._flops_per_image = step_flops(pl_module, size=batch["hq"].shape[1]).total
            self._batch_started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds the micro batch; logs at the end of a step that the loggers take."""
        is_logged = ends_logged_step(trainer, batch_idx)
        if is_logged and pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        self._batch_ended = time.perf_counter()
        self._work += self._batch_ended - self._batch_started
        self._images += len(batch["hq"]) * trainer.world_size
        if is_logged:
            pl_module.log_dict(self._figures(trainer.world_size, pl_module.device))
            self._clear()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What follows the last batch is not waiting for data."""
        self._batch_ended = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """What follows the last batch is not waiting for data."""
        self._batch_ended = None

    def _figures(self, world_size: int, device: torch.device) -> dict[str, float]:
        seconds = self._work + self._wait
        figures = {
            "speed/images_per_second": self._images / seconds,
            "speed/data_wait": self._wait / seconds,
            "memory/peak_gib": peak_bytes(device) / 2**30,
        }
        if self._flops_per_image is not None and self.peak_tflops is not None:
            done = self._images / seconds * self._flops_per_image
            figures["speed/mfu"] = done / (self.peak_tflops * 1e12 * world_size)
        return figures

    def _clear(self) -> None:
        self._work, self._wait, self._images = 0.0, 0.0, 0


def device_peak_tflops(device: torch.device) -> float | None:
    """The peak of the device by its name; None for a CPU and for a name that is not in the table."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for known, peak in PEAK_TFLOPS.items() if known in name), None)


def peak_bytes(device: torch.device) -> int:
    """The most memory that was taken so far: by tensors on a GPU, by the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
