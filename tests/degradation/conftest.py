"""What the tests of the degradation share: golden tensors and a photograph."""

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from safetensors.numpy import load_file

STORED = Path(__file__).resolve().parents[1] / "golden" / "degradation" / "operators.safetensors"


@pytest.fixture(scope="session")
def operators() -> dict[str, np.ndarray]:
    """Kernels, filters and sharpening recorded from the official code; images as (b, c, h, w)."""
    return load_file(STORED)


@pytest.fixture(scope="session")
def noise_and_jpeg(golden: Path) -> dict[str, np.ndarray]:
    """All recorded operators, noise and JPEG and whole chains included; skips where the folder is absent."""
    return load_file(golden / "degradation_ops.safetensors")


@pytest.fixture(scope="session")
def photograph() -> np.ndarray:
    """uint8 RGB (512, 512, 3)."""
    return skimage.data.astronaut()
