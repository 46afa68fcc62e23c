"""A small benchmark of smooth random images on disk."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from seesr_pl.evaluation import FolderBenchmark
from seesr_pl.imaging.io import write_image

NAMES = ("lake_0", "lake_1", "street_0", "street_1")


@pytest.fixture(scope="session")
def make_image() -> Callable[..., np.ndarray]:
    """Makes a smooth uint8 RGB image from a seed and a size."""
    return _make_image


def _make_image(seed: int, size: int = 64) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0, 255, (size, size, 3)).astype(np.float32)
    return np.clip(cv2.GaussianBlur(noise, (0, 0), 2) * 4 - 380, 0, 255).astype(np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with `lq` (16x16) and `hq` (64x64) of four images of two photographs."""
    for seed, name in enumerate(NAMES):
        hq = _make_image(seed)
        for folder, image in (("hq", hq), ("lq", cv2.resize(hq, (16, 16), interpolation=cv2.INTER_AREA))):
            (tmp_path / "set" / folder).mkdir(parents=True, exist_ok=True)
            write_image(tmp_path / "set" / folder / f"{name}.png", image)
    return tmp_path / "set"


@pytest.fixture
def benchmark(root: Path) -> FolderBenchmark:
    return FolderBenchmark(str(root), name="small", count=4, group=r"([a-z]+)_")
