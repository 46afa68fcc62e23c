"""Fixtures that several floors use; lets tests import the helpers beside this file."""

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
# The networks are tiny: a second thread costs more than it gives. OpenMP reads its variables when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of tensors recorded from the official code; skips where it is absent."""
    return _folder("SEESR_GOLDEN", ROOT.parent / "shared" / "golden")


@pytest.fixture(scope="session")
def benchmarks() -> Path:
    """The folder of benchmark images (holds `realsr/`); skips where it is absent."""
    return _folder("SEESR_BENCHMARKS", ROOT.parent / "shared" / "benchmarks")


def _folder(variable: str, default: Path) -> Path:
    folder = Path(os.environ.get(variable, default))
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist; set {variable} to the folder")
    return folder


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A pipeline folder of the small stack, which tests read and do not change."""
    from stacks import small_stack  # here, because most tests need no network

    from seesr_pl.sampling.pipeline import SeeSRPipeline

    folder = tmp_path_factory.mktemp("pipeline")
    SeeSRPipeline(*small_stack()).save_pretrained(folder)
    return folder
