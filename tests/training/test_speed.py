"""What a full-size training step costs, against the count made of the official networks."""

import warnings

import pytest
import torch
from seesr_runs import small_module

from seesr_pl.checkpoints.stack import random_stack
from seesr_pl.training import SeeSRDiffusion
from seesr_pl.training.speed import Throughput, device_peak_tflops, step_flops

GIGA = 10**9


@pytest.fixture(scope="module")
def stack():
    with torch.device("meta"):
        return random_stack()


@pytest.mark.slow
def test_the_paper_trains_749_88_million_parameters(stack):
    module = SeeSRDiffusion(stack)
    assert sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad) == 749_881_040


@pytest.mark.slow
def test_a_full_size_step_costs_what_the_official_one_does(stack):
    flops = step_flops(SeeSRDiffusion(stack), size=512)
    assert flops.networks == pytest.approx(4136 * GIGA, rel=0.02)
    assert flops.total - flops.tags == pytest.approx(5506 * GIGA, rel=0.02)


@pytest.mark.slow
def test_tagging_costs_in_proportion_to_the_prompts_that_are_kept():
    always, half = (step_flops(small_module(prompt_drop_probability=p), size=64).tags for p in (0.0, 0.5))
    assert half == pytest.approx(always / 2, abs=1)
    assert step_flops(small_module(tags="shards"), size=64).tags == 0


@pytest.mark.slow
def test_recomputation_is_not_counted():
    plain, recomputing = (step_flops(small_module(gradient_checkpointing=flag), size=64) for flag in (False, True))
    assert recomputing == plain


@pytest.mark.slow
def test_what_is_left_out_of_the_step_is_not_counted():
    whole, bare = step_flops(small_module(), size=64), step_flops(small_module(rca=False), size=64)
    assert (bare.vae, bare.text, bare.representation) == (whole.vae, whole.text, 0)
    assert bare.networks < whole.networks


@pytest.mark.parametrize(
    ("name", "tflops"),
    [("NVIDIA H200", 989.0), ("NVIDIA H100 NVL", 835.0), ("NVIDIA L40S", 362.0), ("Tesla T4", None)],
)
def test_the_peak_of_a_device_is_known_by_its_name(name, tflops, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert device_peak_tflops(torch.device("cuda")) == tflops


def test_a_wait_for_data_that_lasts_is_told_once():
    callback = Throughput()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for data_wait in (0.5, 0.5, 0.1, 0.3, 0.3):
            callback._warn(data_wait)
        assert not told
        for _ in range(3):
            callback._warn(0.4)
    assert [str(one.message).partition(":")[0] for one in told] == ["the run waits for data 40% of the time"]
