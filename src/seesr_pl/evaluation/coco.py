"""A set of images with COCO-style annotations: boxes, masks and segments, and the categories of a network's labels."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seesr_pl.annotations import Amount, Count
from seesr_pl.data.stream import Degradation
from seesr_pl.evaluation.making import MadeBenchmark
from seesr_pl.evaluation.pairing import listed
from seesr_pl.files import MissingFile, fingerprint
from seesr_pl.imaging.io import image_size, read_rgb
from seesr_pl.limits import read_file

VOID = 0
# Names that published detectors have for categories of COCO, from Pascal VOC.
_OTHER_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}


class CocoBenchmark(MadeBenchmark):
    """Images with COCO-style annotations, each taken whole, its longer side `size`, and degraded by key.

    Results are judged in the coordinates of the original images, so that the annotations hold as they are.

    Args:
        root: of the pairs that are made.
        images: the folder of images.
        instances: the JSON file of boxes and masks.
        panoptic: the JSON file of segments, whose PNG files lie in the folder beside it of the same name.
        degradation: makes lq of hq.
        seed: of the degradations.
        size: of an image's longer side.
        name: of the set.
        max_images: judge the first images only.
        origin: of the images.
    """

    def __init__(
        self,
        root: str,
        *,
        images: str,
        instances: str,
        degradation: Degradation,
        panoptic: str | None = None,
        seed: Amount = 0,
        size: Count = 512,
        name: str = "coco",
        max_images: Count | None = None,
        origin: str = "your own images",
    ) -> None:
        options = {"seed": seed, "size": size, "name": name, "max_images": max_images, "origin": origin}
        super().__init__(root, images=images, degradation=degradation, **options)  # type: ignore[arg-type]
        self.instances = Path(instances).expanduser()
        self.panoptic = None if panoptic is None else Path(panoptic).expanduser()

    @classmethod
    def missing_files(  # type: ignore[override]  # asked by the names of its own arguments
        cls, images: str, instances: str, panoptic: str | None = None, *, name: str = "coco", origin: str = ""
    ) -> list[MissingFile]:
        """List the images and annotations that do not exist."""
        wanted = {"images": images, "instances": instances, "panoptic": panoptic}
        return [
            MissingFile(path, f"{origin} ({name})", f"benchmark.{key}=PATH")
            for key, path in wanted.items()
            if path is not None and not Path(path).expanduser().exists()
        ]


class Categories(NamedTuple):
    """Ids by name, and which are things rather than stuff."""

    ids: dict[str, int]
    things: set[int]

    def of_labels(self, labels: Mapping[int, str], what: str) -> dict[int, int]:
        """Return the category of each label of a network that has one. Raises ValueError where none has."""
        names = {label: _OTHER_NAMES.get(name.lower(), name.lower()) for label, name in labels.items()}
        found = {label: self.ids[name] for label, name in names.items() if name in self.ids}
        if not found:
            raise ValueError(
                f"{what}: none of its {len(labels)} classes ({listed(sorted(names.values()))}) is a category of the "
                f"annotations ({listed(sorted(self.ids))})"
            )
        return found


class Annotations(NamedTuple):
    """What a set's JSON files say: the two files' contents, categories, and ids of images by the stem of their name."""

    instances: dict[str, Any]
    segments: dict[int, dict[str, Any]]
    folder: Path | None
    boxes: Categories
    areas: Categories
    ids: dict[str, int]
    sizes: dict[str, tuple[int, int]]
    version: str

    @classmethod
    def read(cls, benchmark: CocoBenchmark) -> "Annotations":
        """Read the annotations of `benchmark`. Raises ValueError where its images do not fit them."""
        instances = _json(benchmark.instances)
        panoptic = _json(benchmark.panoptic) if benchmark.panoptic else {"annotations": [], "categories": []}
        found = cls(
            instances,
            {each["image_id"]: each for each in panoptic["annotations"]},
            benchmark.panoptic and benchmark.panoptic.with_suffix(""),
            _categories(instances["categories"]),
            _categories(panoptic["categories"]),
            {Path(image["file_name"]).stem: image["id"] for image in instances["images"]},
            {Path(image["file_name"]).stem: (image["width"], image["height"]) for image in instances["images"]},
            fingerprint(benchmark.instances, benchmark.panoptic),
        )
        found._require(benchmark)
        return found

    def category_map(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Return for each pixel its category, 0 where it has none, and its segment; both (h, w) integers."""
        assert self.folder is not None
        entry = self.segments[image_id]
        colors = read_rgb(self.folder / entry["file_name"]).astype(np.int64)
        segments = colors[..., 0] + 256 * colors[..., 1] + 256**2 * colors[..., 2]
        categories = np.full_like(segments, VOID)
        for segment in entry["segments_info"]:
            categories[segments == segment["id"]] = segment["category_id"]
        return categories, segments

    def crowds(self, image_id: int) -> list[int]:
        """Return the segments of an image that are crowds: PQ leaves them out."""
        return [segment["id"] for segment in self.segments[image_id]["segments_info"] if segment.get("iscrowd")]

    def _require(self, benchmark: CocoBenchmark) -> None:
        images = {path.stem: path for path in (pair.hq for pair in benchmark.pairs()) if path}
        unknown = sorted(set(images) - set(self.ids))
        if unknown:
            raise ValueError(
                f"{benchmark.instances} does not know {len(unknown)} of {len(images)} images: {listed(unknown)}"
            )
        sources = benchmark.sources()
        turned = sorted(name for name in images if image_size(sources[name]) != self.sizes[name])
        if turned:
            raise ValueError(
                f"{len(turned)} of {len(images)} images in {benchmark.images} have another size than in "
                f"{benchmark.instances}: {listed(turned)}"
            )
        bare = sorted(name for name in images if self.folder and self.ids[name] not in self.segments)
        if bare:
            raise ValueError(f"{benchmark.panoptic} does not know {len(bare)} of {len(images)} images: {listed(bare)}")


def _categories(entries: Sequence[Mapping[str, Any]]) -> Categories:
    ids = {str(entry["name"]).lower(): int(entry["id"]) for entry in entries}
    return Categories(ids, {int(entry["id"]) for entry in entries if entry.get("isthing", 1)})


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_file(path))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON of annotations: {error}") from error
    lacking = [key for key in ("annotations", "categories") if key not in content]
    if lacking:
        raise ValueError(f"{path} is no file of COCO's annotations: it has no {' and no '.join(lacking)}")
    return content
