"""Restoring pictures: the start latent, the loop, and the whole pipeline. The pipeline is imported when first used."""

from typing import TYPE_CHECKING

from seesr_pl.lazy import attributes

if TYPE_CHECKING:
    from seesr_pl.sampling.denoising import denoise, start_latents
    from seesr_pl.sampling.pipeline import SeeSRPipeline

__all__ = ["SeeSRPipeline", "denoise", "start_latents"]
__getattr__ = attributes(__name__, {"SeeSRPipeline": "pipeline", "denoise": "denoising", "start_latents": "denoising"})
