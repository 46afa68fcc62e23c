"""Our low-quality images against 200 official ones of the same crops: the same distribution."""

import json
from pathlib import Path

import hydra
import numpy as np
import pytest
import skimage
import torch
from omegaconf import OmegaConf
from PIL import Image
from scipy.stats import ks_2samp
from torch.nn.functional import interpolate

CONF = Path(__file__).resolve().parents[2] / "conf" / "degradation"
PHOTOGRAPHS = Path(skimage.__file__).parent / "data"
SEED = 0
SETTINGS = {"seesr": "P_make_paired_data", "pasd": "O_dataloaders_realesrgan"}
PSNRS = ("psnr_up_vs_gt", "psnr_up_vs_gt_without_usm", "psnr_lq_vs_area_gt")
STATISTICS = (*PSNRS, "grad_energy_lq", "grad_energy_up", "grad_energy_gt")


@pytest.fixture(scope="module", params=SETTINGS)
def setting(request: pytest.FixtureRequest) -> str:
    """Each shipped official setting."""
    return request.param


@pytest.fixture(scope="module")
def crops(golden: Path) -> list[np.ndarray]:
    """The 200 crops that the official chains degraded, unsharpened."""
    return _crops(json.loads((golden / "degradation.json").read_text())["crops"])


@pytest.fixture(scope="module")
def official(golden: Path, setting: str) -> dict[str, list[float]]:
    """The recorded statistics of the official samples."""
    return json.loads((golden / "degradation.json").read_text())[SETTINGS[setting]]["per_sample"]


@pytest.fixture(scope="module")
def ours(crops: list[np.ndarray], setting: str) -> dict[str, np.ndarray]:
    """The statistics of our samples of the same crops, to the digits of the record."""
    degradation = hydra.utils.instantiate(OmegaConf.load(CONF / f"{setting}.yaml"), _convert_="all")
    draws = [degradation.sample(SEED, 0, index) for index in range(len(crops))]
    rows = [_statistics(crop, *degradation.apply(crop, draw)) for crop, draw in zip(crops, draws, strict=True)]
    return dict(zip(STATISTICS, np.array(rows).round(6).T, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", STATISTICS)
def test_distribution_is_the_official_one(official, ours, setting, name, capsys):
    means = f"mean {ours[name].mean():.5g}, official {np.mean(official[name]):.5g}"
    p = ks_2samp(ours[name], official[name]).pvalue
    with capsys.disabled():
        print(f"\n{setting} {name}: {means}, KS p = {p:.3f}", end="")
    assert p > 0.01


@pytest.mark.slow
def test_targets_are_the_official_ones(official, ours):
    np.testing.assert_allclose(ours["grad_energy_gt"], official["grad_energy_gt"], rtol=0, atol=2e-6)


def _crops(places: list[dict]) -> list[np.ndarray]:
    images: dict[str, np.ndarray] = {}
    for place in places:
        if place["image"] not in images:
            images[place["image"]] = _photograph(place["image"], place["upscale"])
    corners = [(images[place["image"]], place["top"], place["left"]) for place in places]
    return [image[top : top + 512, left : left + 512] for image, top, left in corners]


def _photograph(name: str, upscale: int) -> np.ndarray:
    (path,) = (path for path in PHOTOGRAPHS.glob(f"{name}*") if path.suffix in (".png", ".jpg"))
    image = Image.open(path).convert("RGB")
    size = (image.width * upscale, image.height * upscale)
    return np.asarray(image if upscale == 1 else image.resize(size, Image.Resampling.LANCZOS))


def _statistics(crop: np.ndarray, hq: np.ndarray, lq: np.ndarray) -> tuple[float, ...]:
    plain, target, low = (torch.tensor(image).permute(2, 0, 1)[None] / 255 for image in (crop, hq, lq))
    up = _round(interpolate(low, size=hq.shape[:2], mode="bicubic", align_corners=False))
    # The record compares the low-quality image with the unsharpened crop, whatever the chain returns as its target.
    small = _round(interpolate(plain, size=lq.shape[:2], mode="area"))
    psnrs = (_psnr(up, target), _psnr(up, plain), _psnr(low, small))
    return *psnrs, *(_gradient_energy(image) for image in (low, up, target))


def _round(image: torch.Tensor) -> torch.Tensor:
    return (image.clamp(0, 1) * 255).round() / 255


def _psnr(image: torch.Tensor, target: torch.Tensor) -> float:
    return float(-10 * torch.log10((image - target).square().mean()))


def _gradient_energy(image: torch.Tensor) -> float:
    return float(image.diff(dim=2).square().mean() + image.diff(dim=3).square().mean())
