"""Restore image files: plan the results, skip those that exist already, write each with a record beside it."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image

from seesr_pl.data.shards import tag_text
from seesr_pl.files import IMAGE_SUFFIXES, ImageFile, LeftOut, Record, find_images, fingerprint, meets_all, versions
from seesr_pl.imaging.io import DecodedImage, check_fits, files_of_equal_size, read_decoded, write_decoded
from seesr_pl.jobs.pool import Advance, Progress
from seesr_pl.limits import read_file
from seesr_pl.models.stack import weights_hash
from seesr_pl.sampling.images import Restored
from seesr_pl.sampling.offload import Offload, on_device
from seesr_pl.sampling.pipeline import SeeSRPipeline
from seesr_pl.sampling.restoring import OfficialDraws, restore_all
from seesr_pl.sampling.settings import SAMPLERS, Sampling, at_fidelity

T = TypeVar("T")
# torch raises RuntimeError where it has no memory or no method for an image of this shape.
_FAULTS = (OSError, ValueError, MemoryError, RuntimeError)


class Job(NamedTuple):
    """One result: the file to restore, the file to write, the number of the sample, from 0, and its tags, if given."""

    source: Path
    target: Path
    sample: int
    tags: str | None = None


class Outcome(NamedTuple):
    """The end of a job: `state` is "restored", "kept" or "failed"; `message` is the reason of a failure."""

    job: Job
    state: str
    message: str = ""


class Ready(NamedTuple):
    """An image to restore, and the fingerprint of its result."""

    job: Job
    image: DecodedImage
    made_by: str


class Plan(NamedTuple):
    """The jobs, and the files that a search passed over."""

    jobs: list[Job]
    left_out: list[LeftOut]


class RestorerSettings(NamedTuple):
    """How a process makes its `Restorer`; everything in it is picklable.

    Args:
        build: loads the pipeline to a device.
        sampler: a name in `SAMPLERS`; None: the pipeline's own settings.
        changes: single settings that replace those of the sampler.
        seed: the noise of a result is keyed by (seed, sample).
        prompter: a style of `models.prompts`, or "own": the pipeline's.
        prompter_model: the model of "classification" or "caption": a folder, or a name on the Hugging Face hub.
        overwrite: restore again where a result exists already.
        compile: compile UNet and ControlNet.
        fidelity: moves the sampler by `at_fidelity`, before `changes`; None: not.
        metadata: write into each result how it was made.
        alone: whether one process does all jobs, in order.
        offload: as of `on_device`; with another than "none" `build` leaves the pipeline on the CPU.
    """

    build: Callable[[str], SeeSRPipeline]
    sampler: str | None = None
    changes: Mapping[str, Any] = {}
    seed: int = 0
    prompter: Any = "own"
    prompter_model: str | None = None
    overwrite: bool = False
    compile: bool = False
    fidelity: float | None = None
    metadata: bool = True
    alone: bool = True
    offload: Offload = "none"

    def restorer(self, device: str) -> "Restorer":
        """Build the pipeline on `device` and return its restorer."""
        pipeline = self.build(device)
        weights = weights_hashes(pipeline)  # before they are merged, or out of reach
        restorer = Restorer(on_device(pipeline, device, self.offload), self, weights)
        pipeline.merge_lora()
        return restorer


class Restorer:
    """Does jobs with one pipeline; a result depends on the file, the settings, seed and sample alone.

    Images of equal size are restored together, `batch_size` at a time; their results are equal to float error. Under
    `recipe="official"` a result depends on those before it too, whose generators go on (`OfficialDraws`).
    """

    def __init__(
        self, pipeline: SeeSRPipeline, settings: RestorerSettings, weights: Mapping[str, str] | None = None
    ) -> None:
        self.pipeline, self.seed, self.overwrite = pipeline, settings.seed, settings.overwrite
        self.metadata = settings.metadata
        if settings.prompter != "own":
            pipeline.describe_by(settings.prompter, model=settings.prompter_model)
        sampling = pipeline.sampling if settings.sampler is None else SAMPLERS[settings.sampler]
        if settings.fidelity is not None:
            sampling = at_fidelity(sampling, settings.fidelity)
        self.sampling = sampling.changed(settings.changes)
        self._draws: OfficialDraws | None = None
        if self.sampling.recipe == "official":
            if not settings.alone or self.sampling.batch_size > 1:
                raise ValueError("recipe=official draws for one image after another: give one device and batch_size=1")
            self._draws = OfficialDraws(pipeline, seed=self.seed, global_seed=self.seed)
        if settings.compile:
            pipeline.unet.compile()
            pipeline.controlnet.compile()
        self.facts = {
            "settings": settings_of(pipeline, self.sampling),
            "weights": weights or weights_hashes(pipeline),
        }

    def __call__(self, jobs: Sequence[Job], advance: Advance) -> list[Outcome]:
        """Restore files, advancing by their number in all; where one cannot be restored, its outcome has the reason.

        A result made from the same file with the same settings and weights is kept, unless `overwrite`. Raises OSError
        where no result can be written any more: the disk is full.
        """
        before = self._draws and self._draws.state()
        progress = Progress(len(jobs), advance)
        begun = [_tried(job, functools.partial(self._read, job)) for job in jobs]
        ready = [one for one in begun if isinstance(one, Ready)]
        progress(len(jobs) - len(ready))
        ends = self._restored(ready, progress) if ready else []
        outcomes = [
            end if isinstance(end, Outcome) else _tried(one.job, functools.partial(self._write, one, end))
            for one, end in zip(ready, ends, strict=True)
        ]
        if self._draws and before and any(one.state == "failed" for one in outcomes):
            self._draws.go_on(before)
        progress(progress.left)
        return [one for one in begun if isinstance(one, Outcome)] + outcomes

    def _read(self, job: Job) -> Ready | Outcome:
        content = read_file(job.source)
        made_by = self._fingerprint(job, content)
        if not self.overwrite and job.target.is_file() and Record.beside(job.target).holds(made_by):
            if self._draws:
                self._draws.go_on(Record.beside(job.target).read()["draws"])
            return Outcome(job, "kept")
        image = read_decoded(content, name=job.source.name)
        height, width = (round(side * self.sampling.upscale) for side in image.rgb.shape[:2])
        check_fits(job.target, width, height)
        return Ready(job, image, made_by)

    def _restored(self, ready: Sequence[Ready], progress: Progress) -> list[Restored | Outcome]:
        """Restore images together, or each alone where that fails."""
        together = _tried(
            ready[0].job,
            lambda: restore_all(
                self.pipeline,
                [one.image.rgb for one in ready],
                seed=self.seed,
                keys=[one.job.sample for one in ready],
                sampling=self.sampling,
                tags=[one.job.tags for one in ready],
                on_step=lambda num_images: progress(num_images / self.sampling.num_inference_steps),
                draws=self._draws,
            ),
        )
        if not isinstance(together, Outcome):
            return list(together)
        return [together] if len(ready) == 1 else [end for one in ready for end in self._restored([one], progress)]

    def _write(self, ready: Ready, restored: Restored) -> Outcome:
        job, image, made_by = ready
        alpha = None if image.alpha is None else _enlarged(image.alpha, restored.rgb.shape[:2])
        facts = {"seed": self.seed, "sample": job.sample, "tags": restored.tags, **self.facts, "versions": versions()}
        about = {"source": job.source.name, **facts} if self.metadata else None
        write_decoded(job.target, DecodedImage(restored.rgb, alpha, image.icc_profile, about))
        drawn = {"draws": self._draws.state()} if self._draws else {}
        Record.beside(job.target).write(made_by, source=str(job.source), **facts, **drawn)
        return Outcome(job, "restored")

    def _fingerprint(self, job: Job, content: bytes) -> str:
        # The name is included since results in two formats share one record, which describes the one written last.
        made_by = fingerprint(self.facts, self.seed, job.sample, job.target.name, content)
        if self._draws:
            made_by = fingerprint(made_by, self._draws.state())
        return made_by if job.tags is None else fingerprint(made_by, job.tags)


def plan(inputs: Sequence[str], out: Path, *, ending: str, samples: int, tags: Path | None = None) -> Plan:
    """Plan one job for each image and sample; folders are searched with their subfolders, patterns are expanded.

    Results keep the subfolders of their images. Images in `out` are no inputs, unless `out` is an input folder itself:
    then those are that no earlier call has written there. `tags`: a text file for all images, or a folder of them as
    `seesr tag` writes it; an image without one is tagged by the pipeline, and listed as left out of the tags.
    Raises FileNotFoundError where an input does not exist; ValueError where a folder holds no image, two results would
    get the same name, or a result would overwrite its image.
    """
    jobs: dict[Path, Job] = {}
    left_out: list[LeftOut] = []
    for name in inputs:
        images, passed_over = _found(name, out)
        left_out += passed_over
        for source, place in images:
            told = _tags_of(place, tags, left_out)
            for sample in range(samples):
                suffix = "" if samples == 1 else f"_{sample:02d}"
                target = out / place.parent / f"{place.stem}{suffix}{ending}"
                _check_target(source, target, jobs)
                jobs[target] = Job(source, target, sample, told)
    return Plan(list(jobs.values()), left_out)


def batches(jobs: Sequence[Job], batch_size: int) -> list[list[Job]]:
    """Return `jobs` in groups of images of equal size, at most `batch_size` each."""
    return [[jobs[row] for row in rows] for rows in files_of_equal_size([job.source for job in jobs], batch_size)]


def settings_of(pipeline: SeeSRPipeline, sampling: Sampling) -> dict[str, Any]:
    """Return all settings of a result: those of the loop, of the prompt, of the representation, and the precision."""
    told = {name: pipeline.config[name] for name in ("prompter", "prompter_model", "representation")}
    return dataclasses.asdict(sampling) | told | {"dtype": str(pipeline.unet.dtype)}


def weights_hashes(pipeline: SeeSRPipeline) -> dict[str, str]:
    """Return a hash of each network's weights, by the name of the network."""
    networks = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    return {name: weights_hash(network.state_dict()) for name, network in networks.items()}


def _tried(job: Job, work: Callable[[], T]) -> T | Outcome:
    try:
        return work()
    except _FAULTS as error:
        if meets_all(error):
            raise
        return Outcome(job, "failed", str(error))


def _found(name: str, out: Path) -> tuple[list[ImageFile], list[LeftOut]]:
    path = Path(name).expanduser()
    is_out = path.is_dir() and path.resolve() == out.resolve()
    found = find_images(name, outside=None if is_out else out)
    if is_out:
        found = found._replace(images=[image for image in found.images if not _is_result(image.path)])
    if not found.images:
        reasons = "".join(f"\n  {left.path}: {left.reason}" for left in found.left_out)
        raise ValueError(f"{name} holds no image ({', '.join(IMAGE_SUFFIXES)}){reasons}")
    return found.images, found.left_out


def _tags_of(place: Path, tags: Path | None, left_out: list[LeftOut]) -> str | None:
    if tags is None:
        return None
    path = tags / place.with_suffix(".txt") if tags.is_dir() else tags
    if tags.is_dir() and not path.is_file():
        left_out.append(LeftOut(path, f"no tags for {place} there: they are those that the pipeline finds"))
        return None
    try:
        return tag_text(read_file(path)).strip().rstrip(",")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _is_result(path: Path) -> bool:
    """Return whether the record beside an image says that the image was restored from another."""
    source = Record.beside(path).read().get("source")
    return source is not None and Path(source).name != path.name


def _check_target(source: Path, target: Path, jobs: Mapping[Path, Job]) -> None:
    if target in jobs and jobs[target].source != source:
        raise ValueError(f"{source} and {jobs[target].source} would both be written to {target}; rename one of them")
    if target.resolve() == source.resolve():
        raise ValueError(f"{source} would be overwritten by its own result; choose another --out")


def _enlarged(alpha: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    return np.asarray(Image.fromarray(alpha).resize((size[1], size[0]), Image.Resampling.BICUBIC))
