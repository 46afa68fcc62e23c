"""PSNR between results by the official script's unintended behavior and by this project's defaults.

    OMP_NUM_THREADS=1 python benchmarks/restore_recipe.py

On the tiny stack with its shipped weights. Every row compares two restorations of photographs of scikit-image: 10 DDPM
steps, working size 128 instead of 512. PSNR in dB, mean over three images. This is not measured with real weights.
"""

import argparse
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import skimage.data
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from PIL import Image
from torch import Tensor

from seesr_pl.sampling.pipeline import SeeSRPipeline
from seesr_pl.tiny.latent import DCTAutoencoder
from seesr_pl.tiny.stack import tiny_stack

SETTINGS: dict[str, Any] = {"num_inference_steps": 10, "process_size": 128, "batch_size": 1}
SIDE = 32
# What 49, 98, 103 and 107 px are at the official working size of 512: truncation loses a row of latents.
SHORT, SHORT_PROCESS_SIZE = 25, 116
# Latents of photographs have about unit variance; Stable Diffusion's posterior is narrower than this.
WIDTH = 0.1


def main() -> None:
    """Print one Markdown table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    pipe = SeeSRPipeline(*tiny_stack(weights="shipped")._replace(vae=WidePosterior()))
    pipe.set_progress_bar_config(disable=True)
    print("| what differs | PSNR between the two results, dB |\n| --- | --- |")
    for name, pair in rows(pipe).items():
        print(f"| {name} | {mean_psnr(pair)} |", flush=True)


class WidePosterior(DCTAutoencoder):
    """The tiny stack's autoencoder with a posterior of standard deviation WIDTH instead of 0."""

    def encode(self, x: Tensor) -> AutoencoderKLOutput:
        mean = super().encode(x).latent_dist.mean
        moments = torch.cat([mean, torch.full_like(mean, 2 * np.log(WIDTH))], dim=1)
        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(moments))


Pair = Callable[[str], tuple[np.ndarray, np.ndarray]]


def rows(pipe: SeeSRPipeline) -> dict[str, Pair]:
    """Return, for each difference, a function from a photograph's name to both results."""

    def against_default(**changed: Any) -> Pair:
        return lambda name: (restored(pipe, name), restored(pipe, name, **changed))

    def at(side: tuple[int, int], **shared: Any) -> Pair:
        return lambda name: (
            restored(pipe, name, side=side, **shared),
            restored(pipe, name, side=side, recipe="official", **shared),
        )

    return {
        "for scale: another seed": against_default(seed=1),
        "nothing: the same seed again": against_default(),
        "the VAE's posterior noise (width 0.1 put in) from torch's global generator": against_default(
            recipe="official"
        ),
        "one generator for a folder: second image against alone, official": lambda name: after_another(
            pipe, name, recipe="official"
        ),
        "the same, default": lambda name: after_another(pipe, name, recipe="default"),
        f"small input, {SHORT} px: official truncation": at(
            (SHORT, SHORT), start_from="noise", process_size=SHORT_PROCESS_SIZE
        ),
        "sides that are no multiple, 67x65 px, upscale 2: official resize": at((65, 67), start_from="noise", upscale=2),
        "start from noise": against_default(start_from="noise"),
        "color fix wavelet instead of adain": against_default(color_fix="wavelet"),
        "no color fix": against_default(color_fix="none"),
        "latent tiles of 16 with overlap 4": against_default(tile=16),
    }


@functools.cache
def restored(
    pipe: SeeSRPipeline, name: str, *, side: tuple[int, int] = (SIDE, SIDE), seed: int = 0, **changed: Any
) -> np.ndarray:
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    return np.asarray(pipe(photograph(name, side), generator=generator, **(SETTINGS | changed)).images[0])


def after_another(pipe: SeeSRPipeline, name: str, *, recipe: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the result of an image alone, and of the same image as the second of a folder."""
    alone = restored(pipe, name, recipe=recipe)
    torch.manual_seed(0)
    folder = [photograph("rocket", (SIDE, SIDE)), photograph(name, (SIDE, SIDE))]
    both = pipe(folder, generator=torch.Generator().manual_seed(0), recipe=recipe, **SETTINGS)
    return alone, np.asarray(both.images[1])


def photograph(name: str, side: tuple[int, int]) -> np.ndarray:
    """Return the middle of a photograph, shrunk to (height, width)."""
    image = Image.fromarray(getattr(skimage.data, name)())
    left, top = (image.width - 256) // 2, (image.height - 256) // 2
    return np.asarray(image.crop((left, top, left + 256, top + 256)).resize(side[::-1], Image.Resampling.BOX))


def mean_psnr(pair: Pair) -> str:
    values = []
    for name in ("astronaut", "chelsea", "coffee"):
        first, second = (image.astype(float) for image in pair(name))
        error = np.square(first - second).mean()
        values.append(10 * np.log10(255**2 / error) if error else np.inf)
    return "equal" if np.isinf(values).all() else f"{np.mean(values):.1f}"


if __name__ == "__main__":
    main()
