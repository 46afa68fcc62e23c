"""The training stream: a position stands for the same sample in every process."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch.utils.data import Dataset

from seesr_pl import keyed
from seesr_pl.data.catalog import Catalog, Shard, ShardSource
from seesr_pl.data.damage import DamageLedger
from seesr_pl.data.decode import decode_rgb, random_crop, resize_whole
from seesr_pl.data.order import EpochOrder
from seesr_pl.data.pairs import ImagePair, crop_pair, matched, resize_pair
from seesr_pl.data.shards import Member, tag_text
from seesr_pl.data.storage import RangeCache, RangeReader
from seesr_pl.types import Batch

MAX_REPLACEMENTS = 32
T = TypeVar("T")


class Degradation(Protocol):
    """Makes training pairs: draws parameters keyed by three integers, then computes the images from them alone.

    `scale` is how many times smaller a side of the LQ image is.
    """

    scale: int

    def sample(self, seed: int, epoch: int, index: int) -> Any:
        """Draw the parameters of a sample; they have a `severity` in [0, 1]."""

    def apply(self, hq: np.ndarray, params: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return hq and lq for hq HxWx3, all uint8 RGB."""


class RawSample(NamedTuple):
    """The stored bytes at a position, not decoded.

    `sample_id` is unique in its epoch and keys all random draws for this position; `sample` is the number of the stored
    sample: a replacement where the sample that belongs here is damaged; `lq` is empty unless the pair is stored.
    """

    sample_id: int
    epoch: int
    sample: int
    key: str
    image: bytes
    tags: str
    lq: bytes = b""


class StreamSample(NamedTuple):
    """A training pair, uint8 RGB: hq HxWx3 and lq, smaller by the degradation's `scale`, and where it comes from.

    `severity` is that of the degradation, in [0, 1], and 0 for a stored pair, where it is unknown; `tags` is empty
    where the shard has none.
    """

    hq: np.ndarray
    lq: np.ndarray
    key: str
    sample_id: int
    epoch: int
    severity: float
    tags: str


class ShardDataset(Dataset[StreamSample]):
    """Training pairs at the positions 0, 1, ... without end; the epoch of a position is position // len.

    The pair at a position depends on the shards, the seed and the arguments alone, so any process can read any
    position. `shuffle=False` gives the stored order, the same in each epoch. `crop`: "random" (SeeSR) or "resize"
    (DAPE), to `crop_size` pixels a side, a multiple of the degradation's scale. Stored pairs are cut, not degraded.
    The other arguments are those of `ShardDataModule`.

    Raises ValueError where an argument is out of range, a source has no index, or, while reading, too many samples are
    damaged.
    """

    def __init__(
        self,
        sources: Sequence[ShardSource],
        *,
        degradation: Degradation,
        seed: int,
        crop: Literal["random", "resize"] = "random",
        crop_size: int = 512,
        shuffle: bool = True,
        max_bad_fraction: float = 0.01,
        num_retries: int = 5,
        first_wait_seconds: float = 0.5,
        cache: RangeCache | None = None,
    ) -> None:
        crops = {"random": (random_crop, crop_pair), "resize": (resize_whole, resize_pair)}
        if crop not in crops:
            raise ValueError(f"crop={crop!r} must be one of {', '.join(crops)}")
        scale = degradation.scale
        if crop_size < scale or crop_size % scale:
            raise ValueError(
                f"crop_size={crop_size} must be a multiple of {scale}: lq is {scale} times smaller than hq"
            )
        self.catalog = Catalog(sources)
        self.catalog.check_pairs(scale)
        self.order = EpochOrder(self.catalog.shard_sizes(), [source.weight for source in sources], seed=seed)
        self.damage = DamageLedger(len(self.catalog), max_bad_fraction=max_bad_fraction)
        self.degradation = degradation
        self.seed = seed
        self.crop, self.crop_pair = crops[crop]
        self.crop_size = crop_size
        self.shuffle = shuffle
        self._reader = RangeReader(num_retries=num_retries, first_wait_seconds=first_wait_seconds, cache=cache)

    def __len__(self) -> int:
        """Count the samples of an epoch."""
        return len(self.order) if self.shuffle else len(self.catalog)

    def __getitem__(self, position: int) -> StreamSample:
        raw, image = self._first_sound(position, self._decode)
        generator = keyed.numpy_generator(self.seed, raw.epoch, raw.sample_id, "crop")
        if isinstance(image, ImagePair):
            pair = self.crop_pair(image, self.crop_size, generator)
            return StreamSample(*pair, raw.key, raw.sample_id, raw.epoch, 0.0, raw.tags)
        hq = self.crop(image, self.crop_size, generator)
        params = self.degradation.sample(self.seed, raw.epoch, raw.sample_id)
        hq, lq = self.degradation.apply(hq, params)
        return StreamSample(hq, lq, raw.key, raw.sample_id, raw.epoch, float(params.severity), raw.tags)

    def params_of(self, sample: StreamSample) -> Any | None:
        """Return the parameters of the degradation of `sample`; None for a stored pair, which was not degraded here."""
        shard, _ = self.catalog.find(sample.sample_id % len(self.catalog))
        if self.catalog.sources[shard.source].pairs == "stored":
            return None
        return self.degradation.sample(self.seed, sample.epoch, sample.sample_id)

    def raw(self, position: int) -> RawSample:
        """Read the stored bytes at a position and verify their checksum."""
        return self._first_sound(position, lambda image, lq: None)[0]

    def slot(self, position: int) -> tuple[int, int]:
        """Return (epoch, sample id) of a position, without reading anything."""
        epoch, offset = divmod(position, len(self))
        return epoch, self.order.slot(epoch, offset) if self.shuffle else offset

    def fingerprint(self) -> int:
        """Return a 63-bit hash of the stored samples, their weights and order."""
        return self.catalog.fingerprint()

    def _first_sound(self, position: int, decode: Callable[[bytes, bytes], T]) -> tuple[RawSample, T]:
        """Return the sample at `position`, or its first sound replacement, and its images after `decode`."""
        epoch, sample_id = self.slot(position)
        for sample in self._candidates(epoch, sample_id):
            shard, entry = self.catalog.find(sample)
            try:
                image = self._read_image(shard, entry.image)
                tags = tag_text(self._read(shard, entry.tags)) if entry.tags.offset else ""
                stored = self.catalog.sources[shard.source].pairs == "stored"
                lq = self._read_image(shard, entry.lq) if stored else b""
                decoded = decode(image, lq)
            except (OSError, ValueError) as error:
                self.damage.record_damaged(sample, reason=str(error), name=self.catalog.name)
                continue
            self.damage.record_sound(sample)
            return RawSample(sample_id, epoch, sample, entry.key, image, tags, lq), decoded
        raise ValueError(
            f"{self.catalog.name(sample_id % len(self.catalog))} and {MAX_REPLACEMENTS} replacements are damaged"
        )

    def _decode(self, image: bytes, lq: bytes) -> np.ndarray | ImagePair:
        return matched(decode_rgb(image), decode_rgb(lq), self.degradation.scale) if lq else decode_rgb(image)

    def _candidates(self, epoch: int, sample_id: int) -> Iterator[int]:
        """Yield the sample that belongs here, then replacements: keyed draws from the same source."""
        sample = sample_id % len(self.catalog)
        yield sample
        others = self.catalog.source_range(sample)
        for attempt in range(MAX_REPLACEMENTS):
            yield others[keyed.key(self.seed, epoch, sample_id, "replacement", attempt) % len(others)]

    def _read_image(self, shard: Shard, member: Member) -> bytes:
        if not member.size:
            raise ValueError("it is empty")
        return self._read(shard, member)

    def _read(self, shard: Shard, member: Member) -> bytes:
        options = self.catalog.sources[shard.source].storage_options
        for _ in range(2):
            data = self._reader.read(shard.url, offset=member.offset, size=member.size, storage_options=options)
            if zlib.crc32(data) == member.crc32:
                return data
            # The cached copy may be wrong: drop it and read the source once more.
            if not self._reader.forget(shard.url, offset=member.offset, size=member.size):
                break
        raise ValueError("its bytes differ from the indexed ones (CRC-32)")


def collate(samples: Sequence[StreamSample]) -> Batch:
    """Stack samples into a `Batch`, which a worker sends to the training process."""
    return Batch(
        hq=torch.from_numpy(np.stack([sample.hq for sample in samples])),
        lq=torch.from_numpy(np.stack([sample.lq for sample in samples])),
        key=[sample.key for sample in samples],
        sample_id=torch.tensor([sample.sample_id for sample in samples], dtype=torch.int64),
        epoch=torch.tensor([sample.epoch for sample in samples], dtype=torch.int64),
        severity=torch.tensor([sample.severity for sample in samples], dtype=torch.float32),
        tags=[sample.tags for sample in samples],
    )
