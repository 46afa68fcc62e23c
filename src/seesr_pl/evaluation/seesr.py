"""SeeSR as a method to judge, with the settings of one published or tried result."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from seesr_pl.annotations import Amount, Count, within_limits
from seesr_pl.checkpoints.published import missing
from seesr_pl.files import MissingFile
from seesr_pl.imaging.tensors import existing_dtype
from seesr_pl.models.prompts import PromptStyle, missing_prompt_model
from seesr_pl.sampling.pipeline import SeeSRPipeline
from seesr_pl.sampling.restoring import restore, restore_all
from seesr_pl.types import RGB

SUREST = "surest"


class SeeSRMethod:
    """Restore with a `SeeSRPipeline`.

    The noise of an image is keyed by (seed, name): it depends neither on the other images nor on their order.

    Args:
        pipeline: a `SeeSRPipeline`.
        name: of the method in tables.
        seed: of the noise.
        scale: size of the result over that of the input.
        prompter: what describes the image to the networks, a style of `models.prompts`; `own` leaves it to the
            pipeline, whose text is DAPE's tags as in the official evaluation, or what a run was trained for.
        prompter_model: of `classification` and `caption`: a folder, or a name on the Hugging Face hub.
        sampler: changes of the pipeline's own `Sampling`, by name; `batch_size` images of equal size are restored
            together.
        tag_change: a tag to leave out of each prompt, or `tag:other` to put another in its place; `surest` stands for
            the tag that RAM is surest of. `notes` tells for each image what was changed.

    Raises ValueError for a setting or a prompter that does not exist, and for a change of tags where the prompt has
    none. An image whose prompt lacks the tag is not restored.
    """

    @within_limits
    def __init__(
        self,
        pipeline: Any,
        *,
        name: str = "seesr",
        seed: Amount = 0,
        scale: Count = 4,
        prompter: PromptStyle | Literal["own"] = "own",
        prompter_model: str | Path | None = None,
        sampler: Mapping[str, Any] | None = None,
        tag_change: str | None = None,
    ) -> None:
        self.name, self.seed, self.pipeline = name, seed, pipeline
        self.tag_change, self.notes = tag_change, dict[str, str]()
        if prompter != "own":
            pipeline.describe_by(prompter, model=None if prompter_model is None else str(prompter_model))
        self.sampling = pipeline.sampling.changed({**(sampler or {}), "upscale": scale})
        if tag_change and pipeline.config["prompter"] not in ("own", "ram", "dape"):
            raise ValueError(f"tags cannot be changed in a prompt without tags, prompter={pipeline.config['prompter']}")

    def __call__(self, lq: RGB, *, name: str) -> RGB:
        """Restore `lq`, uint8 RGB HxWx3, with the noise of `name`."""
        tags = self._tags(lq, name)
        return restore(self.pipeline, lq, seed=self.seed, key=name, sampling=self.sampling, tags=tags).rgb

    @property
    def batch_size(self) -> int:
        """How many images are restored together."""
        return self.sampling.batch_size

    def restore_all(self, lqs: Sequence[RGB], *, names: Sequence[str]) -> list[RGB]:
        """Restore several images, each with the noise of its name."""
        tags = [self._tags(lq, name) for lq, name in zip(lqs, names, strict=True)]
        found = restore_all(self.pipeline, lqs, seed=self.seed, keys=names, sampling=self.sampling, tags=tags)
        return [one.rgb for one in found]

    def _tags(self, lq: RGB, name: str) -> str | None:
        """Return the changed tags of an image; None leaves them to the pipeline."""
        if not self.tag_change:
            return None
        tags = self.pipeline.ranked_tags(lq)
        removed, _, put = self.tag_change.partition(":")
        tag = tags[0] if removed == SUREST and tags else removed
        if tag not in tags:
            raise ValueError(f"its prompt has no tag to change: {tag!r} is not among {', '.join(tags) or 'none'}")
        self.notes[name] = f"{put!r} for {tag!r}" if put else f"without {tag!r}"
        in_order = [put if one == tag else one for one in self.pipeline.ram.tag_names if one in tags]
        return ", ".join(dict.fromkeys(one for one in in_order if one))

    @classmethod
    def missing_files(
        cls, prompter: PromptStyle | Literal["own"] = "own", prompter_model: str | Path | None = None
    ) -> list[MissingFile]:
        """List the weights of the prompter that are not on this machine."""
        model = None if prompter_model is None else str(prompter_model)
        return missing_prompt_model(prompter, model, argument="prompter_model")


class ReleasedSeeSR(SeeSRMethod):
    """Restore with SeeSR from its released files; arguments as of `SeeSRPipeline.from_official` and `SeeSRMethod`."""

    def __init__(
        self,
        base: str | Path,
        seesr: str | Path,
        ram: str | Path,
        dape: str | Path | None = None,
        *,
        name: str = "seesr_released",
        seed: int = 0,
        scale: int = 4,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        device: str = "cpu",
        sampler: Mapping[str, Any] | None = None,
        tag_change: str | None = None,
    ) -> None:
        precision = getattr(torch, existing_dtype(dtype, device))
        pipeline = SeeSRPipeline.from_official(base, seesr, ram, dape, torch_dtype=precision)
        pipeline.set_progress_bar_config(disable=True)
        pipeline.merge_lora()
        pipeline = pipeline.to(device)
        super().__init__(pipeline, name=name, seed=seed, scale=scale, sampler=sampler, tag_change=tag_change)

    @classmethod
    def missing_files(  # type: ignore[override]  # asked by the names of its own arguments
        cls, base: str | Path, seesr: str | Path, ram: str | Path, dape: str | Path | None = None
    ) -> list[MissingFile]:
        """List the released files that are not there."""
        return missing(base=base, seesr=seesr, ram=ram, dape=dape)
