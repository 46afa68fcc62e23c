"""A run stopped anywhere and resumed in other micro batches takes the same samples in the same optimizer steps."""

import warnings
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from seesr_pl.data import ShardDataModule, ShardSource, ShardWriter
from seesr_pl.degradation import NoDegradation

GLOBAL_BATCH = 12
MAX_STEPS = 9
VALIDATE_EVERY = 3


class Stopped(Exception):
    """Stands for a kill."""


class Recorder(pl.LightningModule):
    """One weight, and a record of what it was trained on."""

    def __init__(self, stop_at: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
        self.stop_at = stop_at
        self.trained: list[tuple[int, list[int], list[int]]] = []
        self.validated: list[int] = []
        self.logged_steps: dict[int, int] = {}

    def training_step(self, batch, batch_idx):
        accumulated = self.trainer.accumulate_grad_batches
        if self.stop_at == (self.global_step, batch_idx % accumulated):
            raise Stopped
        self.logged_steps[self.global_step] = self.trainer.fit_loop.epoch_loop._batches_that_stepped
        self.trained.append((self.global_step, batch["epoch"].tolist(), batch["sample_id"].tolist()))
        target = batch["hq"].double().mean(dim=(0, 1, 2)) / 255
        return ((self.weight - target) ** 2).sum()

    def validation_step(self, batch, batch_idx):
        if not self.trainer.sanity_checking:
            self.validated.append(self.global_step)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def run(
    urls: str,
    folder: Path,
    micro_batch_size: int,
    *,
    global_batch_size=GLOBAL_BATCH,
    stop_at=None,
    ckpt=None,
    max_steps=MAX_STEPS,
    callbacks=None,
):
    data = ShardDataModule(
        [ShardSource(urls)],
        validation_sources=[ShardSource(urls, limit=2)],
        global_batch_size=global_batch_size,
        micro_batch_size=micro_batch_size,
        num_workers=0,
        crop_size=32,
        degradation=NoDegradation(),
    )
    module = Recorder(stop_at)
    every_step = ModelCheckpoint(dirpath=folder, filename="last", every_n_train_steps=1, enable_version_counter=False)
    accumulation = data.accumulation(1)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=max_steps,
        accumulate_grad_batches=accumulation,
        val_check_interval=VALIDATE_EVERY * accumulation,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=callbacks or [every_step],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if stop_at is None:
            trainer.fit(module, datamodule=data, ckpt_path=ckpt, weights_only=False)
        else:
            with pytest.raises(Stopped):
                trainer.fit(module, datamodule=data, ckpt_path=ckpt, weights_only=False)
    return trainer, module, data


def by_step(module: Recorder) -> dict[int, list[tuple[int, int]]]:
    steps: dict[int, list[tuple[int, int]]] = {}
    for step, epochs, samples in module.trained:
        steps.setdefault(step, []).extend(zip(epochs, samples, strict=True))
    return steps


@pytest.fixture(scope="module")
def urls(tmp_path_factory, encoded):
    folder = tmp_path_factory.mktemp("shards")
    with ShardWriter(folder, max_samples=7) as writer:
        for number in range(31):
            writer.write(f"k{number}", encoded(number, size=(40, 36)), extension="png")
    return str(folder / "*.tar")


@pytest.fixture(scope="module")
def uninterrupted(urls, tmp_path_factory):
    return run(urls, tmp_path_factory.mktemp("whole"), 4)


def test_every_step_takes_the_next_global_batch(uninterrupted):
    trainer, module, data = uninterrupted
    steps = by_step(module)
    stream = [data.train_dataset.slot(position) for position in range(MAX_STEPS * GLOBAL_BATCH)]
    assert [slot for step in sorted(steps) for slot in steps[step]] == stream
    assert trainer.global_step == MAX_STEPS
    assert data.samples_consumed == MAX_STEPS * GLOBAL_BATCH


def test_the_loader_is_as_long_as_the_run(uninterrupted):
    trainer, _, _ = uninterrupted
    assert trainer.num_training_batches == MAX_STEPS * 3


def test_validation_runs_every_so_many_steps(uninterrupted):
    assert sorted(set(uninterrupted[1].validated)) == [3, 6, 9]


@pytest.mark.parametrize(("stop_at", "micro_batch_size"), [((4, 0), 2), ((4, 1), 12), ((3, 0), 4), ((6, 2), 6)])
def test_a_killed_run_goes_on_as_if_never_stopped(uninterrupted, urls, tmp_path, stop_at, micro_batch_size):
    _, whole, _ = uninterrupted
    run(urls, tmp_path, 4, stop_at=stop_at)
    trainer, resumed, data = run(urls, tmp_path, micro_batch_size, ckpt=tmp_path / "last.ckpt")
    expected = {step: samples for step, samples in by_step(whole).items() if step >= stop_at[0]}
    assert by_step(resumed) == expected
    assert trainer.global_step == MAX_STEPS
    assert trainer.fit_loop.epoch_loop.batch_progress.current.completed == MAX_STEPS * data.accumulation(1)
    assert sorted(set(resumed.validated)) == [step for step in (3, 6, 9) if step > stop_at[0]]
    torch.testing.assert_close(resumed.weight, whole.weight, rtol=0, atol=1e-12)
    assert resumed.logged_steps == {step: step for step in range(stop_at[0], MAX_STEPS)}


def test_a_checkpoint_within_a_step_goes_on_at_its_beginning(uninterrupted, urls, tmp_path):
    _, whole, _ = uninterrupted

    class SaveWithin(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if batch_idx == 4 * 3 + 1:
                trainer.save_checkpoint(tmp_path / "within.ckpt")

    run(urls, tmp_path, 4, stop_at=(5, 0), callbacks=[SaveWithin()])
    _, resumed, _ = run(urls, tmp_path, 6, ckpt=tmp_path / "within.ckpt")
    assert by_step(resumed) == {step: samples for step, samples in by_step(whole).items() if step >= 4}
    torch.testing.assert_close(resumed.weight, whole.weight, rtol=0, atol=1e-12)


def test_a_checkpoint_before_the_first_step_goes_on_at_the_beginning(uninterrupted, urls, tmp_path):
    _, whole, _ = uninterrupted

    class SaveAtOnce(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if batch_idx == 0:
                trainer.save_checkpoint(tmp_path / "first.ckpt")

    run(urls, tmp_path, 4, stop_at=(0, 1), callbacks=[SaveAtOnce()])
    _, resumed, _ = run(urls, tmp_path, 2, ckpt=tmp_path / "first.ckpt")
    assert by_step(resumed) == by_step(whole)
    assert resumed.validated == [3, 6, 9]
    assert resumed.logged_steps == whole.logged_steps == {step: step for step in range(MAX_STEPS)}


def test_a_finished_run_can_be_made_longer(uninterrupted, urls, tmp_path):
    _, whole, _ = uninterrupted
    run(urls, tmp_path, 4, max_steps=5)
    _, resumed, _ = run(urls, tmp_path, 6, ckpt=tmp_path / "last.ckpt")
    assert by_step(resumed) == {step: samples for step, samples in by_step(whole).items() if step >= 5}
    torch.testing.assert_close(resumed.weight, whole.weight, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("global_batch_size", "micro_batch_size"), [(6, 3), (20, 4)])
def test_a_run_goes_on_in_the_stream_with_another_global_batch(urls, tmp_path, global_batch_size, micro_batch_size):
    run(urls, tmp_path, 4, stop_at=(4, 1))
    sizes = {"micro_batch_size": micro_batch_size, "global_batch_size": global_batch_size}
    _, resumed, data = run(urls, tmp_path, ckpt=tmp_path / "last.ckpt", **sizes)
    steps = by_step(resumed)
    assert {step: len(samples) for step, samples in steps.items()} == dict.fromkeys(range(4, 9), global_batch_size)
    consumed = range(4 * GLOBAL_BATCH, 4 * GLOBAL_BATCH + 5 * global_batch_size)
    assert [slot for step in sorted(steps) for slot in steps[step]] == list(map(data.train_dataset.slot, consumed))
    _, again, _ = run(urls, tmp_path, 4, max_steps=MAX_STEPS + 1, ckpt=tmp_path / "last.ckpt")
    first = consumed[-1] + 1
    expected = [data.train_dataset.slot(position) for position in range(first, first + GLOBAL_BATCH)]
    assert by_step(again) == {MAX_STEPS: expected}


def test_a_finished_run_trains_no_more(urls, tmp_path):
    run(urls, tmp_path, 4, max_steps=2)
    _, resumed, _ = run(urls, tmp_path, 4, max_steps=2, ckpt=tmp_path / "last.ckpt")
    assert resumed.trained == []
