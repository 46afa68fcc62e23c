"""Restoring images: the settings, the start latent, the loop, and the whole pipeline, imported when first used."""

from typing import TYPE_CHECKING

from seesr_pl.lazy import attributes

if TYPE_CHECKING:
    from seesr_pl.sampling.denoising import denoise, start_latents
    from seesr_pl.sampling.pipeline import SeeSRPipeline
    from seesr_pl.sampling.restoring import restore, restore_all
    from seesr_pl.sampling.settings import DPMPP20, OFFICIAL, SAMPLERS, TURBO, UNIPC20, Sampling, sampler

__all__ = [
    "DPMPP20",
    "OFFICIAL",
    "SAMPLERS",
    "TURBO",
    "UNIPC20",
    "Sampling",
    "SeeSRPipeline",
    "denoise",
    "restore",
    "restore_all",
    "sampler",
    "start_latents",
]
_SETTINGS = ("DPMPP20", "OFFICIAL", "SAMPLERS", "TURBO", "UNIPC20", "Sampling", "sampler")
__getattr__ = attributes(
    __name__,
    {
        "SeeSRPipeline": "pipeline",
        "restore": "restoring",
        "restore_all": "restoring",
        "denoise": "denoising",
        "start_latents": "denoising",
        **dict.fromkeys(_SETTINGS, "settings"),
    },
)
