"""Restoring pictures: the start latent, the loop, and the whole pipeline."""

from seesr_pl.sampling.denoise import denoise, start_latents

__all__ = ["denoise", "start_latents"]
