"""Restoring picture files: which are meant, where results go, what is told beside each, and what is done already."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from glob import glob
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from seesr_pl import keyed
from seesr_pl.checkpoints.io import frozen_hash
from seesr_pl.files import write_whole
from seesr_pl.imaging.io import FORMATS, Picture, read_picture, write_picture
from seesr_pl.imaging.tensors import to_float
from seesr_pl.models.prompts import Prompter
from seesr_pl.sampling.pipeline import SeeSRPipeline

ENDINGS = (*FORMATS, ".bmp", ".tif", ".tiff", ".gif")
"""Files that a folder is searched for."""
_LIBRARIES = ("seesr-pl", "torch", "diffusers", "transformers")


class Job(NamedTuple):
    """One result: the file to restore, the file to write, and which sample of it this is."""

    source: Path
    target: Path
    sample: int

    @property
    def record(self) -> Path:
        """The file beside the result that says how it was made."""
        return self.target.with_suffix(".json")


class Outcome(NamedTuple):
    """What became of a job: `state` is "restored", "kept" or "failed", `message` says why it failed."""

    job: Job
    state: str
    message: str = ""


class Restorer:
    """Does jobs with one pipeline. A result depends on the file, the settings, seed and sample, and on nothing else.

    `settings` are arguments of the pipeline's call. `prompter` replaces the pipeline's own tags. `advance` is called
    after each step. Results that the same settings, weights and file made are kept unless `overwrite`.
    """

    def __init__(
        self,
        pipeline: SeeSRPipeline,
        settings: Mapping[str, Any],
        *,
        seed: int,
        prompter: Prompter | None = None,
        prompter_name: str = "own",
        overwrite: bool = False,
        advance: Callable[[int], None] = lambda count: None,
    ) -> None:
        self.pipeline, self.settings, self.seed = pipeline, dict(settings), seed
        self.prompter, self.overwrite, self.advance = prompter, overwrite, advance
        self.facts = {
            "settings": self.settings | {"prompter": prompter_name, "dtype": str(pipeline.unet.dtype)},
            "weights": weights_hashes(pipeline),
            "versions": {library: version(library) for library in _LIBRARIES},
        }

    def __call__(self, job: Job) -> Outcome:
        """Restores one file. What is wrong with it is told in the outcome; OSError where a result cannot be written."""
        steps = self.settings["num_inference_steps"]
        try:
            content = job.source.read_bytes()
            fingerprint = self._fingerprint(job, content)
            if not self.overwrite and is_done(job, fingerprint):
                self.advance(steps)
                return Outcome(job, "kept")
            picture = read_picture(content, name=job.source.name)
            restored, tags = self._restore(picture, job.sample)
        except (OSError, ValueError, MemoryError, torch.OutOfMemoryError) as error:
            self.advance(steps)
            return Outcome(job, "failed", str(error))
        job.target.parent.mkdir(parents=True, exist_ok=True)
        write_picture(job.target, restored)
        record = {"source": str(job.source), "seed": self.seed, "sample": job.sample, "tags": tags, **self.facts}
        write_whole(job.record, json.dumps(record | {"fingerprint": fingerprint}, indent=2).encode() + b"\n")
        return Outcome(job, "restored")

    def _restore(self, picture: Picture, sample: int) -> tuple[Picture, str]:
        tags = None
        if self.prompter is not None:
            tags = self.prompter(to_float(torch.from_numpy(picture.rgb[None])).to(self.pipeline.device))
        output = self.pipeline(
            picture.rgb,
            tags=tags,
            generator=keyed.torch_generator(self.seed, "restore", sample),
            callback_on_step_end=self._step,
            **self.settings,
        )
        rgb = np.asarray(output.images[0])
        alpha = None if picture.alpha is None else _enlarged(picture.alpha, rgb.shape[:2])
        return Picture(rgb, alpha, picture.icc_profile), output.tags[0]

    def _step(self, pipeline: Any, index: int, timestep: Any, values: dict[str, torch.Tensor]) -> dict[str, Any]:
        self.advance(1)
        return values

    def _fingerprint(self, job: Job, content: bytes) -> str:
        # With the result's name: results of two formats share a record, which stands for the one written last.
        facts = [self.facts["settings"], self.facts["weights"], self.seed, job.sample, job.target.name]
        words = json.dumps(facts, sort_keys=True)
        return hashlib.blake2b(words.encode() + content, digest_size=16).hexdigest()


def plan(inputs: Sequence[str], out: Path, *, ending: str, samples: int) -> list[Job]:
    """One job for each picture and sample; folders are searched with all below them, and patterns expanded.

    Results keep the place that a picture has below its input folder. ValueError where an input is not there or a
    folder holds no picture, and where two results would have one name.
    """
    jobs: dict[Path, Job] = {}
    for source, place in [found for name in inputs for found in _found(name, out)]:
        for sample in range(samples):
            suffix = "" if samples == 1 else f"_{sample:02d}"
            target = out / place.parent / f"{place.stem}{suffix}{ending}"
            if target in jobs and jobs[target].source != source:
                raise ValueError(
                    f"{source} and {jobs[target].source} would both be written to {target}; name them apart"
                )
            if target.resolve() == source.resolve():
                raise ValueError(f"{source} would be overwritten by its own result; choose another --out")
            jobs[target] = Job(source, target, sample)
    return list(jobs.values())


def is_done(job: Job, fingerprint: str) -> bool:
    """Whether the result of `job` is there and was made by what `fingerprint` stands for."""
    if not job.target.is_file() or not job.record.is_file():
        return False
    try:
        return json.loads(job.record.read_text()).get("fingerprint") == fingerprint
    except (ValueError, AttributeError):
        return False


def weights_hashes(pipeline: SeeSRPipeline) -> dict[str, str]:
    """A hash of each network's weights."""
    networks = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    return {name: frozen_hash(network.requires_grad_(False)) for name, network in networks.items()}


def _found(name: str, out: Path) -> list[tuple[Path, Path]]:
    """(file, its place below the input) of every picture that `name` means; not of the results below a folder."""
    path = Path(name).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file())
        results = out.resolve()
        if results != path.resolve():
            files = [file for file in files if not file.resolve().is_relative_to(results)]
        if not files:
            raise ValueError(f"{name} holds no picture ({', '.join(ENDINGS)})")
        return [(file, file.relative_to(path)) for file in files]
    files = [path] if path.is_file() else sorted(Path(match) for match in glob(str(path), recursive=True))
    if not files:
        raise ValueError(f"{name} is no file, no folder and no pattern that matches one")
    return [(file, Path(file.name)) for file in files if file.is_file()]


def _enlarged(alpha: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    return np.asarray(Image.fromarray(alpha).resize((size[1], size[0]), Image.Resampling.BICUBIC))
