"""DAPE, stage 1: a LoRA teaches RAM to see on a degraded image what it sees on the clean one."""

import functools
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributed import all_gather_object, get_world_size
from torch.nn import functional
from torch.optim import Optimizer

from seesr_pl import keyed
from seesr_pl.annotations import Amount, Count, Limits, NotNegative, Positive, within_limits
from seesr_pl.evaluation.semantics import TagComparison, TagResult
from seesr_pl.imaging.tensors import resize_bicubic, to_float
from seesr_pl.models.ram import RAM, RAMOutput, Resize
from seesr_pl.training.frozen import PartlyFrozen
from seesr_pl.training.optim import schedule
from seesr_pl.types import Batch

ADAMW = functools.partial(torch.optim.AdamW, weight_decay=0.0)
"""The optimizer of the paper and of basicsr/options/dape.yaml; torch's own default decays the weights."""

_MAX_SEED = 0x7FFF_FFFF_FFFF_FFFF


class DistillationLosses(NamedTuple):
    """The two terms of the loss, float32 scalars."""

    representation: Tensor
    logits: Tensor


class DAPEDistillation(PartlyFrozen):
    """Distillation of RAM on the HQ image into RAM with a LoRA on the LQ image; the defaults are the paper's.

    Args:
        ram: teacher and student at once: without its LoRA it is the teacher. A LoRA that it has goes on training.
        seed: keys the first values of the LoRA and the stochastic layers of the student.
        lora_rank: of the LoRA that is added if `ram` has none.
        learning_rate: after `warmup_steps` and before the first of `milestones`.
        warmup_steps: optimizer steps over which the learning rate rises linearly.
        milestones: optimizer steps at which the learning rate is multiplied by `gamma`.
        gamma: see `milestones`.
        optimizer: called with the LoRA's parameters and `lr`.
        representation_weight: of the mean squared error between the representations.
        logit_weight: of the cross entropy between the tags; at 0 the tagging head neither runs nor trains.
        lq_upscale: "bicubic" enlarges the LQ image to the HQ image's size before it is resized to RAM's; "none" not.
        resize_mode: interpolation of the resize to RAM's size.
        resize_antialias: whether that resize antialiases.
        stochastic_student: keep drop path and dropout of the student active, as the official code does.
        gradient_checkpointing: recompute the student's activations in the backward pass.
        compile: `torch.compile` of backbone and tagging head.
        frozen_dtype: precision in which linear and convolution weights that do not train are kept; below
            float32 it must be the precision of the trainer's autocast.
        severity_bins: ranges of severity, equally filled, into which the validation is split.
        num_examples: validation images that the report shows.
        group: a regular expression whose first group, in a sample's key, names its photograph: the intervals of the
            validation resample whole photographs, since crops of one photograph are not independent.
    """

    frozen_parts = ("ram",)
    logged = ("loss", "representation_loss", "logit_loss")

    @within_limits
    def __init__(
        self,
        ram: RAM,
        *,
        seed: Amount = 0,
        lora_rank: Count = 8,
        learning_rate: NotNegative = 1e-4,
        warmup_steps: Amount = 0,
        milestones: Annotated[Sequence[int], Limits(1)] = (),
        gamma: Positive = 0.5,
        optimizer: Callable[..., Optimizer] = ADAMW,
        representation_weight: NotNegative = 1.0,
        logit_weight: NotNegative = 1.0,
        lq_upscale: Literal["bicubic", "none"] = "bicubic",
        resize_mode: Literal["bilinear", "bicubic"] = "bilinear",
        resize_antialias: bool = False,
        stochastic_student: bool = True,
        gradient_checkpointing: bool = False,
        compile: bool = False,
        frozen_dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        severity_bins: Count = 3,
        num_examples: Amount = 8,
        group: str = "(.*)",
    ) -> None:
        super().__init__(frozen_dtype=frozen_dtype)
        self.ram = ram
        self.seed, self.learning_rate, self.warmup_steps, self.optimizer = seed, learning_rate, warmup_steps, optimizer
        self.milestones, self.gamma = tuple(milestones), gamma
        self.representation_weight, self.logit_weight = representation_weight, logit_weight
        self.lq_upscale, self.resize = lq_upscale, Resize(resize_mode, resize_antialias)
        self.stochastic_student, self.compile_networks = stochastic_student, compile
        self.compared: dict[str, Any] = {"severity_bins": severity_bins, "num_examples": num_examples, "group": group}
        self.tag_result: TagResult | None = None
        self._mark_trainable(lora_rank)
        if gradient_checkpointing:
            ram.enable_gradient_checkpointing()
        self.train()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of the student on the LQ image against the teacher on the HQ image (paper, Eq. 1-3)."""
        student, teacher = self.outputs(batch)
        losses = distillation_losses(student, teacher)
        loss = self._weighted(losses)
        terms = zip(self.logged, (loss, *losses), strict=True)
        self.micro_outputs.append({name: term.detach() for name, term in terms})
        return loss

    def outputs(self, batch: Batch) -> tuple[RAMOutput, RAMOutput]:
        """Return what the student sees on the LQ images, and the teacher on the HQ images."""
        hq = to_float(batch["hq"])
        lq = to_float(batch["lq"])
        if self.lq_upscale == "bicubic":
            lq = resize_bicubic(lq, (hq.shape[-2], hq.shape[-1]))
        teacher = self.teacher(hq)
        return self.student(lq, batch), teacher

    def sample_facts(self, batch: Batch) -> dict[str, Tensor]:
        """Return the `loss` of each sample (b), in its micro batch; their mean is the loss of the training step."""
        student, teacher = (zip(*(part.split(1) for part in seen), strict=True) for seen in self.outputs(batch))
        losses = (
            distillation_losses(RAMOutput(*mine), RAMOutput(*theirs))
            for mine, theirs in zip(student, teacher, strict=True)
        )
        return {"loss": torch.stack([self._weighted(each) for each in losses])}

    @torch.no_grad()
    def teacher(self, hq: Float[Tensor, "b 3 h w"]) -> RAMOutput:
        """Run plain RAM, in eval mode, on HQ images in [0, 1]."""
        self.ram.eval()
        return self._see(hq, adapter=False)

    def student(self, lq: Float[Tensor, "b 3 h w"], batch: Batch) -> RAMOutput:
        """Run RAM with its LoRA on LQ images in [0, 1]; seed and micro batch determine which units are dropped."""
        # Not reset after the pass: gradient checkpointing runs the blocks again in the backward pass, in this mode.
        self.ram.train(self.training and self.stochastic_student)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            # Keyed by the first sample, so that neither the rank, the number of ranks nor a resume changes the masks.
            first = int(batch["epoch"][0]), int(batch["sample_id"][0])
            torch.manual_seed(keyed.key(self.seed, *first, "student") & _MAX_SEED)
            return self._see(lq, adapter=True)

    def on_validation_epoch_start(self) -> None:
        """Start a new comparison."""
        self._comparison = TagComparison(self.ram, resize=self.resize, lq_upscale=self.lq_upscale, **self.compared)

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Compare, in eval mode, RAM and DAPE on held-out LQ images with RAM on their HQ images."""
        self._comparison.add(batch)

    def on_validation_epoch_end(self) -> None:
        """Join the comparisons of all ranks; log the scalars, keep the table and the examples in `tag_result`."""
        if torch.distributed.is_initialized():
            seen: list[Any] = [None] * get_world_size()
            all_gather_object(seen, self._comparison.seen)
            self._comparison.merge(seen)
        self.tag_result = self._comparison.result()
        scalars = self.tag_result.scalars()
        terms = scalars["dape/representation_error"], scalars["dape/cross_entropy"]
        scalars["loss"] = self.representation_weight * terms[0] + self.logit_weight * terms[1]
        # Equal on all ranks already; Lightning warns without sync_dist.
        self.log_dict({f"val/{name}": value for name, value in scalars.items()}, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Return an optimizer of the LoRA, in one group, and its schedule, which counts optimizer steps."""
        optimizer = self.optimizer([p for p in self.parameters() if p.requires_grad], lr=self.learning_rate)
        scheduler = schedule(optimizer, warmup_steps=self.warmup_steps, milestones=self.milestones, gamma=self.gamma)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def setup(self, stage: str) -> None:
        """Prepare the frozen weights, then compile."""
        super().setup(stage)
        if self.compile_networks:
            self.ram.visual_encoder.compile()
            self.ram.tagging_head.compile()

    def _weighted(self, losses: DistillationLosses) -> Tensor:
        return self.representation_weight * losses.representation + self.logit_weight * losses.logits

    def _see(self, images: Float[Tensor, "b 3 h w"], *, adapter: bool) -> RAMOutput:
        if self.logit_weight > 0:
            return self.ram.see(images, adapter=adapter, resize=self.resize)
        representation = self.ram.represent(images, adapter=adapter, resize=self.resize)
        return RAMOutput(representation, representation.new_zeros(len(representation), 0))

    def _mark_trainable(self, lora_rank: int) -> None:
        if self.ram.lora_rank is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(keyed.key(self.seed, "lora") & _MAX_SEED)
                self.ram.add_lora(lora_rank)
        for name, parameter in self.ram.named_parameters():
            head_rests = self.logit_weight == 0 and name.startswith("tagging_head.")
            parameter.requires_grad_("lora_" in name and not head_rests)
            if "lora_" in name and head_rests:
                # A LoRA without effect, zero so that its hash does not depend on the seed: it counts as frozen.
                parameter.data.zero_()


def distillation_losses(student: RAMOutput, teacher: RAMOutput) -> DistillationLosses:
    """Return mean squared error of all tokens, and cross entropy of each tag against the teacher's probability.

    The cross entropy is computed from logits: the official log(sigmoid) is infinite from about 17 on
    (dape_model.py:129-142). It is 0 where there are no tags.
    """
    representation = functional.mse_loss(student.representation.float(), teacher.representation.float())
    if student.logits.shape[1] == 0:
        return DistillationLosses(representation, representation.new_zeros(()))
    probabilities = teacher.logits.float().sigmoid()
    logits: Float[Tensor, ""] = functional.binary_cross_entropy_with_logits(student.logits.float(), probabilities)
    return DistillationLosses(representation, logits)
