"""What is logged of a run, and what it leaves on disk."""

import math
import re

import cv2
import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from seesr_runs import losses_of, random_batch, small_module
from torch.utils.data import DataLoader

from seesr_pl.evaluation.metrics import psnr_y
from seesr_pl.training import AtomicCheckpointIO, GradientNorm, LastCheckpoint, speed
from seesr_pl.training.callbacks import LossByTimestep, ProgressBar
from seesr_pl.training.loggers import MetricsCSV
from seesr_pl.training.speed import Throughput, step_flops
from seesr_pl.training.validation import ValidationImages

NUM_STEPS, ACCUMULATION = 3, 2
WAIT, WORK = 0.1, 0.3
"""Seconds on the test's clock that a micro batch and its step take."""


class Batches(torch.utils.data.Dataset):
    def __init__(self, batches, clock=None):
        self.batches, self.clock = batches, clock

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        if self.clock is not None:
            self.clock.now += WAIT
        return self.batches[index]


class Clock:
    """Stands still but for what data and training steps take."""

    now = 0.0

    def perf_counter(self):
        return self.now


class Recorder(CSVLogger):
    """Lightning's own logger, that also keeps what it was given."""

    def __init__(self, folder):
        super().__init__(folder)
        self.rows = []

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, dict(metrics)))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny run with every callback; returns the folder, the module and what was logged by name."""
    folder = tmp_path_factory.mktemp("run")
    batches = [random_batch([2 * k, 2 * k + 1]) for k in range(NUM_STEPS * ACCUMULATION)]
    logger = Recorder(folder)
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        max_steps=NUM_STEPS,
        accumulate_grad_batches=ACCUMULATION,
        gradient_clip_val=1.0,
        log_every_n_steps=1,
        val_check_interval=NUM_STEPS * ACCUMULATION,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=logger,
        plugins=[AtomicCheckpointIO()],
        callbacks=[
            LastCheckpoint(folder / "checkpoints", every_n_steps=2),
            LearningRateMonitor("step"),
            GradientNorm(),
            LossByTimestep(num_bins=4),
            Throughput(),
            ValidationImages(folder / "validation", num_images=3, num_shown=2, sampler={"num_inference_steps": 2}),
        ],
    )
    module = small_module(warmup_steps=10)
    training = DataLoader(Batches(batches), batch_size=None)
    trainer.fit(
        module, training, DataLoader(Batches([random_batch([50, 51]), random_batch([52, 53])]), batch_size=None)
    )
    logged = {}
    for step, metrics in logger.rows:
        for name, value in metrics.items():
            logged.setdefault(name, {})[step] = float(value)
    return folder, module, logged


def test_the_bar_counts_optimizer_steps_and_shows_loss_rate_and_time_left(tmp_path, capsys):
    batches = [random_batch([k]) for k in range(NUM_STEPS * ACCUMULATION)]
    trainer = Trainer(
        accelerator="cpu",
        max_steps=NUM_STEPS,
        accumulate_grad_batches=ACCUMULATION,
        logger=MetricsCSV(tmp_path),
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[ProgressBar(refresh_rate=1)],
    )
    trainer.fit(small_module(), DataLoader(Batches(batches), batch_size=None))
    last = capsys.readouterr().out.split("\r")[-1]
    assert re.search(rf"training: 100%.* {NUM_STEPS}/{NUM_STEPS} \[[\d:]+<00:00, .* steps/s, loss=\d", last)
    assert "v_num" not in last


def test_the_logged_loss_is_the_mean_over_the_micro_batches_of_the_step(run):
    logged = run[2]["train/loss"]
    fresh = small_module()
    with torch.no_grad():
        losses = torch.cat([losses_of(fresh, random_batch([2 * k, 2 * k + 1]))[0] for k in range(ACCUMULATION)])
    assert len(logged) == NUM_STEPS
    assert logged[min(logged)] == pytest.approx(losses.mean().item(), rel=1e-4)


def test_the_losses_by_timestep_make_up_the_loss(run):
    logged = run[2]
    first = min(logged["train/loss"])
    fresh = small_module()
    with torch.no_grad():
        pairs = [losses_of(fresh, random_batch([2 * k, 2 * k + 1])) for k in range(ACCUMULATION)]
    losses, timesteps = (torch.cat(column) for column in zip(*pairs, strict=True))
    assert sum(len(values) for name, values in logged.items() if name.startswith("loss_by")) < 4 * NUM_STEPS
    for index, name in enumerate(("000-249", "250-499", "500-749", "750-999")):
        inside = timesteps // 250 == index
        found = logged.get(f"loss_by_timestep/{name}", {}).get(first)
        assert (found is not None) == bool(inside.any())
        if found is not None:
            assert found == pytest.approx(losses[inside].mean().item(), rel=1e-4)


@pytest.mark.parametrize("name", ["train/grad_norm", "lr-AdamW", "speed/images_per_second", "memory/peak_gib"])
def test_a_positive_number_is_logged_at_every_step(run, name):
    assert len(run[2][name]) == NUM_STEPS
    assert all(value > 0 and math.isfinite(value) for value in run[2][name].values())


def test_the_learning_rate_warms_up(run):
    assert [round(value / 5e-6) for _, value in sorted(run[2]["lr-AdamW"].items())] == [1, 2, 3]


def test_waiting_for_data_is_told_from_work(tmp_path, monkeypatch):
    clock, logger = Clock(), Recorder(tmp_path)
    monkeypatch.setattr(speed, "time", clock)
    module = small_module()
    step = module.training_step

    def slow_step(batch, batch_idx):
        clock.now += WORK
        return step(batch, batch_idx)

    monkeypatch.setattr(module, "training_step", slow_step)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=2,
        accumulate_grad_batches=ACCUMULATION,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=logger,
        callbacks=[Throughput()],
    )
    batches = [random_batch([2 * k, 2 * k + 1], size=32) for k in range(10)]
    trainer.fit(module, DataLoader(Batches(batches, clock), batch_size=None))
    (last,) = [row for step, row in logger.rows if step == 1 and "speed/data_wait" in row]
    assert last["speed/data_wait"] == pytest.approx(WAIT / (WAIT + WORK))
    assert last["speed/images_per_second"] == pytest.approx(2 / (WAIT + WORK))


@pytest.mark.slow
def test_model_flops_utilisation_is_what_the_speed_says(tmp_path):
    logger = Recorder(tmp_path)
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=tmp_path,
        max_steps=1,
        log_every_n_steps=1,
        logger=logger,
        callbacks=[Throughput(peak_tflops=1.0)],
    )
    module = small_module()
    trainer.fit(module, DataLoader(Batches([random_batch([0, 1])]), batch_size=None))
    logged = next(metrics for _, metrics in logger.rows if "speed/mfu" in metrics)
    expected = logged["speed/images_per_second"] * step_flops(module, size=64).total / 1e12
    assert logged["speed/mfu"] == pytest.approx(expected, rel=1e-3)


def test_validation_scores_stand_beside_those_of_bicubic(run):
    logged = run[2]
    assert {f"val/{name}" for name in ("loss", "psnr_y", "ssim_y", "bicubic_psnr_y", "bicubic_ssim_y")} <= set(logged)
    expected = []
    for number in (50, 51, 52):
        batch = random_batch([number])
        lq = batch["lq"].permute(0, 3, 1, 2).float() / 255
        image = torch.nn.functional.interpolate(lq, 64, mode="bicubic", align_corners=False).clamp(0, 1)
        bicubic = (image * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        expected.append(psnr_y(bicubic[0].numpy(), batch["hq"][0].numpy()))
    (found,) = logged["val/bicubic_psnr_y"].values()
    assert found == pytest.approx(sum(expected) / 3, rel=1e-5)


def test_a_picture_shows_lq_restored_and_hq_side_by_side(run):
    (path,) = (run[0] / "validation").glob("*.png")
    panel = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    hq = random_batch([50])["hq"][0].numpy().repeat(4, 0).repeat(4, 1)  # enlarged to be legible
    column = panel[:, -256 - 8 : -8]  # the last of three, within a margin
    assert panel.shape[1] >= 3 * 256
    assert any((column[top : top + 256] == hq).all() for top in range(len(column) - 255))


def test_the_checkpoint_of_the_last_step_holds_what_trains_and_loads_without_pickle(run):
    folder, module, _ = run
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    trainable = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert checkpoint["global_step"] == NUM_STEPS
    assert checkpoint["state_dict"].keys() == trainable.keys()
    assert all(torch.equal(checkpoint["state_dict"][name], trainable[name]) for name in trainable)
    assert set(checkpoint["frozen"]) == {"vae", "text_encoder", "unet", "ram"}


def test_a_checkpoint_made_with_another_text_encoder_is_refused(run):
    checkpoint = torch.load(run[0] / "checkpoints" / "last.ckpt", weights_only=True)
    other = small_module()
    with torch.no_grad():
        next(other.text_encoder.parameters()).mul_(1.001)
    with pytest.raises(ValueError, match=r"text_encoder: .* in the checkpoint, .* here"):
        other.on_load_checkpoint(checkpoint)


def test_a_write_that_is_cut_short_leaves_the_previous_checkpoint(tmp_path):
    path, files = tmp_path / "last.ckpt", AtomicCheckpointIO()
    files.save_checkpoint({"step": 1}, path)
    with pytest.raises(AttributeError):
        files.save_checkpoint({"step": 2, "cannot be pickled": lambda: None}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
