"""Which image belongs to which: by name, as downloads and programs write names, and by what the pixels allow."""

import re
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from seesr_pl.files import IMAGE_SUFFIXES, LeftOut, find_images
from seesr_pl.imaging.io import read_decoded
from seesr_pl.types import RGB

NUM_NAMED = 5
_ROLE = re.compile(r"(?:[_-](LR|LQ|HR|HQ|GT|SR|OUT)(?:[_-]?x?[2348])?|(?:(?<=\d)|[_-])x[2348])$", re.IGNORECASE)
_REFERENCES = ("HR", "HQ", "GT")
_THUMBNAIL = 16
_ALIKE, _UNLIKE = 0.9, 0.7


class ImagesByStem(NamedTuple):
    """The images of a folder by name, and what the search left out.

    A name is a file's without extension; where folders below hold the same one, with the folders: `day/001`.
    """

    paths: dict[str, Path]
    left_out: list[LeftOut]

    def named_for(self, names: Iterable[str]) -> dict[str, Path]:
        """Return the image of each of `names` that has one: of the same name, or else the same but for a suffix.

        `Canon_001_HR` belongs to `Canon_001_LR4`, `0801` to `0801x4`, `a_out` to `a`. A name that several images would
        fit gets none of them.
        """
        wanted = list(names)
        found = {name: self.paths[name] for name in wanted if name in self.paths}
        if len(found) == len(wanted):
            return found
        free = _by_bare(name for name in wanted if name not in found)
        for bare, files in _by_bare(name for name in self.paths if name not in found).items():
            if len(files) == len(free.get(bare, ())) == 1:
                found[free[bare][0]] = self.paths[files[0]]
        return found

    def references(self, *, wanted: bool) -> "ImagesByStem":
        """Return the images whose names end as references do (`_HR`, `_HQ`, `_GT`), or those whose names do not."""
        kept = {name: path for name, path in self.paths.items() if (_role(name) in _REFERENCES) == wanted}
        return self._replace(paths=kept)


def images_by_stem(folder: Path, *, key: str, recursive: bool = True) -> ImagesByStem:
    """Find the images of `folder` by name without extension; `files.find_images` says which files are meant.

    Args:
        folder: where to look.
        key: the config key to name in an error.
        recursive: look in the folders below it too.

    Raises ValueError if the folder does not exist, holds no image, or holds two images of one name in one folder.
    """
    if not folder.is_dir():
        raise ValueError(f"{key}: folder {folder} does not exist{_beside(folder)}")
    images, left_out = find_images(folder, recursive=recursive)
    if not images:
        raise ValueError(f"{key}: {folder} holds no image ({' '.join(IMAGE_SUFFIXES)}){reasons(left_out)}")
    places: dict[str, Path] = {}
    for path, place in images:
        name = place.with_name(path.stem).as_posix()
        if name in places:
            raise ValueError(f"{key}: {places[name]} and {path} have the same name; keep one of them")
        places[name] = path
    stems = [path.stem for path in places.values()]
    several = {stem for stem, count in zip(*np.unique(stems, return_counts=True), strict=True) if count > 1}
    return ImagesByStem({n if p.stem in several else p.stem: p for n, p in places.items()}, left_out)


def require_names(wanted: Collection[str], present: ImagesByStem, what: str, *, fix: str = "") -> dict[str, Path]:
    """Return the image of each name of `wanted`; images of `present` that belong to none are warned of.

    Raises ValueError, with `what`, the names, what belongs to none and what was left out, if one has no image; with a
    `fix` also if an image belongs to none.
    """
    found = present.named_for(wanted)
    missing, used = sorted(set(wanted) - set(found)), set(found.values())
    extra = sorted(name for name, path in present.paths.items() if path not in used)
    if missing:
        others = f"\n  of no such name: {listed(extra)}" if extra else ""
        raise ValueError(
            f"{what}: {len(missing)} of {len(wanted)} missing: {listed(missing)}{others}{reasons(present.left_out)}"
        )
    if extra:
        words = f"{what}: {len(extra)} of {len(present.paths)} images belong to none of the set: {listed(extra)}"
        if fix:
            raise ValueError(f"{words}; {fix}")
        warnings.warn(words, stacklevel=2)
    return found


def require_fits(images: Mapping[str, tuple[Path, Path | None]], scale: int, what: str) -> None:
    """Raise ValueError that lists each image, by name (lq, image), that cannot be the `scale` times larger lq."""
    found = {name: reason for name, (lq, image) in images.items() if (reason := misfit(lq, image, scale, what))}
    if found:
        more = f"\n  and {len(found) - NUM_NAMED} more" if len(found) > NUM_NAMED else ""
        lines = [f"\n  {name}: {reason}" for name, reason in list(found.items())[:NUM_NAMED]]
        raise ValueError(f"{len(found)} of {len(images)} images of {what} do not fit:{''.join(lines)}{more}")


def misfit(lq: Path, image: Path | None, scale: int, what: str) -> str:
    """Say why `image` cannot be `lq` at `scale` times its size: unreadable, transparent, of another size, turned.

    Without an image: why `lq` cannot be judged, if it can be read.
    """
    try:
        first = read_decoded(lq)
        second = read_decoded(image) if image else None
    except ValueError as error:
        return str(error) if image else ""
    for path, alpha in ((lq, first.alpha), (image, second and second.alpha)):
        if alpha is not None and (alpha < 255).any():
            return f"{path} has transparent pixels, which have no color to compare; save it without alpha"
    if second is None:
        return ""
    small, large = first.rgb.shape[1::-1], second.rgb.shape[1::-1]
    turned = _turn(first.rgb, second.rgb)
    if large != (small[0] * scale, small[1] * scale):
        return (
            f"lq is {small[0]}x{small[1]} and {what} {large[0]}x{large[1]}{turned and f' and {turned}'}; {what} must "
            f"be {scale} times lq on each side ({lq}, {image})"
        )
    return turned and f"{image} is {turned} beside {lq}"


def listed(names: Sequence[str]) -> str:
    """Name the first few of `names`, and count the others."""
    more = f" and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else ""
    return f"{', '.join(names[:NUM_NAMED])}{more}"


def reasons(left_out: Sequence[LeftOut]) -> str:
    """What a search left out, a line each, as the end of an error message."""
    more = f"\n  and {len(left_out) - NUM_NAMED} more" if len(left_out) > NUM_NAMED else ""
    return "".join(f"\n  left out: {path}: {reason}" for path, reason in left_out[:NUM_NAMED]) + more


def _turn(lq: RGB, image: RGB) -> str:
    """Say whether `image` looks like `lq` turned or mirrored, and not like itself."""
    first, second = _thumbnail(lq), _thumbnail(image)
    alike = {
        (turns, mirrored): float((first * np.rot90(second[:, ::-1] if mirrored else second, turns)).mean())
        for turns in range(4)
        for mirrored in (False, True)
    }
    best = max(alike, key=lambda each: alike[each])
    if alike[best] < _ALIKE or alike[0, False] > _UNLIKE:
        return ""
    return "mirrored" if best[1] else f"turned by {best[0] * 90} degrees"


def _thumbnail(image: RGB) -> np.ndarray:
    gray = image.mean(2, dtype=np.float32)
    small = cv2.resize(gray, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    return (small - small.mean()) / max(float(small.std()), 1.0)


def _by_bare(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_ROLE.sub("", name), []).append(name)
    return found


def _role(name: str) -> str:
    match = _ROLE.search(name)
    return (match.group(1) or "").upper() if match else ""


def _beside(folder: Path) -> str:
    """The folders that lie where `folder` was expected, as the end of an error message."""
    if not folder.parent.is_dir():
        return ""
    names = sorted(path.name for path in folder.parent.iterdir() if path.is_dir())
    return f"; {folder.parent} holds {', '.join(names[:NUM_NAMED]) or 'no folder'}"
