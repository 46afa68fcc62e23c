"""Read image files of any format as 8-bit RGB, and write them."""

from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from seesr_pl.files import write_whole

MAX_PIXELS = 89_478_485
"""Images with more pixels are refused, at Pillow's own limit: a file of a few kilobytes can claim any size."""
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""Formats that can be written, by file ending."""


class DecodedImage(NamedTuple):
    """The content of an image file: upright 8-bit RGB, and its transparency and ICC profile where it has them."""

    rgb: UInt8[np.ndarray, "h w 3"]
    alpha: UInt8[np.ndarray, "h w"] | None = None
    icc_profile: bytes | None = None


def read_rgb(source: str | Path | bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Read an image file, or its bytes, as upright 8-bit RGB; transparent pixels are blended over white.

    Raises ValueError where it is not an image, is damaged or animated, or has more than MAX_PIXELS pixels; OSError
    where the file cannot be read.
    """
    return _over_white(read_decoded(source))


def read_decoded(source: str | Path | bytes, *, name: str = "the image") -> DecodedImage:
    """Read an image file as `read_rgb` does, but keep transparency and profile apart, for `write_decoded`.

    `name` names the image in errors where `source` is bytes; a file is named by its path. Raises as `read_rgb`.
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
        # Damage makes Pillow's parsers raise almost any exception; one with an error number is the file system's.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{name} is damaged: {error}") from error


def write_image(path: str | Path, image: UInt8[np.ndarray, "h w 3"]) -> None:
    """Write 8-bit RGB, whole or not at all, in the format of the ending (.png, .jpg, .jpeg, .webp).

    Raises as `write_decoded` does.
    """
    write_decoded(path, DecodedImage(image))


def write_decoded(path: str | Path, image: DecodedImage, *, quality: int = 95) -> None:
    """Write an image with its transparency (JPEG has none: blended over white) and profile, whole or not at all.

    `quality`, 1 to 100, is that of JPEG and WebP. Raises ValueError for an unknown file ending, OSError where the disk
    is full or the folder cannot be written.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise ValueError(f"{path}: the ending {ending!r} is not one of {', '.join(FORMATS)}")
    if image.alpha is None or FORMATS[ending] == "JPEG":
        pixels = _over_white(image)
    else:
        pixels = np.dstack([image.rgb, image.alpha])
    buffer = BytesIO()
    # PNG has no quality; Pillow ignores it there.
    Image.fromarray(pixels).save(buffer, FORMATS[ending], quality=quality, icc_profile=image.icc_profile)
    write_whole(path, buffer.getvalue())


def _over_white(image: DecodedImage) -> UInt8[np.ndarray, "h w 3"]:
    if image.alpha is None:
        return image.rgb
    opacity = image.alpha[..., None].astype(np.float32) / 255
    return np.rint(image.rgb * opacity + 255 * (1 - opacity)).astype(np.uint8)


def _check(image: Image.Image, name: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{name} has {image.width}x{image.height} pixels; the limit is {MAX_PIXELS} in all")
    # An MPO file is a camera's JPEG followed by a preview.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        frames = getattr(image, "n_frames", 0)
        raise ValueError(f"{name} is an animation or a stack of {frames} images; save the one to use as a file")


def _decode(image: Image.Image) -> DecodedImage:
    # Other modes are converted to RGB, and their profile does not describe the converted colors.
    profile = image.info.get("icc_profile") if image.mode in ("RGB", "RGBA", "P") else None
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_eight_bit(image))
    if image.mode in ("RGBA", "LA", "La", "PA", "RGBa") or "transparency" in image.info:
        pixels = np.asarray(image.convert("RGBA"))
        return DecodedImage(np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3]), profile)
    return DecodedImage(np.array(image.convert("RGB")), None, profile)


def _eight_bit(image: Image.Image) -> UInt8[np.ndarray, "h w"]:
    # Pillow's own conversion of deep grayscale clips at 255 instead of scaling.
    levels = np.asarray(image).astype(np.float64)
    peak = levels.max(initial=0)
    is_deep = image.mode.startswith("I;16") or peak > 255
    full = 65535.0 if is_deep else 255.0 if peak > 1 else 1.0
    return np.rint(np.clip(levels / full, 0, 1) * 255).astype(np.uint8)
