"""Metrics with a network, from pyiqa (the `[iqa]` extra), with the settings of the published tables."""

import importlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from seesr_pl.evaluation.metrics import RGB


class IQASetting(NamedTuple):
    """The name that pyiqa gives a metric in the setting of the published tables, and how to read its values."""

    pyiqa_name: str
    needs_reference: bool
    higher_is_better: bool


# LPIPS with AlexNet, MUSIQ trained on KonIQ-10k, MANIQA trained on PIPAL: the settings of OSEDiff's test_metrics.py,
# which reports SeeSR beside itself.
IQA_METRICS = {
    "lpips": IQASetting("lpips", True, False),
    "dists": IQASetting("dists", True, False),
    "musiq": IQASetting("musiq", False, True),
    "maniqa": IQASetting("maniqa-pipal", False, True),
    "clipiqa": IQASetting("clipiqa", False, True),
}


def iqa_function(pyiqa_name: str, *, device: str = "cpu") -> Callable[[RGB, RGB | None], float] | str:
    """The pyiqa metric as a function of (sr, hr), or the reason why it cannot be had here."""
    try:
        metric = importlib.import_module("pyiqa").create_metric(pyiqa_name, device=torch.device(device))
    # torchvision beside a torch of another build raises RuntimeError on import; weights without a network, OSError.
    except (ImportError, RuntimeError, OSError) as error:
        return f"{_first_line(error)}; install it with pip install 'seesr-pl[iqa]'"

    def value(sr: RGB, hr: RGB | None) -> float:
        images = [_tensor(image, device) for image in (sr, hr) if image is not None]
        return float(metric(*images[: 2 if metric.metric_mode == "FR" else 1]))

    return value


def _tensor(image: RGB, device: str) -> torch.Tensor:
    pixels = np.ascontiguousarray(image.transpose(2, 0, 1))
    return torch.from_numpy(pixels).to(device).float()[None] / 255


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
