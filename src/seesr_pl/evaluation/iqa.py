"""Metrics with a network, computed by pyiqa in the settings of the published tables (extra `[iqa]`)."""

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from seesr_pl.files import fingerprint
from seesr_pl.types import RGB

CLASH = (
    "torchvision does not fit the installed torch (it is built for CUDA, or for another version); this metric needs "
    "both of one build: docs/install.md"
)
INSTALL = "pyiqa is not installed: pip install 'seesr-pl[iqa]' in an environment of its own (docs/install.md)"


class IQASetting(NamedTuple):
    """The name that pyiqa gives a metric, how to read its values, and its argument for a file of weights, "" for none.

    "load_weights" stands for a file that is loaded after the network was built.
    """

    pyiqa_name: str
    needs_reference: bool
    higher_is_better: bool
    weights: str = ""


# LPIPS with AlexNet, MUSIQ trained on KonIQ-10k, MANIQA trained on PIPAL, CLIP-IQA without "+": the settings of
# OSEDiff's test_metrics.py, which reports SeeSR beside itself. The variants below them are in no published table.
IQA_METRICS = {
    "lpips": IQASetting("lpips", True, False, "pretrained_model_path"),
    "dists": IQASetting("dists", True, False, "pretrained_model_path"),
    "musiq": IQASetting("musiq", False, True, "pretrained_model_path"),
    "maniqa": IQASetting("maniqa-pipal", False, True, "load_weights"),
    "clipiqa": IQASetting("clipiqa", False, True, "backbone"),
    "lpips-vgg": IQASetting("lpips-vgg", True, False, "pretrained_model_path"),
    "musiq-ava": IQASetting("musiq-ava", False, True),
    "musiq-paq2piq": IQASetting("musiq-paq2piq", False, True, "pretrained_model_path"),
    "musiq-spaq": IQASetting("musiq-spaq", False, True, "pretrained_model_path"),
    "maniqa-koniq": IQASetting("maniqa", False, True, "load_weights"),
    "maniqa-kadid": IQASetting("maniqa-kadid", False, True, "load_weights"),
    "clipiqa+": IQASetting("clipiqa+", False, True),
    "clipiqa+_rn50_512": IQASetting("clipiqa+_rn50_512", False, True),
    "clipiqa+_vitL14_512": IQASetting("clipiqa+_vitL14_512", False, True),
}


class IQA(NamedTuple):
    """A function from (restored, reference or None), both uint8 RGB, to a number; `version` names what computes it."""

    function: Callable[[RGB, RGB | None], float]
    version: str


def iqa(setting: IQASetting, *, device: str, weights: str | None) -> IQA | str:
    """Build a metric, or return the reason why it cannot be computed here.

    `weights` is a local file in place of the one that pyiqa downloads; a backbone trained on ImageNet (LPIPS, DISTS,
    MANIQA) still comes from the folder of torch.hub or of the Hugging Face hub. Raises ValueError for a file that does
    not exist, or for a metric whose weights are no single file.
    """
    if find_spec("pyiqa") is None:
        return INSTALL
    if weights is not None and not (setting.weights and Path(weights).expanduser().is_file()):
        known = "does not exist" if setting.weights else f"cannot be given: {setting.pyiqa_name} takes no file"
        raise ValueError(f"metric_weights: {weights} {known}")
    try:
        pyiqa = importlib.import_module("pyiqa")
        metric = _built(pyiqa, setting, device, weights and str(Path(weights).expanduser()))
    # torchvision beside a torch of another build raises RuntimeError; a download without a network, OSError.
    except (ImportError, RuntimeError, OSError) as error:
        return _reason(error)

    def value(sr: RGB, hr: RGB | None) -> float:
        images = (sr, hr) if setting.needs_reference else (sr,)
        return float(metric(*(_network_input(image, device) for image in images if image is not None)))

    file = "" if weights is None else f" {fingerprint(Path(weights).expanduser())}"
    return IQA(value, f"pyiqa {getattr(pyiqa, '__version__', '')} {setting.pyiqa_name}{file}")


def _built(pyiqa: Any, setting: IQASetting, device: str, weights: str | None) -> Any:
    on = torch.device(device)
    if weights is None:
        return pyiqa.create_metric(setting.pyiqa_name, device=on)
    if setting.weights == "load_weights":
        # pyiqa's own argument for a file looks for a key that the published file does not have.
        metric = pyiqa.create_metric(setting.pyiqa_name, device=on, pretrained=False)
        metric.load_weights(weights, weight_keys=None)
        return metric
    return pyiqa.create_metric(setting.pyiqa_name, device=on, **{setting.weights: weights})


def _reason(error: Exception) -> str:
    lines = [line for link in (error, error.__context__) if link for line in str(link).splitlines() if line]
    text = " ".join(lines)
    if "torchvision::nms" in text or "libtorch_cuda" in text or "libcudart" in text:
        return CLASH
    first = lines[0] if lines else type(error).__name__
    if isinstance(error, OSError):
        return f"its weights could not be had ({first}); put them where metric_weights says, or run it once online"
    return f"pyiqa is installed but cannot be used: {first}"


def _network_input(image: RGB, device: str) -> torch.Tensor:
    pixels = np.ascontiguousarray(image.transpose(2, 0, 1))
    return torch.from_numpy(pixels).to(device).float()[None] / 255
