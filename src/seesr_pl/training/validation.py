"""Held-out images restored while a run goes on: two scores beside those of bicubic, and a sheet of images."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
import wandb
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor

from seesr_pl import keyed
from seesr_pl.annotations import Amount, Count, within_limits
from seesr_pl.evaluation.metrics import psnr_y, ssim_y
from seesr_pl.imaging.io import write_image
from seesr_pl.imaging.sheet import INK, WHITE, row, text, wrapped
from seesr_pl.imaging.tensors import resize_bicubic, to_float, to_uint8
from seesr_pl.training.seesr import SeeSRDiffusion
from seesr_pl.types import Batch

SCORES = ("psnr_y", "ssim_y", "bicubic_psnr_y", "bicubic_ssim_y")
"""What each image is scored by, on the luma: the restored one, and LQ enlarged bicubically."""
_MIN_SIDE, _GAP = 256, 8


class Restored(NamedTuple):
    """A batch of restored images, uint8 (b, h, w, 3), their LQ images enlarged bicubically, and their tags."""

    images: Tensor
    bicubic: Tensor
    tags: list[str]


class Shown(NamedTuple):
    """An image of the sheet: its key, LQ enlarged, restored and HQ as uint8 (h, w, 3), its `SCORES`, its tags."""

    key: str
    images: tuple[np.ndarray, np.ndarray, np.ndarray]
    scores: list[float]
    tags: str

    @property
    def panel(self) -> np.ndarray:
        """Key and tags, below them the images with what each shows, its PSNR and SSIM; small ones are enlarged."""
        side = self.images[0].shape[1]
        factor = -(-_MIN_SIDE // side)
        size = factor * side // 18
        sr_psnr, sr_ssim, psnr, ssim = self.scores
        titles = (f"bicubic {psnr:.2f} dB, {ssim:.3f}", f"restored {sr_psnr:.2f} dB, {sr_ssim:.3f}", "HQ")
        cells = []
        for title, image in zip(titles, self.images, strict=True):
            large = image.repeat(factor, 0).repeat(factor, 1)
            cells.append(np.concatenate([text([[(title, INK)]], width=large.shape[1], size=size, ground=WHITE), large]))
        images = row(*cells, gap=_GAP)
        lines = wrapped(self.key, [(tag, INK) for tag in self.tags.split(", ")], width=images.shape[1], size=size)
        whole = np.concatenate([text(lines, width=images.shape[1], size=size, ground=WHITE), images])
        return np.pad(whole, ((_GAP, _GAP), (_GAP, _GAP), (0, 0)), constant_values=255)


class ValidationImages(Callback):
    """Restore the first validation images at every validation, in few steps.

    Logs `val/psnr_y` and `val/ssim_y`, the same of bicubic interpolation as `val/bicubic_psnr_y` and
    `val/bicubic_ssim_y`, and writes `<folder>/step_<n>.png`: for each image LQ, restored and HQ, their
    scores, its key and tags. A W&B logger gets the sheet, and a table of the same.

    Args:
        folder: of the sheets.
        num_images: images that each rank restores and scores.
        num_shown: images of rank 0 that the sheet shows.
        sampler: settings that differ from the run's own sampler.
    """

    @within_limits
    def __init__(
        self,
        folder: str | Path,
        *,
        num_images: Count = 16,
        num_shown: Amount = 4,
        sampler: Mapping[str, Any] = MappingProxyType({"num_inference_steps": 10, "color_fix": "none"}),
    ) -> None:
        self.folder = Path(folder)
        self.num_images, self.num_shown = num_images, num_shown
        self.sampler = dict(sampler)
        self._scores: list[list[float]] = []
        self._shown: list[Shown] = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Restore and score images of the batch until there are `num_images`."""
        assert isinstance(pl_module, SeeSRDiffusion)
        batch = _first(batch, self.num_images - len(self._scores))
        if not len(batch["hq"]):
            return
        with trainer.precision_plugin.forward_context():
            restored = restore(pl_module, batch, sampler=self.sampler)
        hq, sr, bicubic = (images.cpu().numpy() for images in (batch["hq"], restored.images, restored.bicubic))
        for index, truth in enumerate(hq):
            scores = [m(image[index], truth) for image in (sr, bicubic) for m in (psnr_y, ssim_y)]
            self._scores.append(scores)
            if len(self._shown) < self.num_shown:
                images = (bicubic[index], sr[index], truth)
                self._shown.append(Shown(batch["key"][index], images, scores, restored.tags[index]))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the means over all ranks; rank 0 writes the sheet."""
        scores = torch.tensor(self._scores, device=pl_module.device).reshape(len(self._scores), 4)
        sums = torch.cat([scores.sum(0), scores.new_tensor([len(scores)])])
        *totals, count = trainer.strategy.reduce(sums, reduce_op="sum").tolist()
        if count:
            pl_module.log_dict({f"val/{name}": total / count for name, total in zip(SCORES, totals, strict=True)})
        if trainer.is_global_zero and self._shown and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._show(trainer)
        self._scores, self._shown = [], []

    def _show(self, trainer: Trainer) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        sheet = np.concatenate([shown.panel for shown in self._shown])
        write_image(self.folder / f"step_{trainer.global_step:07d}.png", sheet)
        step = trainer.global_step - 1  # as Lightning logs the scores of this validation
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                rows = [
                    [shown.key, *map(wandb.Image, shown.images), *shown.scores, shown.tags] for shown in self._shown
                ]
                columns = ["key", "lq, bicubic", "restored", "hq", *SCORES, "tags"]
                logger.log_table("val/images", columns=columns, data=rows, step=step)
                logger.log_image("val/restored", [sheet], step=step)


def restore(module: SeeSRDiffusion, batch: Batch, *, sampler: Mapping[str, Any]) -> Restored:
    """Restore the LQ images of `batch` by the run's pipeline; noise is keyed by the sample id."""
    height, width = batch["hq"].shape[1:3]
    pipeline = module.pipeline()
    pipeline.set_progress_bar_config(disable=True)
    output = pipeline(
        list(batch["lq"].cpu().numpy()),
        upscale=height // batch["lq"].shape[1],
        process_size=min(height, width),
        generator=[keyed.torch_generator(module.seed, number, "restore") for number in batch["sample_id"].tolist()],
        **{**sampler, "batch_size": len(batch["lq"])},
    )
    images = torch.from_numpy(np.stack([np.array(image) for image in output.images]))
    bicubic = resize_bicubic(to_float(batch["lq"]), (height, width))
    return Restored(images, to_uint8(bicubic), output.tags)


def _first(batch: Any, count: int) -> Any:
    return {name: values[: max(count, 0)] for name, values in batch.items()}
