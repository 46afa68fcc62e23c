"""Metrics by the names that tables use, and PSNR and SSIM as the field reports them.

Protocol of the published tables: 8-bit images as read from the file, BT.601 luma in [16, 235], no border cropped.
Full-range luma, another common choice, gives values lower by 20 log10(255/219) = 1.32 dB.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import cv2
import numpy as np
from jaxtyping import Float64

from seesr_pl.evaluation.benchmark import Pair
from seesr_pl.evaluation.iqa import IQA_METRICS, iqa
from seesr_pl.evaluation.niqe import NIQE
from seesr_pl.evaluation.of_set import SetMetric
from seesr_pl.files import fingerprint
from seesr_pl.types import RGB

if TYPE_CHECKING:
    from seesr_pl.models.ram import RAM

Luma = Float64[np.ndarray, "h w"]
LumaRange = Literal["limited", "full"]
"""Of PSNR and SSIM: luma in [16, 235], as in the published tables, or in [0, 255]."""

# ITU-R BT.601, 8-bit limited range.
LUMA_WEIGHTS = np.array([65.481, 128.553, 24.966]) / 255
LUMA_OFFSET = 16.0
FULL_LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114])
PEAK = 255.0
# Wang et al. (2004), "Image quality assessment: from error visibility to structural similarity", section III.C.
WINDOW_SIZE, WINDOW_SIGMA = 11, 1.5
SSIM_C1, SSIM_C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2


class ImageMetric(NamedTuple):
    """A function from (restored, reference or None), both uint8 RGB, to a number, and how to read the number.

    `version` changes when the values of the function change; stored scores of another version are not reused. `further`
    returns what else of an image the function takes, after the two: files, by `Path`, and plain values.
    """

    name: str
    function: Callable[..., float]
    needs_reference: bool
    higher_is_better: bool
    version: str
    further: Callable[[Pair], Sequence[Any]] | None = None


Metric = ImageMetric | SetMetric
"""What a table has a column of."""


class Metrics(NamedTuple):
    """The metrics of images that can be computed here, for each other one the reason why not, and those of sets."""

    available: list[ImageMetric]
    skipped: dict[str, str]
    of_set: Sequence[SetMetric] = ()

    @property
    def columns(self) -> list[Metric]:
        """Those that can be computed here, of images first."""
        return [*self.available, *self.of_set]


def image_metrics(
    names: str | Sequence[str],
    *,
    has_reference: bool = True,
    niqe_parameters: str | None = None,
    weights: Mapping[str, str] = MappingProxyType({}),
    folder: str | Path | None = None,
    crop_border: int = 0,
    luma_range: LumaRange = "limited",
    degradations: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    tagger: Callable[[str], "RAM"] | None = None,
    device: str = "cpu",
    strict: bool = False,
) -> Metrics:
    """Find the metrics of `names`, in that order.

    Args:
        names: of `NAMES`; AUTO is psnr_y and ssim_y, and with a `tagger` tags_f1 and the fitting one of `CONSISTENCY`.
        has_reference: whether there are HQ images; without them, metrics that need one are skipped.
        niqe_parameters: the path of `niqe_pris_params.npz` as published with BasicSR.
        weights: local files of metrics with a network, by name.
        folder: of published weights, as `seesr weights` fills it.
        crop_border: pixels at each side that PSNR and SSIM leave out; luma_range: of psnr_y and ssim_y.
        degradations: how images were degraded, by name, where that is known.
        tagger: loads the RAM that judges tags, on a device.
        device: for metrics with a network.
        strict: refuse a metric whose package or parameters are absent, instead of skipping it with the reason.

    Raises ValueError for an unknown name, with the nearest one that exists, and for a file that does not exist.
    """
    from seesr_pl.evaluation.faithfulness import NO_RAM, consistency, tag_preservation  # here: it imports this module

    given: Sequence[str] = list(dict.fromkeys([names] if isinstance(names, str) else names))
    own = (*DEFAULTS, CONSISTENCY[bool(degradations)], "tags_f1") if tagger else DEFAULTS
    wanted: Sequence[str] = own if given == [AUTO] else given
    _check_names([*wanted, *weights])
    of_set: list[SetMetric] = []
    found = Metrics([], {"tags_f1": NO_RAM} if given == [AUTO] and not tagger else {}, of_set)
    faithful = consistency(degradations)
    if set(wanted) & set(TAG_SCORES):
        faithful |= tag_preservation(tagger and partial(tagger, device))
    for name in wanted:
        if name in NATIVE:
            metric: Metric | str = _native(name, crop_border, luma_range)
        elif name in faithful:
            metric = faithful[name]
        elif name == "niqe":
            metric = _niqe(niqe_parameters)
        else:
            metric = _iqa(name, device, weights.get(name), folder)
        if not isinstance(metric, str) and metric.needs_reference and not has_reference:
            metric = "needs reference images, which this set does not have"
        if isinstance(metric, str):
            found.skipped[name] = metric
        else:
            (of_set if isinstance(metric, SetMetric) else found.available).append(metric)  # type: ignore[arg-type]  # by kind
    refused = [f"metric {name}: {reason}" for name, reason in found.skipped.items() if strict and name in wanted]
    if refused:
        raise ValueError("\n".join(refused))
    return found


def _check_names(names: Sequence[str]) -> None:
    if not names:
        raise ValueError(f"metrics: none is named; known: {', '.join(NAMES)}")
    for name in names:
        if name not in NAMES:
            near = difflib.get_close_matches(name.lower(), NAMES, n=1, cutoff=0.3)
            hint = f"; did you mean {near[0]!r}?" if near else ";"
            raise ValueError(f"metrics: {name!r} is not a metric{hint} known: {', '.join(NAMES)}")


def psnr_y(sr: RGB, hr: RGB, *, crop_border: int = 0, luma_range: LumaRange = "limited") -> float:
    """Compute the peak signal-to-noise ratio in dB on luma with peak 255; infinite for equal images.

    Both are uint8 RGB HxWx3; `crop_border` pixels at each side are left out. Raises ValueError for another type, two
    sizes, or a border that leaves nothing.
    """
    sr, hr = _inner(sr, hr, crop_border)
    return _psnr(luma(sr, luma_range), luma(hr, luma_range))


def psnr_rgb(sr: RGB, hr: RGB, *, crop_border: int = 0) -> float:
    """Compute the peak signal-to-noise ratio in dB over the three channels together; otherwise as `psnr_y`."""
    sr, hr = _inner(sr, hr, crop_border)
    return _psnr(sr.astype(np.float64), hr.astype(np.float64))


def ssim_y(sr: RGB, hr: RGB, *, crop_border: int = 0, luma_range: LumaRange = "limited") -> float:
    """Compute the structural similarity on luma rounded to integers, in [0, 1].

    11x11 Gaussian window with sigma 1.5, windows inside the image only, contrast-structure term clamped at 0.
    Raises ValueError as `psnr_y`, and for a side under 11 pixels.
    """
    sr, hr = _inner(sr, hr, crop_border, smallest=WINDOW_SIZE)
    return _ssim(np.round(luma(sr, luma_range)), np.round(luma(hr, luma_range)))


def ssim_rgb(sr: RGB, hr: RGB, *, crop_border: int = 0) -> float:
    """Compute the mean of the structural similarities of red, green and blue; otherwise as `ssim_y`."""
    planes = (image.astype(np.float64) for image in _inner(sr, hr, crop_border, smallest=WINDOW_SIZE))
    ours, theirs = planes
    return float(np.mean([_ssim(ours[..., channel], theirs[..., channel]) for channel in range(3)]))


def luma(image: RGB, luma_range: LumaRange = "limited") -> Luma:
    """Compute BT.601 luma of a uint8 RGB image HxWx3, in [16, 235] or, if full, in [0, 255]; not rounded."""
    if luma_range == "full":
        return image.astype(np.float64) @ FULL_LUMA_WEIGHTS
    return image.astype(np.float64) @ LUMA_WEIGHTS + LUMA_OFFSET


PSNR_Y = ImageMetric("psnr_y", psnr_y, True, True, "1")
SSIM_Y = ImageMetric("ssim_y", ssim_y, True, True, "1")
PSNR_RGB = ImageMetric("psnr_rgb", psnr_rgb, True, True, "1")
FIDELITY = (PSNR_Y, SSIM_Y)
SSIM_RGB = ImageMetric("ssim_rgb", ssim_rgb, True, True, "1")
NATIVE = {metric.name: metric for metric in (*FIDELITY, PSNR_RGB, SSIM_RGB)}
CONSISTENCY = ("lq_psnr", "lq_psnr_own")
TagScore = Literal["tags_precision", "tags_recall", "tags_f1", "tags_ap"]
TAG_SCORES: tuple[TagScore, ...] = get_args(TagScore)
NAMES = (*NATIVE, "niqe", *CONSISTENCY, *TAG_SCORES, *IQA_METRICS)
AUTO, DEFAULTS = "auto", ("psnr_y", "ssim_y")


def score(sr: RGB, hr: RGB | None, metrics: Sequence[ImageMetric] = FIDELITY) -> dict[str, float]:
    """Compute each metric for one image; metrics that need a reference are left out where `hr` is None."""
    usable = [metric for metric in metrics if hr is not None or not metric.needs_reference]
    return {metric.name: float(metric.function(sr, hr)) for metric in usable}


def _native(name: str, crop_border: int, luma_range: LumaRange) -> ImageMetric:
    metric = NATIVE[name]
    options = {"crop_border": crop_border} | ({"luma_range": luma_range} if name in ("psnr_y", "ssim_y") else {})
    words = " ".join(f"{option}={value}" for option, value in options.items())
    return metric._replace(function=partial(metric.function, **options), version=f"{metric.version} {words}")


def _niqe(parameters: str | None) -> ImageMetric | str:
    if parameters is None:
        return "needs its parameter file: niqe_parameters=PATH of niqe_pris_params.npz as published with BasicSR"
    niqe = NIQE.from_file(parameters)
    content = fingerprint(Path(parameters).expanduser().read_bytes())
    return ImageMetric("niqe", lambda sr, hr: niqe(sr), False, False, f"2 {content}")


def _iqa(name: str, device: str, weights: str | None, folder: str | Path | None) -> Metric | str:
    built = iqa(name, device=device, weights=weights, folder=folder)
    if isinstance(built, str):
        return built
    how = built.setting.needs_reference, built.setting.higher_is_better, built.version
    return SetMetric(name, built.files, *how) if name == "fid" else ImageMetric(name, built.image, *how)


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


def _inner(sr: RGB, hr: RGB, crop_border: int, *, smallest: int = 1) -> tuple[RGB, RGB]:
    """Check that both can be compared, and return them without their border."""
    for name, image in (("sr", sr), ("hr", hr)):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"{name} must be a uint8 RGB array HxWx3, got {image.dtype} {image.shape}")
    if sr.shape != hr.shape:
        raise ValueError(f"sr is {_size(sr)} and hr is {_size(hr)} (width x height); both must have the same size")
    if min(sr.shape[:2]) < 2 * crop_border + smallest:
        raise ValueError(
            f"at least {smallest} pixels a side are needed inside crop_border={crop_border}, got {_size(sr)}"
        )
    inner = slice(crop_border, -crop_border or None)
    return sr[inner, inner], hr[inner, inner]


def _size(image: RGB) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
