"""The pipeline of a training run: what an ablation left out of training is not given to it either."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Literal, Self

import torch
from torch import Tensor

from seesr_pl.imaging.tensors import to_float
from seesr_pl.models.prompts import Prompter
from seesr_pl.models.stack import SeeSRStack
from seesr_pl.sampling.pictures import RGB
from seesr_pl.sampling.pipeline import SeeSRPipeline

Representation = Literal["dape", "ram", "none"]
"""Of the LQ image: RAM's with its LoRA, RAM's without, or one token of zeros, which tells nothing."""


class RunPipeline(SeeSRPipeline):
    """`SeeSRPipeline` of the parts of a run.

    `representation` is the run's; with `ram` the tags are plain RAM's too. `prompter` says the texts; without one they
    are the tags that RAM finds on the LQ pictures.
    """

    representation: Representation = "dape"
    prompter: Prompter | None = None

    @classmethod
    def of_run(cls, stack: SeeSRStack, *, representation: Representation, prompter: Prompter | None) -> Self:
        """The pipeline of `stack`."""
        pipeline = cls(*stack)
        pipeline.representation, pipeline.prompter = representation, prompter
        return pipeline

    def look(self, pictures: Sequence[RGB]) -> tuple[Tensor, list[str]]:
        """As the pipeline, without what the run had not."""
        with self.ram.disable_adapter() if self.representation == "ram" else nullcontext():
            representation, tags = super().look(pictures)
        if self.representation == "none":
            representation = torch.zeros_like(representation[:, :1])
        if self.prompter is None:
            return representation, tags
        images = [to_float(torch.from_numpy(rgb[None])).to(self._execution_device) for rgb in pictures]
        return representation, [text for image in images for text in self.prompter(image)]
