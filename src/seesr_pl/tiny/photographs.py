"""Freely licensed photographs that pip and Debian packages ship, with a fixed split (data/photographs.md)."""

import functools
import importlib.util
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np

from seesr_pl.files import MissingFile
from seesr_pl.imaging.io import read_rgb

Split = Literal["train", "choice", "held-out"]
Source = Literal["pip", "debian", "all"]
# The folder of its photographs in each pip package, below the module's own.
PIP_FOLDERS = {"scikit-image": ("skimage", "data"), "matplotlib": ("matplotlib", "mpl-data/sample_data")}
MAX_SIDE = 1024
Box = tuple[float, float, float, float]


class Photograph(NamedTuple):
    """One photograph: its file, author and licence, and the boxes (left, top, right, bottom, in [0, 1]) of its tags.

    Splits: of `train`, Debian's trained the shipped weights and pip's train the demo; settings were chosen on `choice`;
    `held-out` was used for neither.
    """

    name: str
    split: Split
    package: str
    file: str
    licence: str
    author: str
    regions: Mapping[str, Sequence[Box]]

    def read(self, debian_root: str | Path | None = None) -> np.ndarray:
        """Read it as RGB uint8 (h, w, 3), shrunk to at most 1024 pixels a side.

        Raises ValueError where the package is not installed; `debian_root` is where Debian's packages are unpacked.
        """
        path = self._path(debian_root)
        if not path.is_file():
            raise ValueError(f"{self.name}: {path} does not exist; install or unpack the package {self.package}")
        return _shrunk(read_rgb(path))

    def missing_files(self, debian_root: str | Path | None = None) -> list[MissingFile]:
        """Return the package of this photograph, if it is not installed."""
        if self.package in PIP_FOLDERS:
            module, _ = PIP_FOLDERS[self.package]
            present, fix = importlib.util.find_spec(module) is not None, "pip install 'seesr-pl[photos]'"
        else:
            present = (Path(debian_root or "/") / self.file).is_file()
            fix = f"apt-get download {self.package} && dpkg -x {self.package}_*.deb {debian_root}"
        return [] if present else [MissingFile(self.package, "photographs, see data/photographs.md", fix)]

    def _path(self, debian_root: str | Path | None) -> Path:
        if self.package in PIP_FOLDERS:
            return _pip_folder(self.package) / self.file
        if debian_root is None:
            raise ValueError(f"{self.name} comes from the Debian package {self.package}: give its root folder")
        return Path(debian_root) / self.file


def photographs(splits: Sequence[Split], *, source: Source = "all") -> list[Photograph]:
    """Return the photographs of `splits` that pip packages ship, or Debian's, or all."""
    found = [photo for photo in _manifest() if photo.split in splits]
    return [photo for photo in found if source in ("all", "pip" if photo.package in PIP_FOLDERS else "debian")]


@functools.cache
def _manifest() -> tuple[Photograph, ...]:
    rows = json.loads((files("seesr_pl.tiny") / "photographs.json").read_text())
    return tuple(Photograph(**row) for row in rows)


def _pip_folder(package: str) -> Path:
    module, folder = PIP_FOLDERS[package]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"some of the demo's photographs come with {package}: pip install 'seesr-pl[photos]'")
    return Path(spec.origin).parent / folder


def _shrunk(image: np.ndarray) -> np.ndarray:
    factor = MAX_SIDE / max(image.shape[:2])
    if factor >= 1:
        return image
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
