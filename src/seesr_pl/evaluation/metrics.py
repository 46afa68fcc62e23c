"""Metrics by the names that tables use, and PSNR and SSIM as the field reports them.

Protocol of the published tables: 8-bit images as read from the file, BT.601 luma in [16, 235], no border cropped.
Full-range luma, another common choice, gives values lower by 20 log10(255/219) = 1.32 dB.
"""

import difflib
import importlib
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float64

from seesr_pl.evaluation.niqe import NIQE
from seesr_pl.files import fingerprint
from seesr_pl.types import RGB

Luma = Float64[np.ndarray, "h w"]

# ITU-R BT.601, 8-bit limited range.
LUMA_WEIGHTS = np.array([65.481, 128.553, 24.966]) / 255
LUMA_OFFSET = 16.0
PEAK = 255.0
# Wang et al. (2004), "Image quality assessment: from error visibility to structural similarity", section III.C.
WINDOW_SIZE, WINDOW_SIGMA = 11, 1.5
SSIM_C1, SSIM_C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2


class ImageMetric(NamedTuple):
    """A function from (restored, reference or None), both uint8 RGB, to a number, and how to read the number.

    `version` changes when the values of the function change; stored scores of another version are not reused.
    """

    name: str
    function: Callable[..., float]
    needs_reference: bool
    higher_is_better: bool
    version: str


class Metrics(NamedTuple):
    """The metrics that can be computed here, and for each other one the reason why not."""

    available: list[ImageMetric]
    skipped: dict[str, str]


class IQASetting(NamedTuple):
    """The name that pyiqa gives a metric in the setting of the published tables, and how to read its values."""

    pyiqa_name: str
    needs_reference: bool
    higher_is_better: bool


# Of the extra [iqa]. LPIPS with AlexNet, MUSIQ trained on KonIQ-10k, MANIQA trained on PIPAL: the settings of OSEDiff's
# test_metrics.py, which reports SeeSR beside itself.
IQA_METRICS = {
    "lpips": IQASetting("lpips", True, False),
    "dists": IQASetting("dists", True, False),
    "musiq": IQASetting("musiq", False, True),
    "maniqa": IQASetting("maniqa-pipal", False, True),
    "clipiqa": IQASetting("clipiqa", False, True),
}


def image_metrics(
    names: str | Sequence[str],
    *,
    has_reference: bool = True,
    niqe_parameters: str | None = None,
    device: str = "cpu",
    strict: bool = False,
) -> Metrics:
    """Find the metrics of `names`, in that order.

    Args:
        names: of psnr_y, ssim_y, psnr_rgb, niqe, lpips, dists, musiq, maniqa, clipiqa.
        has_reference: whether the test set has HQ images; without them, metrics that need one are skipped.
        niqe_parameters: the path of `niqe_pris_params.npz` as published with BasicSR.
        device: for metrics with a network.
        strict: refuse a metric whose package or parameters are absent, instead of skipping it with the reason.

    Raises ValueError for an unknown name, with the nearest one that exists.
    """
    wanted = dict.fromkeys([names] if isinstance(names, str) else names)
    if not wanted:
        raise ValueError(f"metrics: none is named; known: {', '.join(NAMES)}")
    for name in wanted:
        if name not in NAMES:
            near = difflib.get_close_matches(name.lower(), NAMES, n=1, cutoff=0.3)
            hint = f"; did you mean {near[0]!r}?" if near else ";"
            raise ValueError(f"metrics: {name!r} is not a metric{hint} known: {', '.join(NAMES)}")
    found = Metrics([], {})
    for name in wanted:
        metric = _metric(name, niqe_parameters, device)
        if isinstance(metric, str):
            found.skipped[name] = metric
        elif metric.needs_reference and not has_reference:
            found.skipped[name] = "needs reference images, which this set does not have"
        else:
            found.available.append(metric)
    if strict and found.skipped:
        raise ValueError("\n".join(f"metric {name}: {reason}" for name, reason in found.skipped.items()))
    return found


def psnr_y(sr: RGB, hr: RGB) -> float:
    """Compute the peak signal-to-noise ratio in dB on limited-range luma with peak 255; infinite for equal images.

    Both are uint8 RGB HxWx3. Raises ValueError for another type or two sizes.
    """
    _check_pair(sr, hr)
    return _psnr(luma(sr), luma(hr))


def psnr_rgb(sr: RGB, hr: RGB) -> float:
    """Compute the peak signal-to-noise ratio in dB over the three channels together; otherwise as `psnr_y`."""
    _check_pair(sr, hr)
    return _psnr(sr.astype(np.float64), hr.astype(np.float64))


def ssim_y(sr: RGB, hr: RGB) -> float:
    """Compute the structural similarity on limited-range luma rounded to integers, in [0, 1].

    11x11 Gaussian window with sigma 1.5, windows inside the image only, contrast-structure term clamped at 0.
    Raises ValueError as `psnr_y`, and for a side under 11 pixels.
    """
    _check_pair(sr, hr)
    if min(sr.shape[:2]) < WINDOW_SIZE:
        raise ValueError(f"ssim_y needs at least {WINDOW_SIZE} pixels a side, got {_size(sr)}")
    return _ssim(np.round(luma(sr)), np.round(luma(hr)))


def luma(image: RGB) -> Luma:
    """Compute BT.601 luma of a uint8 RGB image HxWx3, in [16, 235], not rounded."""
    return image.astype(np.float64) @ LUMA_WEIGHTS + LUMA_OFFSET


PSNR_Y = ImageMetric("psnr_y", psnr_y, True, True, "1")
SSIM_Y = ImageMetric("ssim_y", ssim_y, True, True, "1")
PSNR_RGB = ImageMetric("psnr_rgb", psnr_rgb, True, True, "1")
FIDELITY = (PSNR_Y, SSIM_Y)
NATIVE = {metric.name: metric for metric in (*FIDELITY, PSNR_RGB)}
NAMES = (*NATIVE, "niqe", *IQA_METRICS)


def score(sr: RGB, hr: RGB | None, metrics: Sequence[ImageMetric] = FIDELITY) -> dict[str, float]:
    """Compute each metric for one image; metrics that need a reference are left out where `hr` is None."""
    usable = [metric for metric in metrics if hr is not None or not metric.needs_reference]
    return {metric.name: float(metric.function(sr, hr)) for metric in usable}


def _metric(name: str, niqe_parameters: str | None, device: str) -> ImageMetric | str:
    """Return the metric, or the reason why it is not available."""
    if name in NATIVE:
        return NATIVE[name]
    if name == "niqe":
        return _niqe(niqe_parameters)
    return _iqa(name, IQA_METRICS[name], device)


def _niqe(parameters: str | None) -> ImageMetric | str:
    if parameters is None:
        return "needs its parameter file: niqe_parameters=PATH of niqe_pris_params.npz as published with BasicSR"
    niqe = NIQE.from_file(parameters)
    content = fingerprint(Path(parameters).expanduser().read_bytes())
    return ImageMetric("niqe", lambda sr, hr: niqe(sr), False, False, f"2 {content}")


def _iqa(name: str, setting: IQASetting, device: str) -> ImageMetric | str:
    try:
        metric = importlib.import_module("pyiqa").create_metric(setting.pyiqa_name, device=torch.device(device))
    # torchvision beside a torch of another build raises RuntimeError on import; weights without a network, OSError.
    except (ImportError, RuntimeError, OSError) as error:
        return _why_not(name, error)

    def value(sr: RGB, hr: RGB | None) -> float:
        images = (sr, hr) if setting.needs_reference else (sr,)
        return float(metric(*(_network_input(image, device) for image in images if image is not None)))

    made_by = f"pyiqa {version('pyiqa')} {setting.pyiqa_name}"
    return ImageMetric(name, value, setting.needs_reference, setting.higher_is_better, made_by)


def _why_not(name: str, error: Exception) -> str:
    """Say why pyiqa cannot compute the metric `name`: not installed, beside another torch, or without its weights."""
    said = (str(error).splitlines() or [type(error).__name__])[0]
    if isinstance(error, ModuleNotFoundError) and error.name == "pyiqa":
        return "pyiqa is not installed; pip install 'seesr-pl[iqa]' in an environment of its own (docs/install.md)"
    if "torchvision" in str(error):
        return f"torchvision here was built for another torch ({said}); install the pair that docs/install.md names"
    if isinstance(error, ImportError):
        return f"pyiqa cannot be imported ({said}); docs/install.md names an environment that works"
    return f"pyiqa could not get the weights of {name} ({said}); fetch them where there is internet, or set TORCH_HOME"


def _network_input(image: RGB, device: str) -> torch.Tensor:
    pixels = np.ascontiguousarray(image.transpose(2, 0, 1))
    return torch.from_numpy(pixels).to(device).float()[None] / 255


def _psnr(sr: np.ndarray, hr: np.ndarray) -> float:
    error = float(np.mean((sr - hr) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(PEAK**2 / error))


def _ssim(sr: Luma, hr: Luma) -> float:
    mean_sr, mean_hr = _window_mean(sr), _window_mean(hr)
    variance_sr = _window_mean(sr * sr) - mean_sr**2
    variance_hr = _window_mean(hr * hr) - mean_hr**2
    covariance = _window_mean(sr * hr) - mean_sr * mean_hr
    contrast_structure = (2 * covariance + SSIM_C2) / (variance_sr + variance_hr + SSIM_C2)
    luminance = (2 * mean_sr * mean_hr + SSIM_C1) / (mean_sr**2 + mean_hr**2 + SSIM_C1)
    return float(np.mean(luminance * np.maximum(contrast_structure, 0)))


def _window_mean(image: Luma) -> Luma:
    window = cv2.getGaussianKernel(WINDOW_SIZE, WINDOW_SIGMA)
    margin = WINDOW_SIZE // 2
    return cv2.sepFilter2D(image, -1, window, window)[margin:-margin, margin:-margin]


def _check_pair(sr: RGB, hr: RGB) -> None:
    for name, image in (("sr", sr), ("hr", hr)):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"{name} must be a uint8 RGB array HxWx3, got {image.dtype} {image.shape}")
    if sr.shape != hr.shape:
        raise ValueError(f"sr is {_size(sr)} and hr is {_size(hr)} (width x height); both must have the same size")


def _size(image: RGB) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
