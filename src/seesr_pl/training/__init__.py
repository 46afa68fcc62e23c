"""Training: one LightningModule per stage, and the callbacks that watch it. Names are imported when first used."""

import logging
import warnings
from typing import TYPE_CHECKING

from seesr_pl.lazy import attributes

if TYPE_CHECKING:
    from seesr_pl.training.callbacks import (
        LossByTimestep,
        ProgressBar,
    )
    from seesr_pl.training.checkpoint_io import AtomicCheckpointIO
    from seesr_pl.training.dape import DAPEDistillation
    from seesr_pl.training.evaluated import log_evaluation
    from seesr_pl.training.exchange import GradientExchange, MatrixProducts
    from seesr_pl.training.gradients import GradientNorm
    from seesr_pl.training.loggers import MetricsCSV
    from seesr_pl.training.optim import sharded
    from seesr_pl.training.phases import Phases
    from seesr_pl.training.ranks import RankTimeout
    from seesr_pl.training.saving import KeptCheckpoints, LastCheckpoint
    from seesr_pl.training.seesr import SeeSRDiffusion
    from seesr_pl.training.speed import Throughput
    from seesr_pl.training.validation import ValidationImages
    from seesr_pl.training.wandb_logger import WandB

__all__ = [
    "AtomicCheckpointIO",
    "DAPEDistillation",
    "GradientExchange",
    "GradientNorm",
    "KeptCheckpoints",
    "LastCheckpoint",
    "LossByTimestep",
    "MatrixProducts",
    "MetricsCSV",
    "Phases",
    "ProgressBar",
    "RankTimeout",
    "SeeSRDiffusion",
    "TagReport",
    "Throughput",
    "ValidationImages",
    "WandB",
    "log_evaluation",
    "sharded",
]
__getattr__ = attributes(
    __name__,
    {
        "AtomicCheckpointIO": "checkpoint_io",
        "DAPEDistillation": "dape",
        "GradientExchange": "exchange",
        "GradientNorm": "gradients",
        "KeptCheckpoints": "saving",
        "LastCheckpoint": "saving",
        "LossByTimestep": "callbacks",
        "MatrixProducts": "exchange",
        "MetricsCSV": "loggers",
        "Phases": "phases",
        "ProgressBar": "callbacks",
        "RankTimeout": "ranks",
        "SeeSRDiffusion": "seesr",
        "TagReport": "callbacks",
        "Throughput": "speed",
        "ValidationImages": "validation",
        "sharded": "optim",
        "WandB": "wandb_logger",
        "log_evaluation": "evaluated",
    },
)

# Intended: frozen parts stay in eval mode, and a sample's keys stay on the CPU.
warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode at the start of training")
warnings.filterwarnings("ignore", message="You have overridden `transfer_batch_to_device` in `LightningModule`")
# A run that resumes finds its own checkpoints; the second is Lightning's own call.
warnings.filterwarnings("ignore", message=r"Checkpoint directory .* exists and is not empty")
warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")


def _is_wanted(record: logging.LogRecord) -> bool:
    """Whether a message of Lightning is more than advice to install another product."""
    return not any(name in record.getMessage() for name in ("litlogger", "litmodels"))


logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_wanted)
