"""Write the tags, and on request the representations, of image files and of whole shards."""

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

from seesr_pl.data.decode import decode_rgb
from seesr_pl.data.shards import INDEX_SUFFIX, REPRESENTATION_EXTENSION, Member, ShardIndex
from seesr_pl.data.writer import ShardWriter
from seesr_pl.files import LeftOut, find_images, meets_all, write_whole
from seesr_pl.imaging.tensors import to_float
from seesr_pl.jobs.pool import Advance
from seesr_pl.limits import read_file
from seesr_pl.models.prompts import tag_texts
from seesr_pl.models.ram import RAM

FILES_PER_JOB = 64
T = TypeVar("T")


class Tagged(NamedTuple):
    """The tags of an image as text, "a, b,", and its representation (n, 512), float16, or None."""

    text: str
    representation: np.ndarray | None


class Job(NamedTuple):
    """Image files and the text files to write for them, or one shard and the shard to write.

    `sources` and `targets` have equal lengths.
    """

    sources: tuple[Path, ...]
    targets: tuple[Path, ...]
    num_images: int

    @property
    def is_shard(self) -> bool:
        """Whether the job is a shard."""
        return _is_shard(self.sources[0])


class Plan(NamedTuple):
    """The jobs that remain to be done, and the files that the search left out."""

    jobs: list[Job]
    left_out: list[LeftOut]


class TaggerSettings(NamedTuple):
    """How a process makes its tagger; everything in it is picklable.

    Args:
        build: loads the RAM that tags, with its LoRA if it has one.
        representation: also write the representations.
        batch_size: images per forward pass.
    """

    build: Callable[[], RAM]
    representation: bool = False
    batch_size: int = 8

    def worker(self, device: str) -> Callable[[Job, Advance], list[LeftOut]]:
        """Load the networks to `device`; return a function that does a job and returns what it could not do."""
        ram = self.build().to(device)
        ram.merge_lora()
        tagger = Tagger(ram, representation=self.representation)
        return functools.partial(_do, tagger, self.batch_size)


class Tagger:
    """Tags uint8 RGB images (h, w, 3) of any size with `ram`, and its LoRA if it has one.

    The text is that of training (utils_data/make_tags.py:71-73), the resize that of make_tags.py:36-40.
    """

    def __init__(self, ram: RAM, *, representation: bool = False) -> None:
        self.ram, self.representation = ram.eval(), representation

    @torch.no_grad()
    def __call__(self, images: Sequence[np.ndarray]) -> list[Tagged]:
        """Return one result per image, in order."""
        seen = self.ram.see([to_float(torch.from_numpy(image)[None].to(self.ram.device)) for image in images])
        texts = [f"{text}," for text in tag_texts(self.ram, seen.logits)]
        if not self.representation:
            return [Tagged(text, None) for text in texts]
        return [Tagged(text, row.half().cpu().numpy()) for text, row in zip(texts, seen.representation, strict=True)]


def plan(sources: Sequence[Path], out: Path) -> Plan:
    """Plan the jobs for image files, shards, and folders of either; targets that exist already are skipped.

    The targets keep the subfolders of the sources. Members of a shard without index that belong to no sample are left
    out too. Raises FileNotFoundError where a source does not exist, ValueError where nothing to tag is found or two
    sources would get the same target.
    """
    found, left_out = [], list[LeftOut]()
    for source in sources:
        images, passed_over = find_images(source, also=(".tar",))
        found += [(image.path, _target(image.path, out / image.place.parent)) for image in images]
        left_out += passed_over
    if not found:
        raise ValueError(
            f"no image and no shard in {', '.join(map(str, sources))}; give files, or folders that hold some"
            + "".join(f"\n  {left.path}: {left.reason}" for left in left_out)
        )
    twice = [target for target, count in Counter(target for _, target in found).items() if count > 1]
    if twice:
        raise ValueError(f"two sources would both be written to {twice[0]}; tag them into different folders")
    left = [(source, target) for source, target in found if not target.exists()]
    shards = [job for pair in left if _is_shard(pair[0]) for job in _shard_job(*pair, left_out)]
    files = [pair for pair in left if not _is_shard(pair[0])]
    chunks = [files[start : start + FILES_PER_JOB] for start in range(0, len(files), FILES_PER_JOB)]
    jobs = [Job(tuple(s for s, _ in chunk), tuple(t for _, t in chunk), len(chunk)) for chunk in chunks]
    return Plan(shards + jobs, left_out)


def read_index(shard: Path, *, left_out: list[LeftOut] | None = None) -> ShardIndex:
    """Read the index beside a shard; where there is none, make it by reading the whole shard, as `ShardIndex.scan`."""
    beside = Path(f"{shard}{INDEX_SUFFIX}")
    if beside.is_file():
        return ShardIndex.from_bytes(read_file(beside), source=str(beside))
    with shard.open("rb") as file:
        return ShardIndex.scan(file, left_out=left_out)


def shard_target(shard: Path, out: Path) -> Path:
    """Return the path of a shard's tagged copy in `out`: PREFIX-NUMBER.tar, with number 0 if the name has none."""
    prefix, number = _shard_name(shard)
    return out / f"{prefix}-{number:06d}.tar"


def _do(tagger: Tagger, batch_size: int, job: Job, advance: Advance) -> list[LeftOut]:
    """Do `job`, calling `advance` with the number of images of each batch.

    Return the images that get no tags, with the reasons: such files get no target, such samples of a shard are copied
    without tags. Raises OSError where nothing can be written any more.
    """
    return (_do_shard if job.is_shard else _do_files)(job, tagger, batch_size, advance)


def _do_files(job: Job, tagger: Tagger, batch_size: int, advance: Advance) -> list[LeftOut]:
    failed: list[LeftOut] = []
    for pairs in _batches(zip(job.sources, job.targets, strict=True), batch_size):
        images = [_decoded(source, source, failed) for source, _ in pairs]
        for (source, target), tagged in zip(pairs, _tagged(tagger, images), strict=True):
            if tagged is not None:
                try:
                    _write(target, tagged)
                except OSError as error:
                    if meets_all(error):
                        raise
                    failed.append(LeftOut(source, f"its tags cannot be written: {error}"))
        advance(len(pairs))
    return failed


def _do_shard(job: Job, tagger: Tagger, batch_size: int, advance: Advance) -> list[LeftOut]:
    try:
        return _copy_tagged(job, tagger, batch_size, advance)
    except (OSError, ValueError) as error:
        if meets_all(error):
            raise
        unfinished = Path(f"{job.targets[0]}.tmp")
        if unfinished.is_file():
            unfinished.unlink()
        return [LeftOut(job.sources[0], f"the shard is not tagged: {error}")] * job.num_images


def _copy_tagged(job: Job, tagger: Tagger, batch_size: int, advance: Advance) -> list[LeftOut]:
    failed: list[LeftOut] = []
    prefix, number = _shard_name(job.sources[0])
    # Without limits, so that one shard stays one shard, however large.
    writer = ShardWriter(job.targets[0].parent, prefix=prefix, max_samples=1 << 60, max_bytes=1 << 60, unique=False)
    writer.num_shards = number
    with writer, job.sources[0].open("rb") as file:
        index = read_index(job.sources[0])
        for entries in _batches((index[position] for position in range(len(index))), batch_size):
            encoded = [_read(file, entry.image) for entry in entries]
            names = [Path(f"{job.sources[0]}: {entry.key}") for entry in entries]
            images = [_decoded(data, name, failed) for data, name in zip(encoded, names, strict=True)]
            for entry, image, tagged in zip(entries, encoded, _tagged(tagger, images), strict=True):
                text, representation = tagged or (None, None)
                lq = _read(file, entry.lq) if entry.lq.offset else None
                writer.write(
                    entry.key, image, extension=entry.extension, tags=text, representation=representation, lq=lq
                )
            advance(len(entries))
    return failed


def _shard_job(source: Path, target: Path, left_out: list[LeftOut]) -> list[Job]:
    """Return the job of a shard, or nothing where it cannot be read; `left_out` then tells why."""
    within: list[LeftOut] = []
    try:
        num_images = len(read_index(source, left_out=within))
    except (OSError, ValueError) as error:
        left_out.append(LeftOut(source, str(error)))
        return []
    left_out += [LeftOut(Path(f"{source}: {path}"), reason) for path, reason in within]
    return [Job((source,), (target,), num_images)]


def _is_shard(path: Path) -> bool:
    return path.suffix == ".tar"


def _target(path: Path, folder: Path) -> Path:
    return shard_target(path, folder) if _is_shard(path) else folder / f"{path.stem}.txt"


def _shard_name(shard: Path) -> tuple[str, int]:
    match = re.fullmatch(r"(.+)-(\d{6})", shard.stem)
    return (match[1], int(match[2])) if match else (shard.stem, 0)


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _read(file: io.BufferedReader, member: Member) -> bytes:
    file.seek(member.offset)
    return file.read(member.size)


def _decoded(data: bytes | Path, name: Path, failed: list[LeftOut]) -> np.ndarray | None:
    """Decode the bytes of an image or its file; where that fails, `failed` tells why."""
    try:
        return decode_rgb(read_file(data) if isinstance(data, Path) else data)
    except (OSError, ValueError) as error:
        failed.append(LeftOut(name, str(error)))
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
    # The text is written last: if it exists, the image is done.
    write_whole(target, tagged.text.encode())
