"""What is logged as the loss: of all ranks, and of the micro batches of one step alone."""

import pytest
import torch
import torch.distributed as dist
from dape_cases import batch as dape_batch
from dape_cases import tiny_ram
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger
from seesr_runs import random_batch, small_module
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils.data import DataLoader

from seesr_pl.training import GradientNorm
from seesr_pl.training.callbacks import LossByTimestep
from seesr_pl.training.dape import DAPEDistillation

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log")
NUM_STEPS, ACCUMULATION = 2, 2


class Recorder(CSVLogger):
    """Keeps what it is given, by name, in order."""

    def __init__(self, folder):
        super().__init__(folder)
        self.values = {}

    def log_metrics(self, metrics, step=None):
        for name, value in metrics.items():
            self.values.setdefault(name, []).append(float(value))


@pytest.fixture
def one_of_two_ranks():
    """A process group of two ranks without the other one: sums over the ranks are this rank's values."""
    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    yield
    dist.destroy_process_group()


def logged(module, batches, folder, *, callbacks=()):
    logger = Recorder(folder)
    trainer = Trainer(
        accelerator="cpu",
        use_distributed_sampler=False,
        max_steps=NUM_STEPS,
        accumulate_grad_batches=ACCUMULATION,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=logger,
        callbacks=list(callbacks),
    )
    trainer.fit(module, DataLoader(batches, batch_size=None))
    return logger.values


def by_step(values):
    return torch.tensor(values).view(NUM_STEPS, ACCUMULATION).mean(1).tolist()


def seesr_batches():
    return [random_batch([2 * k, 2 * k + 1], size=32) for k in range(NUM_STEPS * ACCUMULATION)]


@pytest.fixture(scope="module")
def seesr_losses():
    """Of each micro batch, by a module that never learns."""
    module = small_module()
    with torch.no_grad():
        return [module.training_step(batch, 0)["loss"].item() for batch in seesr_batches()]


def test_the_loss_of_a_step_is_the_mean_of_its_own_micro_batches(seesr_losses, tmp_path):
    found = logged(small_module(learning_rate=0.0), seesr_batches(), tmp_path)["train/loss"]
    assert found == pytest.approx(by_step(seesr_losses), rel=1e-4)


def test_the_loss_is_the_mean_over_all_ranks(seesr_losses, tmp_path, one_of_two_ranks):
    values = logged(small_module(learning_rate=0.0), seesr_batches(), tmp_path, callbacks=[LossByTimestep(num_bins=1)])
    means = by_step(seesr_losses)
    assert values["train/loss"] == pytest.approx([mean / 2 for mean in means], rel=1e-4)
    # The other rank has no samples.
    assert values["loss_by_timestep/000-999"] == pytest.approx(means, rel=1e-4)


def test_the_gradient_norm_is_that_of_all_micro_batches_before_clipping(tmp_path):
    arguments = {"learning_rate": 0.0}
    found = logged(small_module(**arguments), seesr_batches(), tmp_path, callbacks=[GradientNorm()])["train/grad_norm"]
    module = small_module(**arguments)
    for batch in seesr_batches()[:ACCUMULATION]:
        (module.training_step(batch, 0)["loss"] / ACCUMULATION).backward()
    squares = [p.grad.square().sum() for p in module.parameters() if p.grad is not None]
    assert found[0] == pytest.approx(sum(squares).sqrt().item(), rel=1e-3)


def test_the_losses_of_dape_are_those_of_the_steps_micro_batches(tmp_path):
    batches = [dape_batch(2 * k) for k in range(NUM_STEPS * ACCUMULATION)]
    module = DAPEDistillation(tiny_ram(), learning_rate=0.0)
    with torch.no_grad():
        means = by_step([module.training_step(batch, 0).item() for batch in batches])
    found = logged(DAPEDistillation(tiny_ram(), learning_rate=0.0), batches, tmp_path)["train/loss"]
    assert found == pytest.approx(means, rel=1e-4)
