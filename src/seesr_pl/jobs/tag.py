"""Tags, and representations if wanted, for image files and for whole shards."""

import functools
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from seesr_pl.checkpoints import official_ram
from seesr_pl.data.decode import decode_rgb
from seesr_pl.data.shards import INDEX_SUFFIX, REPRESENTATION_EXTENSION, SampleEntry, ShardIndex
from seesr_pl.data.writer import ShardWriter
from seesr_pl.files import LeftOut, find_images, write_whole
from seesr_pl.imaging.tensors import to_float
from seesr_pl.jobs.pool import Advance
from seesr_pl.models.prompts import tag_texts
from seesr_pl.models.ram import RAM

FILES_PER_JOB = 64
T = TypeVar("T")


class Tagged(NamedTuple):
    """The text of an image, "a, b,", and its representation (n, 512) in half precision if wanted."""

    text: str
    representation: np.ndarray | None


class Job(NamedTuple):
    """Image files and the text files that they get, or one shard and the shard that it becomes."""

    sources: tuple[Path, ...]
    targets: tuple[Path, ...]
    num_images: int

    @property
    def is_shard(self) -> bool:
        """Whether the source is a shard."""
        return self.sources[0].suffix == ".tar"


class Plan(NamedTuple):
    """The jobs that are left to do, and the files that a search passed over."""

    jobs: list[Job]
    left_out: list[LeftOut]


class TaggerSettings(NamedTuple):
    """How a process makes what does a job; `ram` is an official file or a folder of `RAM.save_pretrained`."""

    ram: Path
    dape: Path | None = None
    tag_list: Path | None = None
    thresholds: Path | None = None
    representation: bool = False
    batch_size: int = 8

    def worker(self, device: str) -> Callable[[Job, Advance], list[str]]:
        """What does a job on `device`."""
        ram = official_ram(self.ram, self.dape, tag_list=self.tag_list, thresholds=self.thresholds)
        tagger = Tagger(ram.to(device), representation=self.representation)
        return functools.partial(_do, tagger, self.batch_size)


class Tagger:
    """What `ram` sees on uint8 RGB arrays of any size, with its LoRA if it has one.

    The text is the one that training uses (utils_data/make_tags.py:71-73), the resize the one of make_tags.py:36-40.
    """

    def __init__(self, ram: RAM, *, representation: bool = False) -> None:
        self.ram, self.representation = ram.eval(), representation

    @torch.no_grad()
    def __call__(self, images: Sequence[np.ndarray]) -> list[Tagged]:
        """One result an image, in order."""
        seen = self.ram.see([to_float(torch.from_numpy(image)[None].to(self.ram.device)) for image in images])
        texts = [f"{text}," for text in tag_texts(self.ram, seen.logits)]
        if not self.representation:
            return [Tagged(text, None) for text in texts]
        return [Tagged(text, row.half().cpu().numpy()) for text, row in zip(texts, seen.representation, strict=True)]


def plan(sources: Sequence[Path], out: Path) -> Plan:
    """What is left to do for image files, folders of them, shards and folders of shards; finished targets are left out.

    Below a folder, the targets keep the sources' subfolders. Raises ValueError where nothing to tag is found or two
    sources would get the same target.
    """
    found, left_out = [], []
    for source in sources:
        images, passed_over = find_images(source, also=(".tar",))
        found += [(image.path, _target(image.path, out / image.place.parent)) for image in images]
        left_out += passed_over
    if not found:
        raise ValueError(
            f"no image and no shard in {', '.join(map(str, sources))}; give files, or folders that hold some"
        )
    twice = [target for target, count in Counter(target for _, target in found).items() if count > 1]
    if twice:
        raise ValueError(f"two sources would both be written to {twice[0]}; tag them into different folders")
    left = [(source, target) for source, target in found if not target.exists()]
    shards = [Job((source,), (target,), len(read_index(source))) for source, target in left if source.suffix == ".tar"]
    files = [pair for pair in left if pair[0].suffix != ".tar"]
    chunks = [files[start : start + FILES_PER_JOB] for start in range(0, len(files), FILES_PER_JOB)]
    jobs = [Job(tuple(s for s, _ in chunk), tuple(t for _, t in chunk), len(chunk)) for chunk in chunks]
    return Plan(shards + jobs, left_out)


def read_index(shard: Path) -> ShardIndex:
    """The index beside a shard, or, where there is none, what reading the whole shard tells."""
    beside = Path(f"{shard}{INDEX_SUFFIX}")
    if beside.is_file():
        return ShardIndex.from_bytes(beside.read_bytes(), source=str(beside))
    with shard.open("rb") as file:
        return ShardIndex.scan(file)


def shard_target(shard: Path, out: Path) -> Path:
    """Where the tagged copy of a shard goes: a shard writer's name, the same where the shard has such a name."""
    prefix, number = _shard_name(shard)
    return out / f"{prefix}-{number:06d}.tar"


def _do(tagger: Tagger, batch_size: int, job: Job, advance: Advance) -> list[str]:
    """Tag what `job` names, calling `advance` with the images of each batch.

    Returns what could not be decoded: such files get no target, such samples of a shard are copied without tags.
    """
    return (_do_shard if job.is_shard else _do_files)(job, tagger, batch_size, advance)


def _do_files(job: Job, tagger: Tagger, batch_size: int, advance: Advance) -> list[str]:
    damaged: list[str] = []
    for pairs in _batches(zip(job.sources, job.targets, strict=True), batch_size):
        images = [_decoded(source.read_bytes()) for source, _ in pairs]
        damaged += [str(source) for (source, _), image in zip(pairs, images, strict=True) if image is None]
        for (_, target), tagged in zip(pairs, _tagged(tagger, images), strict=True):
            if tagged is not None:
                _write(target, tagged)
        advance(len(pairs))
    return damaged


def _do_shard(job: Job, tagger: Tagger, batch_size: int, advance: Advance) -> list[str]:
    damaged: list[str] = []
    prefix, number = _shard_name(job.sources[0])
    # One shard in, one shard out, however large it is.
    writer = ShardWriter(job.targets[0].parent, prefix=prefix, max_samples=1 << 60, max_bytes=1 << 60)
    writer.num_shards = number
    with writer, job.sources[0].open("rb") as file:
        index = read_index(job.sources[0])
        for entries in _batches((index[position] for position in range(len(index))), batch_size):
            encoded = [_read(file, entry) for entry in entries]
            images = [_decoded(image) for image in encoded]
            for entry, image, tagged in zip(entries, encoded, _tagged(tagger, images), strict=True):
                text, representation = tagged or (None, None)
                writer.write(entry.key, image, extension=entry.extension, tags=text, representation=representation)
                damaged += [] if tagged else [f"{job.sources[0]}: {entry.key}"]
            advance(len(entries))
    return damaged


def _target(path: Path, folder: Path) -> Path:
    return shard_target(path, folder) if path.suffix == ".tar" else folder / f"{path.stem}.txt"


def _shard_name(shard: Path) -> tuple[str, int]:
    match = re.fullmatch(r"(.+)-(\d{6})", shard.stem)
    return (match[1], int(match[2])) if match else (shard.stem, 0)


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _read(file: io.BufferedReader, entry: SampleEntry) -> bytes:
    file.seek(entry.image.offset)
    return file.read(entry.image.size)


def _decoded(data: bytes) -> np.ndarray | None:
    try:
        return decode_rgb(data)
    except ValueError:
        return None


def _tagged(tagger: Tagger, images: Sequence[np.ndarray | None]) -> list[Tagged | None]:
    sound = [image for image in images if image is not None]
    results = iter(tagger(sound) if sound else [])
    return [None if image is None else next(results) for image in images]


def _write(target: Path, tagged: Tagged) -> None:
    if tagged.representation is not None:
        data = io.BytesIO()
        np.save(data, tagged.representation, allow_pickle=False)
        write_whole(target.with_suffix(f".{REPRESENTATION_EXTENSION}"), data.getvalue())
    # The text comes last: where it is, the image is done.
    write_whole(target, tagged.text.encode())
