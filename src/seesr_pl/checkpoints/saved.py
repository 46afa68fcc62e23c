"""The checkpoint files of a run: whether one is sound, how far it got, and which is the newest that is sound."""

import pickle
import sys
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

# What a run goes on from: its weights, their average, and the moments of the optimizer.
_LEARNED = ("state_dict", "current_model_state", "averaging_state", "optimizer_states")


class Saved(NamedTuple):
    """A checkpoint file, and the optimizer steps that were done when it was written; -1 where it cannot be resumed."""

    path: Path
    step: int


def newest_sound(paths: Sequence[Path], *, up_to: int = sys.maxsize) -> tuple[Saved | None, list[str]]:
    """Return the sound checkpoint with the most steps, at most `up_to`, and what is wrong with others.

    The first of `paths` wins among equals. Only those are read whole that are newer, by their step or their time.
    """
    damaged: list[str] = []
    found: Saved | None = None
    for saved in sorted(map(_saved, paths), key=lambda saved: -saved.step):
        # A flipped bit may have lowered the step that a file seems to be of: what was written later is looked at too.
        later = found is not None and saved.path.stat().st_mtime_ns > found.path.stat().st_mtime_ns
        if up_to < saved.step < sys.maxsize or (found and not later):
            continue
        problem = damage(saved.path) or ("" if saved.step >= 0 else "holds weights alone")
        if problem:
            damaged.append(f"{saved.path} {problem}")
        else:
            found = found or saved
    return found, damaged


def step_of(path: Path) -> int:
    """Return how many optimizer steps were done when `path` was written; -1 where it is missing or no checkpoint."""
    step = _saved(path).step
    return -1 if step == sys.maxsize else step


def damage(path: str | Path) -> str:
    """Return what is wrong with the checkpoint file `path`; "" for a sound one.

    `torch.save` writes a zip file, which has a checksum of each tensor, but `torch.load` does not compare them.
    """
    facts = Path(path).stat()
    return _damage(Path(path), facts.st_size, facts.st_mtime_ns)


def require_sound(path: str | Path) -> None:
    """Raise ValueError if the checkpoint file `path` is damaged."""
    problem = damage(path)
    if problem:
        others = ", ".join(str(each) for each in sorted(Path(path).parent.glob("*.ckpt")) if not damage(each))
        raise ValueError(f"{path} {problem}; sound checkpoints beside it: {others or 'none'}")


def load(path: str | Path) -> dict[str, Any]:
    """Load the checkpoint file `path` on the CPU; ValueError where it is damaged."""
    require_sound(path)
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return content


def not_finite(checkpoint: Mapping[str, Any]) -> list[str]:
    """Return the names of the weights and moments in `checkpoint` that hold a NaN or an infinity."""
    tensors = {name: tensor for part in _LEARNED for name, tensor in _tensors(checkpoint.get(part), part)}
    # One transfer for all: asking each tensor on a GPU would wait for it a thousand times.
    flags = [tensor.isfinite().all().to("cpu", non_blocking=True) for tensor in tensors.values()]
    if any(tensor.is_cuda for tensor in tensors.values()):
        torch.cuda.synchronize()
    return [name for name, finite in zip(tensors, flags, strict=True) if not finite]


def _saved(path: Path) -> Saved:
    try:
        with warnings.catch_warnings(action="ignore"):  # torch's, about damaged bytes: `damage` says it in one line
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return Saved(path, content["global_step"] if content.get("optimizer_states") else -1)
    except Exception:  # whatever bytes may raise: `damage` says what is wrong
        return Saved(path, sys.maxsize)


@lru_cache(maxsize=64)
def _damage(path: Path, size: int, changed: int) -> str:
    if not size:
        return "is empty"
    try:
        with zipfile.ZipFile(path) as file:
            member = file.testzip()
        if member is None:
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        return "is damaged: cut short, or no checkpoint"
    except pickle.UnpicklingError:
        return "is not loaded: it holds more than tensors and plain values, which could run code"
    except Exception as error:
        return f"is damaged: {str(error).splitlines()[0][:120]}"
    return "" if member is None else f"is damaged: the checksum of {member} differs"


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor) and value.is_floating_point():
        yield name, value
    elif isinstance(value, Mapping | list):
        for key, child in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _tensors(child, f"{name}.{key}")
