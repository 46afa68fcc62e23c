"""The loop against the official pipeline."""

import copy

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, UniPCMultistepScheduler

from seesr_pl.imaging.tensors import to_float, to_uint8
from seesr_pl.models.denoiser import decode, encode
from seesr_pl.sampling import denoise, start_latents

CASES = ["untiled_lr", "untiled_noise", "untiled_lr_ddim", "tiled_lr", "vae_tiled_lr"]


def start(recording, case, generator):
    """The official start latent; the first draw of the posterior's noise is the one that counts."""
    values, facts = recording.values, recording.cases[case]
    noise = torch.randn(recording.draws(case)[0].shape, generator=generator)
    torch.testing.assert_close(noise, recording.draws(case)[0], rtol=0, atol=0)
    return start_latents(
        recording.vae,
        to_float(values[f"{case}/in/image_u8"][None]),
        recording.scheduler(case),
        noise,
        start_from={"lr": "lq", "noise": "noise"}[facts["start_point"]],
        posterior_noise=recording.draws(case)[1][:1],
    )


def restore(recording, case, latents, generator, **changes):
    values, facts = recording.values, recording.cases[case]
    settings = {
        "latents": latents,
        "prompt_embeds": values[f"{case}/mid/prompt_embeds"],
        "representation": values[f"{case}/mid/ram_states_cfg"][:1],
        "image": to_float(values[f"{case}/in/image_u8"][None]),
        "num_inference_steps": facts["n"],
        "guidance_scale": facts["guidance"],
        "conditioning_scale": facts["cond_scale"],
        "tile": facts["lts"],
        "overlap": facts["lto"],
        "generator": generator,
    }
    scheduler = recording.scheduler(case)
    return denoise(recording.unet, recording.controlnet, scheduler, **settings | changes)


def seeded(recording, case):
    return torch.Generator().manual_seed(recording.cases[case]["generator_seed"])


@pytest.mark.parametrize("case", CASES)
def test_every_step_equals_the_official_pipeline(recording, case):
    generator = seeded(recording, case)
    latents = start(recording, case, generator)
    if recording.cases[case]["enc"] == 96:  # official tiles of the VAE, which are not ours
        latents = recording.values[f"{case}/mid/lre_start_latents"]
    steps = []
    restore(recording, case, latents, generator, on_step=lambda index, timestep, step: steps.append(step) or step)
    for index, latents in enumerate(steps):
        expected = recording.values[f"{case}/step{index}/latents_after"]
        torch.testing.assert_close(latents, expected, rtol=0, atol=5e-4)
    assert len(steps) == 3


@pytest.mark.parametrize("case", ["untiled_lr", "untiled_lr_ddim", "tiled_lr"])
def test_start_from_the_low_quality_picture_equals_the_official_one(recording, case):
    latents = start(recording, case, seeded(recording, case))
    torch.testing.assert_close(latents, recording.values[f"{case}/mid/lre_start_latents"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", ["untiled_lr", "untiled_noise", "tiled_lr"])
def test_the_decoded_picture_equals_the_official_one(recording, case):
    image = to_uint8(decode(recording.vae, recording.values[f"{case}/step2/latents_after"]))[0]
    difference = (image.int() - recording.values[f"{case}/out/image_u8"].int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 4e-4


def test_timesteps_are_the_official_ones(recording):
    scheduler = recording.scheduler("untiled_lr")
    scheduler.set_timesteps(50)
    torch.testing.assert_close(scheduler.timesteps, recording.values["sched/ddpm_timesteps_50"], rtol=0, atol=0)


def test_without_posterior_noise_the_start_takes_the_mean(recording):
    image = torch.rand(1, 3, 64, 64)
    scheduler = recording.scheduler("untiled_lr")
    latents = start_latents(recording.vae, image, scheduler, torch.zeros(1, 4, 8, 8), start_from="lq")
    torch.testing.assert_close(latents, scheduler.alphas_cumprod[-1] ** 0.5 * encode(recording.vae, image))


@pytest.mark.parametrize(
    "change",
    [{"cache": True}, {"tile_batch_size": 1}, {"tile_batch_size": 6}, {"guidance_in_one_batch": False}],
    ids=str,
)
@pytest.mark.parametrize("case", ["untiled_lr", "tiled_lr"])
def test_how_the_work_is_batched_does_not_change_the_result(recording, case, change):
    latents = recording.values[f"{case}/mid/lre_start_latents"]
    result = restore(recording, case, latents, None, num_inference_steps=1, **change)
    expected = restore(recording, case, latents, None, num_inference_steps=1, cache=False)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-4)


def test_caches_change_no_bit_and_are_taken_out_again(recording):
    names = list(dict(recording.unet.named_modules()))
    latents = recording.values["untiled_lr/mid/lre_start_latents"]
    results = [
        restore(recording, "untiled_lr", latents, seeded(recording, "untiled_lr"), cache=cache) for cache in (0, 1)
    ]
    assert torch.equal(*results)
    assert list(dict(recording.unet.named_modules())) == names


def test_without_guidance_one_half_is_enough(recording):
    latents = recording.values["untiled_lr/mid/lre_start_latents"]
    embeds = recording.values["untiled_lr/mid/prompt_embeds"]
    plain, none_of_the_steps = (
        restore(recording, "untiled_lr", latents, seeded(recording, "untiled_lr"), **options)
        for options in ({"guidance_scale": 1.0, "prompt_embeds": embeds[1:]}, {"guidance_fraction": 0.0})
    )
    torch.testing.assert_close(plain, none_of_the_steps, rtol=0, atol=1e-5)


def test_a_picture_in_a_batch_is_restored_as_alone(recording):
    values = recording.values
    latents = torch.cat([values["untiled_lr/mid/lre_start_latents"], values["untiled_noise/draws/00_randn_generator"]])
    embeds = values["untiled_lr/mid/prompt_embeds"]
    images = to_float(torch.stack([values["untiled_lr/in/image_u8"], values["untiled_noise/in/image_u8"].flip(1)]))
    representation = torch.cat([values["ram_encoder_hidden_states"], values["ram_encoder_hidden_states"].flip(1)])
    together = restore(
        recording,
        "untiled_lr",
        latents,
        [torch.Generator().manual_seed(seed) for seed in (1, 2)],
        prompt_embeds=embeds.repeat_interleave(2, 0),
        image=images,
        representation=representation,
        tile=8,
    )
    for row in (0, 1):
        alone = restore(
            recording,
            "untiled_lr",
            latents[row : row + 1],
            torch.Generator().manual_seed(row + 1),
            image=images[row : row + 1],
            representation=representation[row : row + 1],
            tile=8,
        )
        torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-4)


@pytest.mark.parametrize("cls", [DPMSolverMultistepScheduler, UniPCMultistepScheduler, EulerDiscreteScheduler])
def test_the_first_input_of_the_network_is_the_same_for_every_scheduler(recording, cls):
    image = to_float(recording.values["untiled_lr/in/image_u8"][None])
    noise = recording.values["untiled_lr/draws/00_randn_generator"]
    inputs = []
    for scheduler in (recording.scheduler("untiled_lr"), cls.from_config(recording.scheduler_config)):
        scheduler.set_timesteps(8)
        latents = start_latents(recording.vae, image, scheduler, noise, start_from="lq")
        inputs.append(scheduler.scale_model_input(latents, scheduler.timesteps[0]))
    # Euler's init_noise_sigma leaves out the signal's own variance: 0.24 %.
    torch.testing.assert_close(inputs[1], inputs[0], rtol=3e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": torch.rand(1, 3, 60, 128)}, "whole number of times"),
        ({"representation": torch.rand(2, 17, 512)}, "once for each"),
        ({"prompt_embeds": torch.rand(1, 77, 32)}, r"needs 2: \[negative; positive\]"),
        ({"tile": 8, "overlap": 8}, "overlap=8"),
    ],
)
def test_wrong_shapes_are_named(recording, change, message):
    latents = recording.values["untiled_lr/mid/lre_start_latents"]
    with pytest.raises(ValueError, match=message):
        restore(recording, "untiled_lr", latents, None, **change)


def test_the_networks_may_be_half_precision(recording):
    latents = recording.values["untiled_lr/mid/lre_start_latents"]
    half = recording._replace(
        unet=copy.deepcopy(recording.unet).bfloat16(), controlnet=copy.deepcopy(recording.controlnet).bfloat16()
    )
    result = restore(half, "untiled_lr", latents, seeded(recording, "untiled_lr"))
    expected = recording.values["untiled_lr/step2/latents_after"]
    assert result.dtype == torch.float32
    assert (result - expected).std() < 0.5 * expected.std()
