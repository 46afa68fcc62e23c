"""Metrics by the names that tables use, and the scores of one image under them."""

import difflib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from seesr_pl.evaluation.iqa import IQA_METRICS, iqa_function
from seesr_pl.evaluation.metrics import RGB, psnr_rgb, psnr_y, ssim_y
from seesr_pl.evaluation.niqe import NIQE


class ImageMetric(NamedTuple):
    """A function from (restored, reference or None) to a number, and how to read the number.

    `version` changes when the values of the function change; stored scores of another version are not reused.
    """

    name: str
    function: Callable[[RGB, RGB | None], float]
    needs_reference: bool
    higher_is_better: bool
    version: str


class Metrics(NamedTuple):
    """The metrics that can be computed here, and for each other one the reason why not."""

    available: list[ImageMetric]
    skipped: dict[str, str]


PSNR_Y = ImageMetric("psnr_y", psnr_y, True, True, "1")  # type: ignore[arg-type]
SSIM_Y = ImageMetric("ssim_y", ssim_y, True, True, "1")  # type: ignore[arg-type]
PSNR_RGB = ImageMetric("psnr_rgb", psnr_rgb, True, True, "1")  # type: ignore[arg-type]
FIDELITY = (PSNR_Y, SSIM_Y)
NAMES = ("psnr_y", "ssim_y", "psnr_rgb", "niqe", *IQA_METRICS)


def score(sr: RGB, hr: RGB | None, metrics: Sequence[ImageMetric] = FIDELITY) -> dict[str, float]:
    """The value of each metric for one image; metrics that need a reference are left out where `hr` is None."""
    usable = [metric for metric in metrics if hr is not None or not metric.needs_reference]
    return {metric.name: float(metric.function(sr, hr)) for metric in usable}


def image_metrics(
    names: Sequence[str], *, has_reference: bool = True, niqe_parameters: str | None = None, device: str = "cpu"
) -> Metrics:
    """The metrics of `names`, in that order.

    A metric whose package or parameters are absent is skipped with a reason. Raises ValueError for a name that no
    metric has, with the nearest one that exists.
    """
    for name in names:
        _check_name(name)
    found = Metrics([], {})
    for name in dict.fromkeys(names):
        metric = _metric(name, niqe_parameters, device)
        if isinstance(metric, str):
            found.skipped[name] = metric
        elif metric.needs_reference and not has_reference:
            found.skipped[name] = "needs reference images, which this set does not have"
        else:
            found.available.append(metric)
    return found


def _metric(name: str, niqe_parameters: str | None, device: str) -> ImageMetric | str:
    native = {metric.name: metric for metric in (PSNR_Y, SSIM_Y, PSNR_RGB)}
    if name in native:
        return native[name]
    if name == "niqe":
        return _niqe(niqe_parameters)
    setting = IQA_METRICS[name]
    function = iqa_function(setting.pyiqa_name, device=device)
    if isinstance(function, str):
        return function
    return ImageMetric(name, function, setting.needs_reference, setting.higher_is_better, f"pyiqa {setting.pyiqa_name}")


def _niqe(parameters: str | None) -> ImageMetric | str:
    if parameters is None:
        return "needs its parameter file: niqe_parameters=PATH of niqe_pris_params.npz as published with BasicSR"
    niqe = NIQE.from_file(parameters)
    return ImageMetric("niqe", lambda sr, hr: niqe(sr), False, False, "1")


def _check_name(name: str) -> None:
    if name in NAMES:
        return
    near = difflib.get_close_matches(name.lower(), NAMES, n=1, cutoff=0.3)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    raise ValueError(f"metrics: {name!r} is not a metric{hint} known: {', '.join(NAMES)}")
