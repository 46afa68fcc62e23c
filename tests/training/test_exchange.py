"""How gradients are exchanged: the options reach DDP, and bfloat16 halves what is sent."""

import pytest
import torch
import torch.distributed as dist
from lightning import Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.testing._internal.distributed.fake_pg import FakeStore

from seesr_pl.training.exchange import GradientExchange, _in_bfloat16
from seesr_pl.training.optim import sharded


@pytest.fixture
def one_of_two_ranks():
    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    yield
    dist.destroy_process_group()


def test_the_options_reach_ddp_and_one_device_needs_none():
    alone = Trainer(accelerator="cpu", devices=1, logger=False)
    GradientExchange().setup(alone, None, "fit")
    trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False)
    GradientExchange(static_graph=True, bucket_megabytes=7).setup(trainer, None, "fit")
    assert isinstance(trainer.strategy, DDPStrategy)
    found = {name: trainer.strategy._ddp_kwargs[name] for name in ("gradient_as_bucket_view", "static_graph")}
    assert found == {"gradient_as_bucket_view": True, "static_graph": True}
    assert trainer.strategy._ddp_kwargs["bucket_cap_mb"] == 7
    trainer.accumulate_grad_batches = 2
    with pytest.raises(ValueError, match="one micro batch"):
        GradientExchange(static_graph=True).setup(trainer, None, "fit")


@pytest.fixture
def one_rank():
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    yield
    dist.destroy_process_group()


def test_gradients_lie_in_the_buckets_and_travel_in_bfloat16(one_rank):
    layer = nn.Linear(4, 4)
    ddp = nn.parallel.DistributedDataParallel(layer, gradient_as_bucket_view=True)
    sent = []
    ddp.register_comm_hook(None, lambda group, bucket: sent.append(bucket.buffer()) or _in_bfloat16(group, bucket))
    images = torch.randn(2, 4)
    ddp(images).square().sum().backward()
    (buffer,) = sent
    assert layer.weight.grad.untyped_storage().data_ptr() == buffer.untyped_storage().data_ptr()
    found = layer.weight.grad.clone()
    layer.zero_grad()
    layer(images).square().sum().backward()
    assert torch.equal(found, layer.weight.grad.bfloat16().float())
    assert not torch.equal(found, layer.weight.grad)


def test_states_are_cut_among_ranks_and_alone_they_are_not(one_of_two_ranks):
    parameters = [nn.Parameter(torch.ones(3)) for _ in range(4)]
    optimizer = sharded([{"params": parameters[:2], "lr": 0.5}, {"params": parameters[2:]}], lr=0.1)
    for parameter in parameters:
        parameter.grad = torch.ones(3)
    optimizer.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.1]
    assert sum(bool(state) for state in optimizer.optim.state.values()) == 2
    dist.destroy_process_group()
    assert type(sharded(parameters, lr=0.1)) is torch.optim.AdamW
    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())


def test_ddp_takes_the_hook_that_compresses(one_rank):
    model = nn.parallel.DistributedDataParallel(nn.Linear(2, 1, bias=False))
    model.register_comm_hook(None, _in_bfloat16)
    model(torch.tensor([[1.001, 3.0]])).sum().backward()
    assert model.module.weight.grad.tolist() == [[1.0, 3.0]]
