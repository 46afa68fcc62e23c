"""Compiled networks compute what they compute otherwise, in no more graphs than they differ in."""

import numpy as np
import pytest
import torch
from seesr_runs import random_batch, small_module
from stacks import small_stack
from torch._dynamo.utils import counters

from seesr_pl.sampling.pipeline import SeeSRPipeline
from seesr_pl.training import compiling

pytestmark = pytest.mark.slow


@pytest.fixture
def traced(monkeypatch):
    """Compile without generating code: the graphs are those of the real compiler; returns how many there are."""
    torch._dynamo.reset()
    counters.clear()
    compile = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **told: compile(self, backend="eager"))
    yield lambda: counters["stats"]["unique_graphs"]
    torch._dynamo.reset()


@pytest.mark.parametrize("guidance_scale", [1.0, 5.5])
def test_restoring_compiles_each_network_once_with_caches_as_without(traced, guidance_scale):
    lq = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    pipe = SeeSRPipeline(*small_stack(), sampler={"num_inference_steps": 2, "process_size": 64})
    pipe.set_progress_bar_config(disable=True)

    def restored():
        generator = torch.Generator().manual_seed(0)
        return np.asarray(pipe(lq, guidance_scale=guidance_scale, generator=generator, cache=True).images[0])

    expected = restored()
    pipe.unet.compile()
    pipe.controlnet.compile()
    assert np.abs(restored().astype(int) - expected).max() <= 1
    restored()
    assert traced() == 2


@pytest.mark.parametrize(
    ("how", "num_graphs"),
    [
        ({"compile": "whole"}, 2),
        ({"compile": "blocks"}, 9),  # 12 blocks; of two widths, for text or representation, frozen or not
        ({"compile_frozen": "graphs"}, None),
    ],
)
def test_a_compiled_step_has_the_loss_and_gradients_of_a_plain_one(traced, how, num_graphs):
    batch, found = random_batch([1, 2], size=32), []
    for options in ({}, how):
        module = small_module(**options)
        compiling.compile_networks((module.unet, module.controlnet), module.compiled)
        compiling.compile_frozen(module.stack, module.compiled_frozen)
        for _ in range(2):
            module.zero_grad()
            loss = module.training_step(batch, 0)["loss"]
            loss.backward()
        norms = [each.grad.norm() for each in module.parameters() if each.grad is not None]
        found.append(torch.stack([loss.detach(), *norms]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)
    assert num_graphs in (None, traced())
