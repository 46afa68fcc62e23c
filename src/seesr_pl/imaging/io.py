"""Read image files of any format as 8-bit RGB, and write them: the one decoder of every command."""

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from seesr_pl.files import write_whole
from seesr_pl.imaging.metadata import jpeg_pixels, orientation, upright, without_metadata
from seesr_pl.limits import MAX_PIXELS, check_bytes, check_pixels, read_file

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""Formats that can be written, by file ending."""
MAX_SIDES = {"JPEG": 65500, "WEBP": 16383}
"""Largest sides that a format can hold, in pixels."""

# No other format is tried, whatever a file is named: Pillow runs Ghostscript for PostScript, for one.
READ_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "GIF")
"""What Pillow is asked to read."""
_PNG_END = b"IEND\xaeB`\x82"
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_ROWS_AT_ONCE = 256
# Pillow refuses twice its limit by itself.
Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, MAX_PIXELS)

_ABOUT, _DESCRIPTION = "seesr", 0x010E  # the key of a text in a PNG; EXIF's ImageDescription


class DecodedImage(NamedTuple):
    """The content of an image file: upright 8-bit RGB, and its transparency and ICC profile where it has them.

    `about` says how the image was made, as JSON values to write beside the pixels; `read_about` reads them again.
    """

    rgb: UInt8[np.ndarray, "h w 3"]
    alpha: UInt8[np.ndarray, "h w"] | None = None
    icc_profile: bytes | None = None
    about: Mapping[str, Any] | None = None


def read_rgb(source: str | Path | bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Read an image file, or its bytes, as upright 8-bit RGB; transparent pixels are blended over white.

    Raises ValueError where it is not an image, is damaged or animated, or is larger than `limits` allows; OSError where
    the file cannot be read.
    """
    return _over_white(read_decoded(source))


def read_decoded(source: str | Path | bytes, *, name: str = "the image") -> DecodedImage:
    """Read an image file as `read_rgb` does, but keep transparency and profile apart, for `write_decoded`.

    `name` names the image in errors where `source` is bytes; a file is named by its path. Raises as `read_rgb`.
    """
    if not isinstance(source, bytes):
        name, source = str(source), read_file(source)
    data = without_metadata(source)
    with _open(data, name) as image:
        return _decode(image, data)


def image_size(source: str | Path | bytes) -> tuple[int, int]:
    """Read (width, height) of the upright image from the file's header. Raises as `read_rgb`."""
    name = "the image" if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else read_file(source)
    with _open(without_metadata(data), name) as image:
        return image.size[::-1] if orientation(image) >= 5 else image.size


def groups_of_equal_size(sizes: Sequence[Hashable], batch_size: int) -> Iterator[list[int]]:
    """Yield positions of equal values in `sizes`, at most `batch_size` together."""
    by_size: dict[Hashable, list[int]] = {}
    for row, size in enumerate(sizes):
        by_size.setdefault(size, []).append(row)
    for rows in by_size.values():
        for start in range(0, len(rows), batch_size):
            yield rows[start : start + batch_size]


def files_of_equal_size(paths: Sequence[Path], batch_size: int) -> Iterator[list[int]]:
    """Yield positions of image files of equal size, at most `batch_size` together; those that cannot be read too."""
    if batch_size == 1:
        return ([row] for row in range(len(paths)))  # without a look at the files
    sizes = {path: _size_or_none(path) for path in paths}
    return groups_of_equal_size([sizes[path] for path in paths], batch_size)


def write_image(path: str | Path, image: UInt8[np.ndarray, "h w 3"]) -> None:
    """Write 8-bit RGB, whole or not at all, in the format of the ending (.png, .jpg, .jpeg, .webp).

    Raises as `write_decoded` does.
    """
    write_decoded(path, DecodedImage(image))


def write_decoded(path: str | Path, image: DecodedImage, *, quality: int = 95) -> None:
    """Write an image with its transparency (JPEG has none: blended over white) and profile, whole or not at all.

    `quality`, 1 to 100, is that of JPEG and WebP. `image.about` becomes the text `seesr` of a PNG, else the EXIF
    description. Raises ValueError as `check_fits`, OSError where the disk is full or the folder cannot be written.
    """
    path = Path(path)
    check_fits(path, image.rgb.shape[1], image.rgb.shape[0])
    ending = path.suffix.lower()
    if image.alpha is None or FORMATS[ending] == "JPEG":
        pixels = _over_white(image)
    else:
        pixels = np.dstack([image.rgb, image.alpha])
    buffer = BytesIO()
    # PNG has no quality; Pillow ignores it there.
    told = {} if image.about is None else _told(FORMATS[ending], json.dumps(image.about))
    Image.fromarray(pixels).save(buffer, FORMATS[ending], quality=quality, icc_profile=image.icc_profile, **told)
    write_whole(path, buffer.getvalue())


def read_about(path: str | Path) -> dict[str, Any]:
    """Read how an image was made, as `write_decoded` wrote it; {} where the file does not say."""
    with Image.open(path) as image:
        text = image.info.get(_ABOUT) or image.getexif().get(_DESCRIPTION, "")
    try:
        about = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}


def check_fits(path: str | Path, width: int, height: int) -> None:
    """Raise ValueError where `path` has no ending of `FORMATS`, or its format holds no image of this size."""
    ending = Path(path).suffix.lower()
    if ending not in FORMATS:
        raise ValueError(f"{path}: the ending {ending!r} is not one of {', '.join(FORMATS)}")
    form = FORMATS[ending]
    if max(width, height) > MAX_SIDES.get(form, max(width, height)):
        raise ValueError(f"{path}: {width}x{height} pixels; {form} holds {MAX_SIDES[form]} a side at most, use png")


def eight_bit(image: Image.Image) -> UInt8[np.ndarray, "h w"]:
    """Return grayscale of any depth as 8 bits: 1 bit, 16 bits, or floats in [0, 1], [0, 255] or [0, 65535]."""
    # Pillow's own conversion of deep grayscale clips at 255 instead of scaling.
    levels = np.asarray(image)
    peak = levels.max(initial=0)
    is_deep = image.mode.startswith("I;16") or peak > 255
    full = 65535.0 if is_deep else 255.0 if peak > 1 else 1.0
    scaled = np.empty(levels.shape, np.uint8)
    for rows in _rows(levels):
        scaled[rows] = np.rint(np.clip(levels[rows].astype(np.float64) / full, 0, 1) * 255)
    return scaled


def _size_or_none(path: Path) -> tuple[int, int] | None:
    try:
        return image_size(path)
    except (OSError, ValueError):
        return None  # whoever reads the image says what is wrong


@contextmanager
def _open(data: bytes, name: str) -> Iterator[Image.Image]:
    """Open an image and check its header; whatever goes wrong in the context is an error that names the image."""
    check_bytes(len(data), name)
    try:
        with Image.open(BytesIO(data), formats=READ_FORMATS) as image:
            _check(image, name)
            yield image
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} is not an image that can be read; replace or remove it") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name} has too many pixels; the limit is {MAX_PIXELS} (SEESR_MAX_PIXELS=NUMBER)") from error
    except ValueError as error:
        if str(error).startswith((name, f"a tile of {name}")):
            raise
        raise ValueError(f"{name} is damaged: {error}") from error
    except Exception as error:  # damage makes the parsers raise almost any exception
        raise ValueError(f"{name} is damaged: {error}") from error


def _told(form: str, text: str) -> dict[str, Any]:
    if form == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_text(_ABOUT, text)
        return {"pnginfo": info}
    exif = Image.Exif()
    exif[_DESCRIPTION] = text
    return {"exif": exif}


def _over_white(image: DecodedImage) -> UInt8[np.ndarray, "h w 3"]:
    if image.alpha is None:
        return image.rgb
    blended = np.empty_like(image.rgb)
    for rows in _rows(image.rgb):
        opacity = image.alpha[rows, :, None].astype(np.float32) / 255
        blended[rows] = np.rint(image.rgb[rows] * opacity + 255 * (1 - opacity))
    return blended


def _check(image: Image.Image, name: str) -> None:
    check_pixels(image.width, image.height, name)
    if image.format == "TIFF":  # libtiff keeps a whole tile, which may be larger than the image
        tags = image.tag_v2  # type: ignore[attr-defined]
        check_pixels(tags.get(_TILE_WIDTH, 0), tags.get(_TILE_HEIGHT, 0), f"a tile of {name}")
    if getattr(image, "is_animated", False):
        frames = getattr(image, "n_frames", 0)
        raise ValueError(f"{name} is an animation or a stack of {frames} images; save the one to use as a file")


def _decode(image: Image.Image, data: bytes) -> DecodedImage:
    # Other modes are converted to RGB, and their profile does not describe the converted colors.
    profile = image.info.get("icc_profile") if image.mode in ("RGB", "RGBA", "P") else None
    turned = orientation(image)
    if (pixels := _quickly(image, data)) is not None:
        return DecodedImage(upright(pixels, turned), None, profile)
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(eight_bit(image))
    if image.mode in ("RGBA", "LA", "La", "PA", "RGBa") or "transparency" in image.info:
        pixels = upright(np.asarray(image.convert("RGBA")), turned)
        return DecodedImage(np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3]), profile)
    return DecodedImage(upright(np.array(image.convert("RGB")), turned), None, profile)


def _quickly(image: Image.Image, data: bytes) -> UInt8[np.ndarray, "h w 3"] | None:
    """Decode ordinary files several times faster than Pillow does, to the same pixels; None where it has to do it."""
    if image.format == "JPEG" and simplejpeg.decode_jpeg_header(bare := jpeg_pixels(data))[2] in ("YCbCr", "Gray"):
        # Without strict=True libjpeg fills the missing part of a damaged file with gray and reports nothing.
        return simplejpeg.decode_jpeg(bare, colorspace="RGB", strict=True)
    # OpenCV turns an image by its EXIF itself, and complains of what it cannot read.
    ordinary = image.mode in ("RGB", "L") and not {"transparency", "exif"} & image.info.keys()
    # A second header may claim another size than the first.
    claimed = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    if image.format == "PNG" and ordinary and claimed == image.size and data[24] == 8 and data.endswith(_PNG_END):
        return _by_opencv(data)
    whole = len(data) >= 8 + int.from_bytes(data[4:8], "little")
    return _by_opencv(data) if image.format == "WEBP" and ordinary and whole else None


def _by_opencv(data: bytes) -> UInt8[np.ndarray, "h w 3"] | None:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def _rows(pixels: np.ndarray) -> Iterator[slice]:
    """Yield parts of an image: what is computed in floating point takes several times its memory."""
    return (slice(start, start + _ROWS_AT_ONCE) for start in range(0, len(pixels), _ROWS_AT_ONCE))
