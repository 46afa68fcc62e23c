"""A run folder: what it records of itself, and how the same command finds its way back into it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning import Callback, LightningModule, Trainer

from seesr_pl.files import write_whole
from seesr_pl.nested import leaves

Resume = Literal["auto", "force", "never"]
# May differ between the two halves of a run: none of these changes what is learned from which sample.
FREE_KEYS = (
    "resume", "sampler", "module.sampler", "paths", "trainer", "callbacks", "logger",
    "data.num_workers", "data.micro_batch_size", "data.prefetch_factor", "data.num_retries", "data.first_wait_seconds",
    "data.validation_sources", "data.validation_batch_size", "data.max_bad_fraction",
    "data.cache_folder", "data.cache_gigabytes",
    "module.compile", "module.gradient_checkpointing", "module.channels_last",
)  # fmt: skip

# Of the free groups, what does change it.
BOUND_KEYS = ("trainer.precision", "trainer.gradient_clip_val", "trainer.gradient_clip_algorithm", "callbacks.ema")


class RunRecord(Callback):
    """Writes `config.yaml` into the run folder and carries its text in every checkpoint.

    Args:
        folder: the run folder.
        config: the composed config as YAML text, interpolations kept.
    """

    def __init__(self, folder: str | Path, *, config: str) -> None:
        self.path = Path(folder) / "config.yaml"
        self.config = config

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file once, on rank 0."""
        if trainer.is_global_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, self.config.encode())

    def state_dict(self) -> dict[str, Any]:
        """Part of the checkpoint."""
        return {"config": self.config}


def resume_checkpoint(
    folder: str | Path, *, now: Mapping[str, Any], before: Mapping[str, Any], resume: Resume
) -> Path | None:
    """The checkpoint to continue from, or None for a fresh run.

    Args:
        folder: the run folder.
        now: the composed config as plain dicts.
        before: the config that the folder records, {} if it records none.
        resume: `auto` refuses a config that would change what is learned, `force` does not, `never` refuses any.

    Raises ValueError where continuing would mix two different runs.
    """
    checkpoint = Path(folder) / "checkpoints" / "last.ckpt"
    if not checkpoint.is_file():
        return None
    if resume == "never":
        raise ValueError(f"{folder} holds a run already (resume=never); choose another run_name or remove the folder")
    changes = [] if resume == "force" else list(config_changes(before, now))
    if changes:
        lines = [f"{folder} holds a run with another config:", *(f"  {line}" for line in changes)]
        lines.append("choose another run_name, or continue with the new config all the same by resume=force")
        raise ValueError("\n".join(lines))
    return checkpoint


def config_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Each key whose value differs, as `key: old -> new`, but those of FREE_KEYS that are not of BOUND_KEYS."""
    old, new = dict(leaves(before)), dict(leaves(now))
    for name in sorted(old.keys() | new.keys()):
        free = _is_below(name, FREE_KEYS) and not _is_below(name, BOUND_KEYS)
        if not free and old.get(name) != new.get(name):
            yield f"{name}: {old.get(name)} -> {new.get(name)}"


def _is_below(name: str, keys: Sequence[str]) -> bool:
    return any(name == key or name.startswith(f"{key}.") for key in keys)
