"""Test sets that are made here: HQ crops, or whole images, degraded by key; the same bytes whenever they are made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from seesr_pl import keyed
from seesr_pl.annotations import Amount, Count, within_limits
from seesr_pl.data.stream import Degradation
from seesr_pl.degradation import recorded
from seesr_pl.degradation.real_esrgan import MIN_SIDE
from seesr_pl.evaluation.benchmark import FolderBenchmark, MadePair, Pair, count_pairs, pixel_digest, write_pairs
from seesr_pl.evaluation.pairing import images_by_stem, listed
from seesr_pl.evaluation.restoring import Track, silently
from seesr_pl.files import MissingFile, Record, fingerprint, versions
from seesr_pl.imaging.io import image_size, read_rgb
from seesr_pl.types import RGB

CROP = r"(.*)_\d+"
"""The name of a crop: its photograph's, and its number."""
_CODECS = ("numpy", "opencv-python-headless", "simplejpeg", "pillow")


class _Part(NamedTuple):
    """What is to be made: a pair's name, and the image that it is made of."""

    name: str
    image: Path


class MadeBenchmark(FolderBenchmark):
    """Pairs made of the HQ images in `images`, kept in `root` as `FolderBenchmark` reads them, beside `made.json`.

    A pair depends on the name and the pixels of its image, the seed and the degradation alone, not on the other images.
    Made again, it has the same bytes with the same versions of the codecs, which the record names.

    Args:
        root: of the pairs.
        images: a folder of HQ images; folders below it are searched.
        degradation: makes lq of hq.
        seed: of crops and degradations.
        size: of the crops; of whole images, that of the longer side.
        crops: how many square crops to take, of all images equally many; null takes each image whole, resized.
        name: of the set.
        max_images: judge the first of the pairs only.
        origin: of the images.

    The statistics draw the crops of an image together.
    """

    @within_limits
    def __init__(
        self,
        root: str,
        *,
        images: str,
        degradation: Degradation,
        seed: Amount = 0,
        size: Count = 512,
        crops: Count | None = None,
        name: str = "made",
        max_images: Count | None = None,
        origin: str = "your own images",
    ) -> None:
        scale = degradation.scale
        if size < MIN_SIDE or size % scale:
            raise ValueError(f"benchmark.size={size} must be a multiple of {scale}, at least {MIN_SIDE}")
        group = CROP if crops else None
        super().__init__(root, name=name, scale=scale, max_images=max_images, origin=origin, group=group)
        self.images = Path(images).expanduser()
        self.degradation, self.seed, self.size, self.crops = degradation, seed, size, crops

    def make(self, *, track: Track[Any] = silently) -> dict[str, Any]:
        """Make the pairs where any is missing, and return the record: settings, versions, number and digest of pairs.

        Raises ValueError where an image is too small or gets no crop, or where `root` holds something else.
        """
        sources = self.sources()
        record, settings = Record(self.root / "made.json"), self._settings()
        what = fingerprint(settings, sorted(sources))
        if self.root.is_dir() and any(self.root.iterdir()) and not record.holds(what):
            raise ValueError(
                f"benchmark.root={self.root} holds other than this set: made by other settings, of other images, or no "
                "set that was made here; give another folder, or remove it"
            )
        stamps = fingerprint(list(sources.values()))
        found = record.read()
        if found.get("stamps") != stamps or found.get("pairs") != count_pairs(self.root):
            parts = self._parts(sources)
            record.write(what)
            count = write_pairs(self.root, (self._made(part) for part in track(parts, "make")))
            pairs = FolderBenchmark(str(self.root), name=self.name, scale=self.scale).pairs()
            facts = {"images": str(self.images), "sources": len(sources), "pairs": count, "settings": settings}
            record.write(what, stamps=stamps, digest=pixel_digest(pairs), versions=versions(_CODECS), **facts)
        return record.read()

    def pairs(self) -> list[Pair]:
        """Return the pairs, as `FolderBenchmark` does, after making them all again where one is not there."""
        self.make()
        return super().pairs()

    def sources(self) -> dict[str, Path]:
        """Return the image files by name, in the order of their names."""
        found = images_by_stem(self.images, key="benchmark.images").paths
        return {name.replace("/", "_"): path for name, path in sorted(found.items())}

    @classmethod
    def missing_files(cls, images: str, *, name: str = "made", origin: str = "your own images") -> list[MissingFile]:
        """List the folder of HQ images if it does not exist."""
        if Path(images).expanduser().is_dir():
            return []
        return [MissingFile(images, f"{origin} ({name})", "benchmark.images=FOLDER")]

    def _settings(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "size": self.size,
            "crops": self.crops,
            "degradation": _described(self.degradation),
        }

    def _parts(self, sources: dict[str, Path]) -> list[_Part]:
        if self.crops is None:
            return [_Part(name, path) for name, path in sources.items()]
        small = [name for name, path in sources.items() if min(image_size(path)) < self.size]
        if small:
            raise ValueError(
                f"benchmark.images={self.images}: {len(small)} of {len(sources)} images have no crop of {self.size} "
                f"pixels: {listed(small)}; leave them out, or give a smaller benchmark.size"
            )
        each, more = divmod(self.crops, len(sources))
        if not each:
            raise ValueError(f"benchmark.crops={self.crops} must be at least {len(sources)}: one of each image")
        digits = max(2, len(str(each)))
        return [
            _Part(f"{name}_{crop:0{digits}}", path)
            for number, (name, path) in enumerate(sources.items())
            for crop in range(each + (number < more))
        ]

    def _made(self, part: _Part) -> MadePair:
        image = read_rgb(part.image)
        hq = _whole(image, self.size, self.scale) if self.crops is None else self._crop(image, part.name)
        params = self.degradation.sample(self.seed, 0, keyed.key("made", part.name))
        hq, lq = self.degradation.apply(hq, params)
        told = getattr(params, "kind", ""), recorded(self.degradation, params)
        return MadePair(part.name, hq, lq, float(params.severity), *told)

    def _crop(self, image: RGB, name: str) -> RGB:
        down, right = keyed.numpy_generator(self.seed, "made", name, "crop").random(2)
        top, left = (int(at * (side - self.size + 1)) for at, side in zip((down, right), image.shape[:2], strict=True))
        return np.ascontiguousarray(image[top : top + self.size, left : left + self.size])


def _whole(image: RGB, size: int, scale: int) -> RGB:
    height, width = image.shape[:2]
    factor = size / max(height, width)
    sides = [max(round(side * factor / scale) * scale, MIN_SIDE) for side in (width, height)]
    return np.asarray(Image.fromarray(image).resize((sides[0], sides[1]), Image.Resampling.LANCZOS))


def _described(part: Any) -> Any:
    """The settings of a degradation: its class, and its attributes by name, as JSON has them."""
    if isinstance(part, Mapping):
        return {str(name): _described(value) for name, value in part.items()}
    if isinstance(part, list | tuple):
        return [_described(item) for item in part]
    if not hasattr(part, "__dict__"):
        return part
    return {"class": type(part).__name__, **_described(vars(part))}
