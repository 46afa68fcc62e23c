"""Keyed random numbers: a draw depends on its key alone, not on when or where it is made.

The key of a draw is a few words: the run's seed, the epoch, the sample's id, and the purpose of the draw.
Equal words give equal values in any process, in any order, on any device.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def key(*words: int | str) -> int:
    """Return a 64-bit hash of `words`, equal across processes, platforms and versions."""
    text = "\x1f".join(f"{type(word).__name__}:{word}" for word in words)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def numpy_generator(*words: int | str) -> np.random.Generator:
    """Return a counter-based numpy generator (Philox) keyed by `words`."""
    return np.random.Generator(np.random.Philox(key=key(*words)))


def torch_generator(*words: int | str) -> torch.Generator:
    """Return a torch generator on the CPU, keyed by `words`."""
    return torch.Generator().manual_seed(key(*words) & 0x7FFF_FFFF_FFFF_FFFF)


def normal(shape: Sequence[int], *, seed: int, epochs: Tensor, sample_ids: Tensor, purpose: str) -> Tensor:
    """Draw standard normal float32 (b, *shape) on the CPU; row i keyed by (seed, epochs[i], sample_ids[i], purpose)."""
    generators = _generators(seed, epochs, sample_ids, purpose)
    return torch.stack([torch.randn(*shape, generator=generator) for generator in generators])


def uniform(*, seed: int, epochs: Tensor, sample_ids: Tensor, purpose: str) -> Tensor:
    """Draw uniform float32 in [0, 1), shape (b,), on the CPU, keyed as in `normal`."""
    generators = _generators(seed, epochs, sample_ids, purpose)
    return torch.stack([torch.rand((), generator=generator) for generator in generators])


def integers(high: int, *, seed: int, epochs: Tensor, sample_ids: Tensor, purpose: str) -> Tensor:
    """Draw uniform int64 in [0, high), shape (b,), on the CPU, keyed as in `normal`."""
    generators = _generators(seed, epochs, sample_ids, purpose)
    return torch.stack([torch.randint(high, (), generator=generator) for generator in generators])


def _generators(seed: int, epochs: Tensor, sample_ids: Tensor, purpose: str) -> list[torch.Generator]:
    pairs = zip(epochs.tolist(), sample_ids.tolist(), strict=True)
    return [torch_generator(seed, epoch, sample_id, purpose) for epoch, sample_id in pairs]
