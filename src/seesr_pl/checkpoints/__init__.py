"""Weights: the published formats both ways, the whole stack, and what a run's checkpoint keeps."""

from seesr_pl.checkpoints.official import dape_state_dict, load_dape, load_ram, official_ram, ram_state_dict
from seesr_pl.checkpoints.stack import load_stack

__all__ = ["dape_state_dict", "load_dape", "load_ram", "load_stack", "official_ram", "ram_state_dict"]
