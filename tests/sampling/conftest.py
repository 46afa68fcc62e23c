"""The tiny networks that the official pipeline was recorded with."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler
from safetensors.torch import load_file

from seesr_pl.models.seesr import SeeSRControlNet, SeeSRUNet


class Recording(NamedTuple):
    """The networks, every recorded tensor, and the description of the cases."""

    unet: SeeSRUNet
    controlnet: SeeSRControlNet
    vae: AutoencoderKL
    values: dict
    cases: dict
    scheduler_config: dict

    def scheduler(self, case: str):
        cls = {"DDPMScheduler": DDPMScheduler, "DDIMScheduler": DDIMScheduler}[self.cases[case]["sched"]]
        return cls.from_config(self.scheduler_config)

    def draws(self, case: str) -> list:
        names = sorted(name for name in self.values if name.startswith(f"{case}/draws/"))
        return [self.values[name] for name in names]


@pytest.fixture(scope="session")
def recording(golden: Path) -> Recording:
    description = json.loads((golden / "pipeline_tiny.json").read_text())
    return Recording(
        unet=network(SeeSRUNet, golden, "unet"),
        controlnet=network(SeeSRControlNet, golden, "controlnet"),
        vae=autoencoder(golden, description),
        values=load_file(golden / "pipeline_tiny.io.safetensors"),
        cases=description["cases"],
        scheduler_config=description["scheduler_resolved"],
    )


def network(cls, golden, name):
    model = cls.from_config(json.loads((golden / f"{name}_tiny.json").read_text())["config"])
    model.load_state_dict(load_file(golden / f"{name}_tiny.weights.safetensors"))
    return model.eval().requires_grad_(False)


def autoencoder(golden, description):
    vae = AutoencoderKL.from_config(description["vae_config"])
    vae.load_state_dict(load_file(golden / "pipeline_tiny.vae.safetensors"))
    return vae.eval().requires_grad_(False)
