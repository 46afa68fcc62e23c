"""CPU time of the degradation on one thread, beside a dense 21x21 convolution of the same images in the same run.

    python benchmarks/degradation.py [--samples 240]

Photographs are those of scikit-image. The reference is OpenCV's filter2D on float32 (512, 512, 3) with a full kernel.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import skimage
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from seesr_pl.degradation import RealESRGANDegradation, build_banks

CONF = Path(__file__).resolve().parents[1] / "conf" / "degradation"
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "ihc.png", "rocket.jpg")
KERNEL = np.random.default_rng(0).random((21, 21), dtype=np.float32) / 220


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=240, help="images per setting")
    samples = parser.parse_args().samples
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    crops = [_crop(name) for name in PHOTOGRAPHS]
    console, table = (
        Console(width=120),
        Table("setting", "mean ms", "median", "p90", "filter2D 21x21 ms", "ratio of means"),
    )
    console.print(f"noise banks: {1e3 * _seconds(build_banks):.0f} ms, once per process")
    for name, degradation in _settings().items():
        times, references = _measure(degradation, crops, samples)
        quantiles = f"{np.mean(times):.1f}", f"{np.median(times):.1f}", f"{np.quantile(times, 0.9):.1f}"
        table.add_row(name, *quantiles, f"{np.mean(references):.1f}", f"{np.mean(times) / np.mean(references):.2f}")
    console.print(table)
    degradation = RealESRGANDegradation()
    seconds = _seconds(lambda: [degradation.sample(0, 0, index) for index in range(1000)])
    console.print(f"parameters: {seconds:.3f} ms per sample")
    console.print(f"severity against PSNR within an image: {_severity_correlation(crops, samples):.2f} (Spearman)")


def _settings() -> dict[str, RealESRGANDegradation]:
    official, pasd = (instantiate(OmegaConf.load(CONF / f"{name}.yaml"), _convert_="all") for name in ("seesr", "pasd"))
    return {
        "seesr, sharpen=false": RealESRGANDegradation(sharpen=False),
        "seesr": official,
        "seesr, chroma_upsampling=fancy": RealESRGANDegradation(chroma_upsampling="fancy"),
        "pasd": pasd,
    }


def _measure(degradation: RealESRGANDegradation, crops: list, samples: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of `apply` and of the reference, measured in turns."""
    times, references = [], []
    for index in range(-10, samples):
        crop = crops[index % len(crops)]
        params = degradation.sample(1, 0, index + 10)
        image = crop / np.float32(255)
        milliseconds = 1e3 * _seconds(lambda: degradation.apply(crop, params))  # noqa: B023 - called at once
        reference = 1e3 * _seconds(lambda: cv2.filter2D(image, cv2.CV_32F, KERNEL))  # noqa: B023 - called at once
        if index >= 0:
            times.append(milliseconds)
            references.append(reference)
    return times, references


def _severity_correlation(crops: list, samples: int) -> float:
    """Return the rank correlation of severity with the PSNR of the low-quality image, averaged over the images."""
    degradation = RealESRGANDegradation(sharpen=False)
    correlations = []
    for crop in crops:
        clean = cv2.resize(crop, (128, 128), interpolation=cv2.INTER_AREA).astype(float)
        draws = [degradation.sample(2, 0, index) for index in range(samples)]
        errors = [np.mean((degradation.apply(crop, params)[1] - clean) ** 2) for params in draws]
        correlations.append(spearmanr([params.severity for params in draws], -np.log(errors)).statistic)
    return float(np.mean(correlations))


def _crop(name: str) -> np.ndarray:
    image = cv2.imread(str(Path(skimage.__file__).parent / "data" / name))[..., ::-1]
    factor = max(1.0, 512 / min(image.shape[:2]))
    enlarged = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(enlarged[:512, :512])


def _seconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


if __name__ == "__main__":
    main()
