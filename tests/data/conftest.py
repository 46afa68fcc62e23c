"""Small shards of small images."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from seesr_pl.data import ShardWriter


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    cv2.setNumThreads(1)


def image_bytes(seed: int, extension: str = "png", size: tuple[int, int] = (48, 40)) -> bytes:
    """A smooth random image, encoded; size is (width, height)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(f".{extension}", image)[1].tobytes()


@pytest.fixture(scope="session")
def encoded() -> Callable[..., bytes]:
    return image_bytes


@pytest.fixture
def write_shards(tmp_path: Path) -> Callable[..., str]:
    def write(name: str, num_samples: int, max_samples: int = 5, extension: str = "png") -> str:
        with ShardWriter(tmp_path / name, max_samples=max_samples) as writer:
            for number in range(num_samples):
                image = image_bytes(hash_of(name) + number, extension)
                writer.write(f"{name}{number:04d}", image, extension=extension, tags=f"tag {number}")
        return str(tmp_path / name / "*.tar")

    return write


def hash_of(name: str) -> int:
    return sum(map(ord, name)) * 1000
