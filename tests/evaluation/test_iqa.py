"""pyiqa's metrics against the authors' scores, image by image; runs where pyiqa and the weights are."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from seesr_pl.evaluation.iqa import iqa
from seesr_pl.imaging.io import read_rgb

# The scores have six digits, and were computed on a GPU.
CLOSE = {"lpips": 1e-3, "dists": 1e-3, "clipiqa": 2e-3, "musiq": 0.1, "maniqa": 5e-3}
FID = 123.4938


@pytest.fixture(scope="module")
def folder():
    """The folder that `seesr weights metrics` filled; skips without it, or without pyiqa."""
    pytest.importorskip("pyiqa", exc_type=ImportError)
    path = Path(os.environ.get("SEESR_WEIGHTS", "weights"))
    if not (path / "metrics").is_dir():
        pytest.skip(f"{path}/metrics does not exist; seesr weights metrics, and set SEESR_WEIGHTS to the folder")
    return path


def _built(name, folder):
    built = iqa(name, device="cpu", weights=None, folder=folder)
    if isinstance(built, str):
        pytest.skip(built)
    return built


@pytest.mark.slow
@pytest.mark.parametrize("name", CLOSE)
def test_the_authors_scores_of_realsr_are_met_image_by_image(folder, benchmarks, name):
    realsr, metric = benchmarks / "realsr", _built(name, folder)
    with (realsr / "osediff_scores.csv").open(newline="") as file:
        published = {row["image"]: float(row[name]) for row in csv.DictReader(file)}
    if name == "maniqa":  # half a minute an image on a CPU
        published = dict(list(published.items())[:5])
    errors = []
    for image, value in published.items():
        sr, hq = (read_rgb(realsr / place / f"{image}.png") for place in ("results_osediff", "test_HR"))
        errors.append(metric.image(sr, hq) - value)
    assert np.abs(errors).max() < CLOSE[name]


@pytest.mark.slow
def test_the_authors_fid_of_realsr_is_met(folder, benchmarks):
    realsr = benchmarks / "realsr"
    files = [(path, realsr / "test_HR" / path.name) for path in sorted((realsr / "results_osediff").glob("*.png"))]
    assert _built("fid", folder).files(files) == pytest.approx(FID, abs=0.05)
