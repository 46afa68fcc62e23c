"""What one training step of SeeSR draws, sees and is told, observed at its networks, on stock parts."""

import keyed_cases
import pytest
import torch
from seesr_runs import random_batch
from stacks import Listener, small_stack
from torch.nn.functional import interpolate

from seesr_pl import keyed
from seesr_pl.models.ram import MEAN, STD
from seesr_pl.training import SeeSRDiffusion

# There is no trainer to log to.
pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log")
SIZE = 64
KEYS = {"seed": 7, "epochs": torch.tensor([2, 2]), "sample_ids": torch.tensor([3, 5])}


@pytest.fixture(scope="module")
def stack():
    return small_stack()


def step(stack, sample_ids=(3, 5), *, epoch=2, **arguments):
    """What `training_step` returns."""
    module = SeeSRDiffusion(stack, seed=KEYS["seed"], **arguments)
    with torch.no_grad():
        return module.training_step(random_batch(list(sample_ids), epoch=epoch, size=SIZE), 0)


@pytest.fixture
def noised(stack, monkeypatch):
    """(latents, noise, timesteps) of each call of the scheduler's `add_noise`."""
    calls, add_noise = [], stack.scheduler.add_noise

    def record(latents, noise, timesteps):
        calls.append((latents, noise, timesteps))
        return add_noise(latents, noise, timesteps)

    monkeypatch.setattr(stack.scheduler, "add_noise", record)
    return calls


def test_noise_and_posterior_noise_are_independent_draws_of_the_sample(stack, noised):
    step(stack)
    ((latents, noise, _),) = noised
    with torch.no_grad():
        posterior = stack.vae.encode(images("hq") * 2 - 1).latent_dist
    drawn = (latents / stack.vae.config.scaling_factor - posterior.mean) / posterior.std
    for found, purpose in ((noise, "noise"), (drawn, "posterior")):
        expected = keyed.normal(noise.shape[1:], purpose=purpose, **KEYS)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
    assert torch.corrcoef(torch.stack([noise.flatten(), drawn.flatten()]))[0, 1].abs() < 0.2


@pytest.mark.parametrize("timestep", [0, 999])
def test_timesteps_reach_both_ends_of_the_schedule(stack, timestep):
    sample_id = keyed_cases.sample_whose_timestep_is(timestep, seed=KEYS["seed"], epoch=2)
    assert step(stack, [sample_id])["timesteps"].tolist() == [timestep]


def test_a_step_returns_the_loss_of_each_sample_and_their_mean(stack, noised):
    out = step(stack)
    assert out["losses"].shape == (2,)
    torch.testing.assert_close(out["loss"], out["losses"].mean())
    assert torch.equal(out["timesteps"], noised[0][2])
    assert torch.equal(out["timesteps"], keyed.integers(1000, purpose="timestep", **KEYS))


def test_half_of_the_prompts_are_dropped_by_default(stack):
    below, above = keyed_cases.samples_around_the_chance(0.5, seed=KEYS["seed"], epoch=2, purpose="prompt_drop")
    listener = Listener(stack.text_encoder, stack.tokenizer)
    step(stack, [below, above], tags="shards")
    assert listener.texts == [["", *listener.spelt([f"tag{above},"])]]


def test_the_tagger_sees_the_lq_image_enlarged_and_resized_bicubically(stack):
    seen = []
    handle = stack.ram.visual_encoder.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    step(stack, prompt_drop_probability=0.0)
    handle.remove()
    expected = {"tags": resized(images("hq"), "bilinear"), "representation": resized(enlarged_lq(), "bicubic")}
    assert len(seen) == 2
    for name, pixels in expected.items():
        errors = sorted((found - pixels).abs().max().item() for found in seen)
        assert errors[0] < 1e-5, name
        assert errors[1] > 1e-2, name


def resized(pixels, mode):
    mean, deviation = (torch.tensor(value)[:, None, None] for value in (MEAN, STD))
    return (interpolate(pixels, (96, 96), mode=mode).clamp(0, 1) - mean) / deviation


def test_the_controlnet_sees_the_enlarged_lq_image_and_both_networks_the_same_noise_and_text(stack):
    seen = {}

    def keep(name):
        return lambda module, arguments, keywords: seen.update({name: (arguments, keywords)})

    handles = [
        getattr(stack, name).register_forward_pre_hook(keep(name), with_kwargs=True) for name in ("unet", "controlnet")
    ]
    step(stack)
    for handle in handles:
        handle.remove()
    tensors = {name: [*arguments, *keywords.values()] for name, (arguments, keywords) in seen.items()}
    assert any(
        torch.is_tensor(value)
        and value.shape[1:] == (3, SIZE, SIZE)
        and torch.allclose(value, enlarged_lq(), atol=1e-5)
        for value in tensors["controlnet"]
    )
    for index in range(3):
        assert torch.equal(tensors["unet"][index], tensors["controlnet"][index])


def enlarged_lq():
    return interpolate(images("lq"), (SIZE, SIZE), mode="bicubic").clamp(0, 1)


def images(name):
    return random_batch([3, 5], size=SIZE)[name].permute(0, 3, 1, 2).float() / 255
