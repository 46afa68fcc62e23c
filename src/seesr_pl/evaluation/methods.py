"""Methods to compare SeeSR with that need no weights: interpolations, and images of another program."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2

from seesr_pl.annotations import Count, NotNegative, Positive, within_limits
from seesr_pl.evaluation.pairing import images_by_stem, require_fits, require_names
from seesr_pl.files import MissingFile
from seesr_pl.imaging.io import read_rgb
from seesr_pl.types import RGB


class Method(Protocol):
    """What restores one image at a time; the result depends on the image and its name alone."""

    name: str

    def __call__(self, lq: RGB, *, name: str) -> RGB:
        """Restore `lq`, uint8 RGB HxWx3, to `scale` times its size."""
        ...


@runtime_checkable
class BatchMethod(Method, Protocol):
    """A method that can restore several images together; each result is that of the image alone, to float error."""

    @property
    def batch_size(self) -> int:
        """How many images it is to be given together."""
        ...

    def restore_all(self, lqs: Sequence[RGB], *, names: Sequence[str]) -> list[RGB]:
        """Restore images of any sizes, best of equal size; one result an image."""
        ...


@runtime_checkable
class NotingMethod(Method, Protocol):
    """A method that tells by image's name what it did to it, for the record beside the result."""

    notes: dict[str, str]


class Bicubic:
    """Bicubic interpolation with a = -0.75, as OpenCV and torch do it: the lowest row of most tables."""

    @within_limits
    def __init__(self, *, name: str = "bicubic", scale: Count = 4) -> None:
        self.name, self.scale = name, scale

    def __call__(self, lq: RGB, *, name: str) -> RGB:
        height, width = lq.shape[:2]
        return cv2.resize(lq, (width * self.scale, height * self.scale), interpolation=cv2.INTER_CUBIC)


class GaussianBlur:
    """Bicubic interpolation after a Gaussian blur of `sigma` input pixels: removes noise, and detail with it."""

    @within_limits
    def __init__(self, *, name: str = "gaussian_blur", scale: Count = 4, sigma: Positive = 0.8) -> None:
        self.name, self.sigma = name, sigma
        self.upscale = Bicubic(scale=scale)

    def __call__(self, lq: RGB, *, name: str) -> RGB:
        return self.upscale(cv2.GaussianBlur(lq, (0, 0), self.sigma), name=name)


class NonLocalMeans:
    """Bicubic interpolation after non-local means denoising of `strength` (8-bit levels) (Buades et al., 2005)."""

    @within_limits
    def __init__(self, *, name: str = "nlm", scale: Count = 4, strength: NotNegative = 5.0) -> None:
        self.name, self.strength = name, strength
        self.upscale = Bicubic(scale=scale)

    def __call__(self, lq: RGB, *, name: str) -> RGB:
        denoised = cv2.fastNlMeansDenoisingColored(lq, None, self.strength, self.strength, 7, 21)
        return self.upscale(denoised, name=name)


class Images:
    """Results of another program: image files in `dir`, named as the benchmark's images are, up to `_LR4` and its like.

    Raises ValueError for a folder that does not exist or holds no image.
    """

    def __init__(self, dir: str | Path, *, name: str = "images") -> None:
        self.name = name
        self.folder = Path(dir).expanduser()
        self.found = images_by_stem(self.folder, key="method.dir")

    def __call__(self, lq: RGB, *, name: str) -> RGB:
        found = self.found.named_for([name])
        if not found:
            raise ValueError(f"method.dir={self.folder} holds no image for {name}")
        return read_rgb(found[name])

    def require(self, lqs: Mapping[str, Path], *, scale: int = 4) -> None:
        """Check the images of `lqs`, name -> input, before the first is taken; others in the folder are warned of.

        Raises ValueError that lists every image that the folder lacks, or those that cannot be `scale` times the input.
        """
        found = require_names(lqs, self.found, f"method.dir={self.folder}")
        require_fits({name: (lq, found[name]) for name, lq in lqs.items()}, scale, "the result")

    @classmethod
    def missing_files(cls, dir: str | Path) -> list[MissingFile]:
        """List the folder if it does not exist."""
        if Path(dir).expanduser().is_dir():
            return []
        return [MissingFile(str(dir), "the results of the method to judge, one image a file", "method.dir=FOLDER")]
