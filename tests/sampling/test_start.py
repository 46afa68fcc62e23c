"""The latent that sampling starts from: which draws make it, and that every scheduler's network meets the same one."""

import numpy as np
import official
import pytest
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, UniPCMultistepScheduler
from PIL import Image
from stacks import small_stack

from seesr_pl.sampling import start_latents
from seesr_pl.sampling.pipeline import SeeSRPipeline

FOREIGN = [DPMSolverMultistepScheduler, UniPCMultistepScheduler, EulerDiscreteScheduler]


@pytest.fixture(scope="module")
def stack():
    return small_stack()


def drawn(*, seed=0):
    return torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("cls", [DDPMScheduler, EulerDiscreteScheduler])
@pytest.mark.parametrize("start_from", ["lq", "noise"])
def test_the_pipeline_starts_from_the_first_draw_and_for_the_lq_image_from_the_second_too(stack, start_from, cls):
    scheduler = cls.from_config(stack.scheduler.config)
    pipeline, seen = SeeSRPipeline(*stack._replace(scheduler=scheduler)), []
    pipeline.set_progress_bar_config(disable=True)
    handle = stack.controlnet.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    levels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    settings = {"num_inference_steps": 1, "guidance_scale": 1.0, "process_size": 64, "tags": ["wood"]}
    generator = torch.Generator().manual_seed(0)
    pipeline(Image.fromarray(levels), start_from=start_from, generator=generator, **settings)
    handle.remove()
    enlarged = np.asarray(Image.fromarray(levels).resize((64, 64), Image.Resampling.BICUBIC))
    image = torch.from_numpy(enlarged.copy()).permute(2, 0, 1)[None] / 255
    generator = torch.Generator().manual_seed(0)
    noise, posterior = (torch.randn(1, 4, 8, 8, generator=generator) for _ in range(2))
    scheduler.set_timesteps(1)
    start = start_latents(stack.vae, image, scheduler, noise, start_from=start_from, posterior_noise=posterior)
    expected = scheduler.scale_model_input(start, scheduler.timesteps[0])
    torch.testing.assert_close(seen[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("start_from", ["lq", "noise"])
@pytest.mark.parametrize("cls", FOREIGN)
def test_the_first_input_of_the_network_is_the_same_for_every_scheduler(stack, cls, start_from):
    noise, posterior = drawn()
    image = official.image("pipeline/untiled_lr/image", 1, 3, 64, 64)
    inputs = []
    for scheduler in (official.scheduler(), cls.from_config(official.scheduler().config)):
        scheduler.set_timesteps(8)
        latents = start_latents(stack.vae, image, scheduler, noise, start_from=start_from, posterior_noise=posterior)
        inputs.append(scheduler.scale_model_input(latents, scheduler.timesteps[0]))
    # Euler's init_noise_sigma leaves out the signal's own variance: 0.24 %.
    torch.testing.assert_close(inputs[1], inputs[0], rtol=3e-3, atol=1e-4)
    assert inputs[0].std() == pytest.approx(1, abs=0.1)
