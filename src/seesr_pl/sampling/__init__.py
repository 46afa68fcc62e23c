"""Restoring pictures: the start latent, the loop, and the whole pipeline. The pipeline is imported when first used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seesr_pl.sampling.denoising import denoise, start_latents
    from seesr_pl.sampling.pipeline import SeeSRPipeline

__all__ = ["SeeSRPipeline", "denoise", "start_latents"]
_MODULES = {"SeeSRPipeline": "pipeline", "denoise": "denoising", "start_latents": "denoising"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
