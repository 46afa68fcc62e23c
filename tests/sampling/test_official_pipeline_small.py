"""The loop against the official pipeline, from its draws: start, each step, tiles, and the decoded image."""

import functools
import json
from types import SimpleNamespace

import official
import pytest
import torch
from diffusers import DDIMScheduler

from seesr_pl.imaging.tensors import to_uint8
from seesr_pl.imaging.tiling import gaussian_weights
from seesr_pl.sampling import denoise, start_latents

VALUES, METADATA = official.recorded("pipeline")
CASES = json.loads(METADATA["cases"])
NUM_STEPS = 3


@pytest.fixture(scope="module")
def networks():
    parts = {"unet": official.unet(), "controlnet": official.controlnet(), "vae": official.vae()}
    return SimpleNamespace(**{name: part.requires_grad_(False) for name, part in parts.items()})


def scheduler(case):
    return DDIMScheduler(**official.SCHEDULER) if CASES[case].get("sched") == "ddim" else official.scheduler()


def lq(case):
    return official.image(f"pipeline/{case}/image", 3, *CASES[case]["size"])[None]


def start(networks, case):
    return start_latents(
        networks.vae,
        lq(case),
        scheduler(case),
        VALUES[f"{case}/noise"],
        start_from={"lr": "lq", "noise": "noise"}[CASES[case]["start"]],
        posterior_noise=VALUES.get(f"{case}/posterior_noise"),
    )


@functools.cache
def texts(case):
    kinds = ("negative", "positive") if CASES[case]["guidance"] > 1 else ("positive",)
    return torch.cat([official.normal(f"pipeline/{case}/{kind}", 1, 77, 32) for kind in kinds])


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case]["start"] == "lr"])
def test_the_start_is_the_official_one(networks, case):
    torch.testing.assert_close(start(networks, case), VALUES[f"{case}/start"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_every_step_is_the_official_one(networks, case, monkeypatch):
    facts, steps, timesteps = CASES[case], [], []
    draws = iter([VALUES[key] for index in range(NUM_STEPS) if (key := f"{case}/step_noise_{index}") in VALUES])
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: next(draws))

    def keep(index, timestep, latents):
        timesteps.append(int(timestep))
        steps.append(latents)
        return latents

    denoise(
        networks.unet,
        networks.controlnet,
        scheduler(case),
        latents=start(networks, case),
        prompt_embeds=texts(case),
        representation=official.normal(f"pipeline/{case}/representation", 1, 17, 512),
        image=lq(case),
        num_inference_steps=NUM_STEPS,
        guidance_scale=facts["guidance"],
        conditioning_scale=facts["cond"],
        tile=facts["tile"],
        overlap=facts["overlap"],
        generator=torch.Generator(),
        on_step=keep,
    )
    assert timesteps == facts["timesteps"]
    for index, latents in enumerate(steps):
        torch.testing.assert_close(latents, VALUES[f"{case}/latents_{index}"], rtol=0, atol=5e-4)


@pytest.mark.parametrize("case", [case for case in CASES if f"{case}/image_u8" in VALUES])
def test_the_decoded_image_is_the_official_one(networks, case):
    image = to_uint8(official.decoded(networks.vae, VALUES[f"{case}/latents_2"]))[0]
    expected = VALUES[f"{case}/image_u8"]
    assert image.shape == expected.shape
    assert (image.int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize("tile", [8, 9])
def test_the_weights_of_a_tile_are_the_official_ones(tile):
    torch.testing.assert_close(gaussian_weights(tile), VALUES[f"gaussian_weights_{tile}"], rtol=0, atol=1e-12)


def test_the_timesteps_of_fifty_steps_are_the_official_ones():
    schedule = official.scheduler()
    schedule.set_timesteps(50)
    assert torch.equal(schedule.timesteps, VALUES["timesteps_50"])
