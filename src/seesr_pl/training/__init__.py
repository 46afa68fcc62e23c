"""What learns: one LightningModule per stage, and the callbacks that watch it."""

from seesr_pl.training.seesr import SeeSRDiffusion

__all__ = ["SeeSRDiffusion"]
