"""Chance that depends on what is drawn and for whom, never on when or where it is drawn.

Every draw is named by words: the run's seed, the epoch, the sample's id, and the purpose of the draw.
Equal words give equal values in any process, in any order, on any device.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def key(*words: int | str) -> int:
    """A 64-bit number that stands for `words`; stable across processes, platforms and versions."""
    text = "\x1f".join(f"{type(word).__name__}:{word}" for word in words)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def numpy_generator(*words: int | str) -> np.random.Generator:
    """A counter-based numpy generator (Philox) keyed by `words`."""
    return np.random.Generator(np.random.Philox(key=key(*words)))


def torch_generator(*words: int | str) -> torch.Generator:
    """A CPU torch generator keyed by `words`."""
    return torch.Generator().manual_seed(key(*words) & 0x7FFF_FFFF_FFFF_FFFF)


def normal(shape: Sequence[int], *, seed: int, epochs: Tensor, sample_ids: Tensor, purpose: str) -> Tensor:
    """Standard normal float32 (b, *shape) on the CPU, row i keyed by (seed, epochs[i], sample_ids[i], purpose)."""
    generators = _generators(seed, epochs, sample_ids, purpose)
    return torch.stack([torch.randn(*shape, generator=generator) for generator in generators])


def uniform(*, seed: int, epochs: Tensor, sample_ids: Tensor, purpose: str) -> Tensor:
    """Uniform float32 in [0, 1), shape (b,), on the CPU, keyed as in `normal`."""
    generators = _generators(seed, epochs, sample_ids, purpose)
    return torch.stack([torch.rand((), generator=generator) for generator in generators])


def integers(high: int, *, seed: int, epochs: Tensor, sample_ids: Tensor, purpose: str) -> Tensor:
    """Uniform int64 in [0, high), shape (b,), on the CPU, keyed as in `normal`."""
    generators = _generators(seed, epochs, sample_ids, purpose)
    return torch.stack([torch.randint(high, (), generator=generator) for generator in generators])


def _generators(seed: int, epochs: Tensor, sample_ids: Tensor, purpose: str) -> list[torch.Generator]:
    pairs = zip(epochs.tolist(), sample_ids.tolist(), strict=True)
    return [torch_generator(seed, epoch, sample_id, purpose) for epoch, sample_id in pairs]
