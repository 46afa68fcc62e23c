"""Weights: the published formats both ways, the whole stack, and what a run's checkpoint keeps."""

from seesr_pl.checkpoints.stack import load_stack

__all__ = ["load_stack"]
