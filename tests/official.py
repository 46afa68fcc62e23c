"""The networks of `golden/official`, their weights by its rule, and each inner name of ours that its tests use."""

import functools
import json
import sys
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch
from diffusers import AutoencoderKL, DDPMScheduler
from safetensors import safe_open

from seesr_pl import keyed
from seesr_pl.imaging.tensors import to_uint8
from seesr_pl.models import denoiser, ram_official
from seesr_pl.models.ram import MEAN, RAM, STD, RAMConfig
from seesr_pl.models.seesr import SeeSRControlNet, SeeSRUNet
from seesr_pl.models.stack import SeeSRStack
from seesr_pl.training import SeeSRDiffusion
from seesr_pl.training import dape as training_dape

FOLDER = Path(__file__).parent / "golden" / "official"
sys.path.insert(0, str(FOLDER))
import weights as rule  # noqa: E402

_BOTH = {
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "block_out_channels": [16, 32, 48, 48],
    "layers_per_block": 2,
    "norm_num_groups": 8,
    "attention_head_dim": [2, 4, 6, 12],
    "cross_attention_dim": 32,
    "use_linear_projection": True,
    "in_channels": 4,
}
UNET = {
    **_BOTH,
    "sample_size": 16,
    "out_channels": 4,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}
CONTROLNET = {**_BOTH, "conditioning_embedding_out_channels": [8, 12, 16, 24]}
VAE = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [16, 16, 32, 32],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "latent_channels": 4,
    "sample_size": 64,
    "scaling_factor": 0.18215,
}
SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "steps_offset": 1,
}
TAGGER = RAMConfig(
    image_size=96,
    patch_size=4,
    embed_dim=8,
    depths=(2, 2, 2, 2),
    num_heads=(1, 2, 4, 8),
    window_size=3,
    head_hidden_size=48,
    head_intermediate_size=96,
    head_num_heads=4,
    head_num_layers=2,
)


@functools.cache
def recorded(part):
    """The tensors and the metadata of one file."""
    with safe_open(FOLDER / f"{part}.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118


def normal(name, *shape, scale=1.0):
    """The input of that name."""
    return torch.from_numpy(rule.normal(name, shape)) * scale


def image(name, *shape):
    """The image of that name, in [0, 1]."""
    return torch.from_numpy(rule.picture(name, shape))


def filled(network, name):
    """`network` with the weights of the rule; its state dict must hold parameters only."""
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    network.load_state_dict({key: by_rule(f"{name}.{key}", shape) for key, shape in shapes.items()})
    return network.eval()


def by_rule(name, shape):
    """The parameter of that name."""
    return torch.from_numpy(rule.weight(name, tuple(shape)))


def unet():
    """SeeSR's UNet."""
    return filled(SeeSRUNet.from_config(UNET), "unet")


def controlnet():
    """SeeSR's ControlNet."""
    return filled(SeeSRControlNet.from_config(CONTROLNET), "controlnet")


def vae():
    """Stable Diffusion's autoencoder."""
    return filled(AutoencoderKL.from_config(VAE), "vae")


def scheduler(**changes):
    """The noise schedule of Stable Diffusion 2."""
    return DDPMScheduler(**(SCHEDULER | changes))


def ram(*, dape):
    """The tagger, with DAPE's LoRA or without, through the loader of the published formats."""
    values, metadata = recorded("ram")
    thresholds = values["class_threshold"].tolist()
    network = RAM(TAGGER, [f"tag{index}" for index in range(len(thresholds))], thresholds)
    for load, keys in ((ram_official.load_ram, "base_keys"), (ram_official.load_dape, "lora_keys"))[: 1 + dape]:
        shapes = json.loads(metadata[keys])
        load(network, {key: by_rule(f"ram.{key}", shape) for key, shape in shapes.items()})
    return network


def ram_pixels(name):
    """Normalised pixels of the image `hr` or `lr`."""
    mean, deviation = (torch.tensor(value)[:, None, None] for value in (MEAN, STD))
    return (image(f"ram/{name}", 2, 3, 96, 96) - mean) / deviation


def training_module(prediction_type):
    """The module that trains these networks; its text encoder and its tagger take no part."""
    schedule = scheduler(prediction_type=prediction_type)
    stack = SeeSRStack(vae(), torch.nn.Identity(), None, unet(), controlnet(), ram(dape=False), schedule)
    return SeeSRDiffusion(stack, representation="ram", tags="none")


# From here on: the only uses of inner names of the code under test.


class Step(NamedTuple):
    """What a training step gave: its loss, and the latents that it noised."""

    loss: torch.Tensor
    latents: torch.Tensor


def training_step(module, hq, *, draws, text, representation, image, latents=None):
    """The module's own training step on HQ images in [0, 1], under recorded draws and a given condition.

    `draws` are `noise`, `posterior_noise` and `timesteps`; `latents`, where given, take the place of the encoded ones.
    """
    purposes = {"noise": "noise", "posterior": "posterior_noise", "timestep": "timesteps"}

    def drawn(*_, purpose, **__):
        return draws[purposes[purpose]]

    seen, add_noise = [], module.scheduler.add_noise

    def noised(latents, noise, timesteps):
        seen.append(latents)
        return add_noise(latents, noise, timesteps)

    batch = {"hq": to_uint8(hq), "lq": None, "epoch": None, "sample_id": None, "tags": None}
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(keyed, "normal", drawn))
        stack.enter_context(mock.patch.object(keyed, "integers", drawn))
        stack.enter_context(mock.patch.object(module.scheduler, "add_noise", noised))
        condition = denoiser.Condition(text, representation, image)
        stack.enter_context(mock.patch.object(module, "condition", return_value=condition))
        if latents is not None:
            stack.enter_context(mock.patch("seesr_pl.training.seesr.encode", return_value=latents))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # there is no trainer to log to
        loss = module.training_step(batch, 0)["loss"]
    return Step(loss, seen[0])


def decoded(network, latents, **arguments):
    """Images in [0, 1] of scaled latents; `tile` as a keyword."""
    return denoiser.decode(network, latents, **arguments)


def distillation_losses(student, teacher):
    """DAPE's losses, of the representations and of the logits; each argument is such a pair."""
    return training_dape.distillation_losses(*(training_dape.RAMOutput(*pair) for pair in (student, teacher)))


def dape_from_lora(tensors):
    """LoRA tensors under the official names."""
    prefixed = {name.removeprefix("ram."): tensor for name, tensor in tensors.items()}
    return ram_official.dape_from_lora(prefixed)


def encoded(network, images, **arguments):
    """Scaled latents of images in [0, 1]; `posterior_noise` and `tile` as keywords."""
    return denoiser.encode(network, images, **arguments)
