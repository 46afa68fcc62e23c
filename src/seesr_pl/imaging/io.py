"""Picture files: whatever a camera or an editor wrote, as 8-bit RGB."""

from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from seesr_pl.files import write_whole

MAX_PIXELS = 89_478_485
"""Larger pictures are refused, as Pillow warns: a file of a few kilobytes can claim any size."""
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""Formats written, by file ending."""


class Picture(NamedTuple):
    """A decoded file: upright 8-bit RGB, its transparency and its ICC profile where it has them."""

    rgb: UInt8[np.ndarray, "h w 3"]
    alpha: UInt8[np.ndarray, "h w"] | None = None
    icc_profile: bytes | None = None


def read_rgb(source: str | Path | bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Upright 8-bit RGB of an image file or its bytes; transparency is laid over white.

    ValueError where it is no image, is damaged, animated, or has more than MAX_PIXELS.
    """
    return _over_white(read_picture(source))


def read_picture(source: str | Path | bytes, *, name: str = "the picture") -> Picture:
    """As `read_rgb`, with transparency and profile kept apart, to be written back by `write_picture`.

    `name` is what an error calls bytes; a file is called by its path.
    """
    if not isinstance(source, bytes):
        name = str(source)
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
            _check(image, name)
            return _decode(image)
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} is not an image that can be read") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name} has too many pixels; the limit is {MAX_PIXELS}") from error
    except ValueError:
        raise
    except Exception as error:
        # Damage makes Pillow's parsers raise almost anything; an error number is the file system's.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{name} is damaged: {error}") from error


def write_image(path: str | Path, image: UInt8[np.ndarray, "h w 3"]) -> None:
    """Writes 8-bit RGB by the file ending (.png, .jpg, .jpeg, .webp), all of it or nothing."""
    write_picture(path, Picture(image))


def write_picture(path: str | Path, picture: Picture, *, quality: int = 95) -> None:
    """Writes a picture with its transparency (in JPEG laid over white) and profile, all of it or nothing.

    `quality` is that of JPEG and WebP. ValueError for an unknown file ending; OSError where the disk is full or the
    folder cannot be written.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise ValueError(f"{path}: the ending {ending!r} is not one of {', '.join(FORMATS)}")
    if picture.alpha is None or FORMATS[ending] == "JPEG":
        pixels = _over_white(picture)
    else:
        pixels = np.dstack([picture.rgb, picture.alpha])
    buffer = BytesIO()
    # PNG has no quality, and Pillow leaves it out there.
    Image.fromarray(pixels).save(buffer, FORMATS[ending], quality=quality, icc_profile=picture.icc_profile)
    write_whole(path, buffer.getvalue())


def _over_white(picture: Picture) -> UInt8[np.ndarray, "h w 3"]:
    if picture.alpha is None:
        return picture.rgb
    opacity = picture.alpha[..., None].astype(np.float32) / 255
    return np.rint(picture.rgb * opacity + 255 * (1 - opacity)).astype(np.uint8)


def _check(image: Image.Image, name: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{name} has {image.width}x{image.height} pixels; the limit is {MAX_PIXELS} in all")
    # MPO is a camera's JPEG with a preview behind it.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        frames = getattr(image, "n_frames", 0)
        raise ValueError(f"{name} is an animation or a stack of {frames} pictures; save the one to use as a file")


def _decode(image: Image.Image) -> Picture:
    # Other modes are converted, and their profile would describe colours that the result no longer has.
    profile = image.info.get("icc_profile") if image.mode in ("RGB", "RGBA", "P") else None
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_eight_bit(image))
    if image.mode in ("RGBA", "LA", "La", "PA", "RGBa") or "transparency" in image.info:
        pixels = np.asarray(image.convert("RGBA"))
        return Picture(np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3]), profile)
    return Picture(np.array(image.convert("RGB")), None, profile)


def _eight_bit(image: Image.Image) -> UInt8[np.ndarray, "h w"]:
    # Pillow's own conversion of deep grayscale clips at 255 instead of scaling.
    levels = np.asarray(image).astype(np.float64)
    peak = levels.max(initial=0)
    is_deep = image.mode.startswith("I;16") or peak > 255
    full = 65535.0 if is_deep else 255.0 if peak > 1 else 1.0
    return np.rint(np.clip(levels / full, 0, 1) * 255).astype(np.uint8)
