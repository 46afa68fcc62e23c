"""What a run is said to need is what its networks keep, counted without data."""

import functools

import pytest
import torch
from seesr_runs import HQ_SIZE, small_module
from stacks import small_ram
from torch.autograd.graph import saved_tensors_hooks

from seesr_pl.checkpoints.stack import random_stack
from seesr_pl.data import ShardDataModule
from seesr_pl.models.denoiser import Condition, predict
from seesr_pl.training import DAPEDistillation, SeeSRDiffusion
from seesr_pl.training.estimate import GIB, activations, memory, optimizer_bytes, plan

pytestmark = pytest.mark.whole


def test_activations_counted_without_data_are_those_that_a_forward_pass_keeps():
    module, kept = small_module(), {}
    weights = {parameter.untyped_storage()._cdata for parameter in module.parameters()}
    images = torch.rand(3, 3, HQ_SIZE, HQ_SIZE)
    latents = module.vae.encode(images).latent_dist.mode()
    tokens = torch.zeros(3, module.tokenizer.model_max_length, dtype=torch.int64)
    seen = module.ram.represent(images)
    condition = Condition(module.text_encoder(tokens)[0], seen, images)

    def keep(tensor):
        kept.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        timesteps = torch.zeros(3, dtype=torch.int64)
        predict(module.unet, module.controlnet, latents.detach(), timesteps, condition).square().mean()
    real = sum(tensor.untyped_storage().nbytes() for storage, tensor in kept.items() if storage not in weights)
    found = activations(module, crop_size=HQ_SIZE, precision=None)
    assert (found.once + 3 * found.per_image) * GIB == pytest.approx(real, rel=0.05)
    assert memory(module, micro_batch_size=3, crop_size=HQ_SIZE).activations * GIB == pytest.approx(real, rel=0.05)


def test_recomputation_keeps_less_and_a_dape_is_counted_too():
    plain, recomputing = (
        activations(small_module(gradient_checkpointing=flag), crop_size=HQ_SIZE, precision=None).per_image
        for flag in (False, True)
    )
    assert 0 < recomputing < plain
    assert activations(DAPEDistillation(small_ram()), crop_size=HQ_SIZE, precision=None).per_image > 0


@pytest.mark.parametrize(
    ("optimizer", "on_gpu", "expected"),
    [
        (torch.optim.AdamW, True, (8.0, 4.0)),
        (torch.optim.AdamW, False, (8.0, 0.0)),
        (functools.partial(torch.optim.AdamW, fused=True), True, (8.0, 0.0)),
        (functools.partial(torch.optim.SGD, momentum=0.9), False, (4.0, 0.0)),
    ],
)
def test_an_optimizer_is_measured(optimizer, on_gpu, expected):
    assert optimizer_bytes(optimizer, on_gpu=on_gpu) == expected


def test_several_devices_hold_the_gradients_twice_and_temporary_tensors_only_after_the_activations():
    cut = {"micro_batch_size": 2, "crop_size": HQ_SIZE}
    one, two = (memory(small_module(), num_devices=devices, bucket_view=False, **cut) for devices in (1, 2))
    assert (one.buckets, two.buckets) == (0.0, one.gradients)
    assert one.peak == pytest.approx(sum(one) - one.temporary)
    assert one.activations > one.temporary > 0


def test_a_plan_cuts_the_batch_as_the_run_does():
    data = ShardDataModule([], global_batch_size=24, max_micro_batch_size=5, crop_size=HQ_SIZE)
    found = plan(small_module(), data, num_devices=2, max_steps=3, precision=None, device=torch.device("cpu"))
    assert (found.micro_batches, found.micro_batch_size, found.batch) == (3, 4, 24)
    assert (found.available, found.days) == (None, None)


def test_weights_that_do_not_fit_the_precision_are_refused_before_anything_is_counted():
    data = ShardDataModule([], global_batch_size=2, crop_size=HQ_SIZE)
    with pytest.raises(ValueError, match=r"frozen_dtype=bfloat16 does not fit trainer.precision=32-true"):
        plan(
            small_module(frozen_dtype="bfloat16"),
            data,
            num_devices=1,
            max_steps=3,
            precision="32-true",
            device=torch.device("cpu"),
        )


@pytest.mark.slow
def test_the_full_size_needs_what_the_documents_say():
    with torch.device("meta"):
        module = SeeSRDiffusion(random_stack(), frozen_dtype="bfloat16")
    found = memory(module, micro_batch_size=8, crop_size=512, num_devices=8, precision="bf16-mixed")
    expected = (2.90, 2.79, 2.79, 2.79, 5.59, 2.79, 1.34 + 8 * 1.96)
    assert tuple(found) == pytest.approx(expected, abs=0.05)
