"""The data of a run for Lightning; a resumed run continues at the exact sample, on any number of devices."""

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader, Sampler

from seesr_pl.annotations import Amount, Count, Fraction, NotNegative, Positive, within_limits
from seesr_pl.data.catalog import ShardSource
from seesr_pl.data.loader import MicroBatches, PositionedLoader, RankBatches, accumulation, largest_micro_batch
from seesr_pl.data.storage import RangeCache
from seesr_pl.data.stream import Degradation, ShardDataset, StreamSample
from seesr_pl.degradation import RealESRGANDegradation


class ShardDataModule(LightningDataModule):
    """Training and validation loaders over shards; the position in the stream is saved with a checkpoint.

    `global_batch_size` samples make an optimizer step, on any number of devices; `micro_batch_size` of them go
    through a device at once. Without it, the micro batch is the largest that divides the device's share and is at most
    `max_micro_batch_size` (None: the whole share). Set the trainer's `accumulate_grad_batches` to
    `accumulation(world_size)`, its `use_distributed_sampler` to False and its `max_steps`. Lightning's epoch is
    then the whole run; each batch's `epoch` is the pass over the data.

    `crop`: "random" takes a crop of `crop_size` (SeeSR), "resize" the whole image at that size (DAPE).
    `validation_batch_size`: samples per validation batch and device.
    `num_workers`, `prefetch_factor`: loader processes per device, and batches that each reads ahead.
    `num_retries`, `first_wait_seconds`: how often a failed read is retried, and the first wait; each wait is doubled.
    `cache_folder`, `cache_gigabytes`: keep what was read from remote shards on the local disk, up to that size.
    `max_bad_fraction`: stop the run when more than this fraction of the samples seen is damaged.
    """

    @within_limits
    def __init__(
        self,
        sources: Sequence[ShardSource],
        *,
        validation_sources: Sequence[ShardSource] = (),
        global_batch_size: Count,
        micro_batch_size: Count | None = None,
        max_micro_batch_size: Count | None = None,
        validation_batch_size: Count = 4,
        num_workers: Amount = 4,
        prefetch_factor: Count = 2,
        seed: Amount = 0,
        crop: Literal["random", "resize"] = "random",
        crop_size: Count = 512,
        degradation: Degradation | None = None,
        max_bad_fraction: Fraction = 0.01,
        num_retries: Amount = 5,
        first_wait_seconds: NotNegative = 0.5,
        cache_folder: str | None = None,
        cache_gigabytes: Positive = 50.0,
    ) -> None:
        super().__init__()
        self.sources = list(sources)
        self.validation_sources = list(validation_sources)
        self.global_batch_size = global_batch_size
        self.micro_batch_size = micro_batch_size
        self.max_micro_batch_size = max_micro_batch_size
        self.validation_batch_size = validation_batch_size
        self.num_workers = num_workers
        self.prefetch_factor = prefetch_factor
        self.seed = seed
        self.crop = crop
        self.crop_size = crop_size
        self.degradation = degradation or RealESRGANDegradation()
        self.max_bad_fraction = max_bad_fraction
        self.num_retries = num_retries
        self.first_wait_seconds = first_wait_seconds
        self.cache = RangeCache(cache_folder, max_bytes=int(cache_gigabytes * 1e9)) if cache_folder else None
        self._restored_samples: int | None = None
        self._base: tuple[int, int] | None = None

    @cached_property
    def train_dataset(self) -> ShardDataset:
        """The training stream."""
        return self._dataset(self.sources, shuffle=True)

    @cached_property
    def validation_datasets(self) -> list[ShardDataset]:
        """One stream, in stored order, for each validation source."""
        return [self._dataset([source], shuffle=False) for source in self.validation_sources]

    def open_sources(self) -> None:
        """Read the indices of all sources before the run starts; raise ValueError where one is missing or wrong."""
        for dataset in (self.train_dataset, *self.validation_datasets):
            len(dataset)

    def accumulation(self, world_size: int) -> int:
        """Count the micro batches per device and optimizer step.

        Raises ValueError where the global batch is not divisible by the devices, or not by them times a micro batch
        that was given.
        """
        size, most = self.global_batch_size, self.max_micro_batch_size
        micro = self.micro_batch_size or largest_micro_batch(size, most, world_size=world_size)
        return accumulation(size, micro, world_size=world_size)

    @property
    def samples_consumed(self) -> int:
        """Samples of the stream used by completed optimizer steps, over all ranks and earlier runs."""
        if self._base is None or self.trainer is None:
            return self._restored_samples or 0
        samples, step = self._base
        return samples + (self.trainer.global_step - step) * self.global_batch_size

    def state_dict(self) -> dict[str, int]:
        """Return four integers: seed, epoch length, fingerprint of the samples, samples consumed."""
        return {**self._identity(), "samples_consumed": self.samples_consumed}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue at the saved position; raise ValueError where samples, weights or seed differ from the state's."""
        for name, value in self._identity().items():
            if state_dict[name] != value:
                raise ValueError(
                    f"the checkpoint was written with {name}={state_dict[name]}, this run has {value}: its data cannot "
                    "be continued. Give the same sources, weights and seed, or start a run with another run_name"
                )
        self._restored_samples, self._base = state_dict["samples_consumed"], None

    def train_dataloader(self) -> DataLoader[StreamSample]:
        """Return the loader of this rank's micro batches, from the current step to `trainer.max_steps`.

        Raises ValueError where the trainer's settings do not fit: see the class.
        """
        trainer = _checked(self.trainer)
        step, accumulated = trainer.global_step, self.accumulation(trainer.world_size)
        if trainer.accumulate_grad_batches != accumulated:
            raise ValueError(
                f"trainer.accumulate_grad_batches={trainer.accumulate_grad_batches} must be {accumulated}: "
                f"global_batch_size={self.global_batch_size} on {trainer.world_size} devices"
            )
        if trainer.fit_loop.restarting:
            _restate_batches(trainer, accumulation=accumulated)
        if self._base is None:
            restored = self._restored_samples
            self._base = (step * self.global_batch_size if restored is None else restored, step)
        steps = (step, trainer.max_steps)
        return self.train_loader(rank=trainer.global_rank, world_size=trainer.world_size, steps=steps)

    def train_loader(self, *, rank: int, world_size: int, steps: tuple[int, int]) -> DataLoader[StreamSample]:
        """Return the loader of one rank's micro batches for the optimizer steps `steps[0]` to `steps[1]` - 1.

        It needs no trainer. The samples begin at `samples_consumed`; the loader's length counts from step 0.
        """
        batches = MicroBatches(
            start=self.samples_consumed,
            num_steps=max(0, steps[1] - steps[0]),
            num_steps_before=steps[0],
            global_batch_size=self.global_batch_size,
            micro_batch_size=self.global_batch_size // (world_size * self.accumulation(world_size)),
            rank=rank,
            world_size=world_size,
        )
        return self._loader(self.train_dataset, batches)

    def val_dataloader(self) -> list[DataLoader[StreamSample]]:
        """Return a loader for each validation source: each sample once over all ranks, with the draws of epoch 0."""
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        batch_size = self.validation_batch_size
        return [
            self._loader(dataset, RankBatches(len(dataset), batch_size, rank=rank, world_size=world_size))
            for dataset in self.validation_datasets
        ]

    def _identity(self) -> dict[str, int]:
        dataset = self.train_dataset
        return {"seed": self.seed, "epoch_length": len(dataset), "fingerprint": dataset.fingerprint()}

    def _dataset(self, sources: Sequence[ShardSource], *, shuffle: bool) -> ShardDataset:
        return ShardDataset(
            sources,
            degradation=self.degradation,
            seed=self.seed,
            crop=self.crop,
            crop_size=self.crop_size,
            shuffle=shuffle,
            max_bad_fraction=self.max_bad_fraction,
            num_retries=self.num_retries,
            first_wait_seconds=self.first_wait_seconds,
            cache=self.cache,
        )

    def _loader(self, dataset: ShardDataset, batches: Sampler[list[int]]) -> DataLoader[StreamSample]:
        return PositionedLoader(dataset, batches, num_workers=self.num_workers, prefetch_factor=self.prefetch_factor)


def _checked(trainer: Trainer | None) -> Trainer:
    if trainer is None:
        raise ValueError("train_dataloader() needs a trainer; use train_loader(rank=, world_size=, steps=) without one")
    if trainer.max_steps < 1:
        raise ValueError(f"trainer.max_steps={trainer.max_steps} must be at least 1: the run is counted in steps")
    if trainer.world_size > 1 and trainer._accelerator_connector.use_distributed_sampler:
        raise ValueError("trainer.use_distributed_sampler=True must be False: the data module splits over the ranks")
    return trainer


def _restate_batches(trainer: Trainer, *, accumulation: int) -> None:
    """Restate Lightning's batch counters, restored from a checkpoint, in the micro batches of this run.

    Lightning counts micro batches and decides from the count when to step, validate and stop. A checkpoint counts the
    micro batches of the run that wrote it, and may have been saved within an optimizer step, whose gradients are lost.
    Without this, a run resumed on other devices would step at the wrong micro batch. The counters are set to the end of
    the last completed step, as in a checkpoint saved in `on_train_batch_end`: Lightning counts that batch as completed
    when it resumes (loops/training_epoch_loop.py: reset).
    """
    loop = trainer.fit_loop.epoch_loop
    num_batches = loop.global_step * accumulation
    counts = {"ready": num_batches, "started": num_batches, "processed": num_batches}
    counts["completed"] = max(0, num_batches - 1)
    loop.batch_progress.load_state_dict({"total": counts, "current": counts, "is_last_batch": False})
    loop._batches_that_stepped = max(0, loop.global_step - 1)
    if loop.global_step == 0:
        # Nothing to resume; with `restarting` set, Lightning would treat step 0 as already validated.
        loop.restarting = False
