"""What learns: one LightningModule per stage, and the callbacks that watch it."""

import warnings

from seesr_pl.training.seesr import SeeSRDiffusion

__all__ = ["SeeSRDiffusion"]

# Both are meant: what is frozen stays in eval mode, and a sample's keys stay on the CPU.
warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode at the start of training")
warnings.filterwarnings("ignore", message="You have overridden `transfer_batch_to_device` in `LightningModule`")
