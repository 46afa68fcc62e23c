"""What an image file holds besides its pixels: left aside before decoding, so that no damage in it costs the pixels."""

import zlib
from collections.abc import Iterator, Mapping

import numpy as np
from PIL import Image

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 0x0112
# What changes the pixels, says how to turn them, or makes an animation of them (PNG, third edition, chapter 11).
_PNG_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf", b"iCCP", b"acTL", b"fcTL", b"fdAT"})
_MAX_PROFILE_BYTES = 1 << 20
_JPEG_START, _JPEG_SCAN, _JPEG_COMMENT = b"\xff\xd8", 0xDA, 0xFE
# Application segments, and how they begin: JFIF's and Adobe's say what the colors are.
_JPEG_COLORS = {0xE0: b"", 0xEE: b""}
_JPEG_DESCRIBED = {0xE1: b"Exif\x00", 0xE2: b"ICC_PROFILE\x00"}


def without_metadata(data: bytes) -> bytes:
    """Return a PNG or JPEG file without texts, previews and unsound profiles; any other file as it is.

    EXIF stays, for `orientation`. What does not follow the format is returned as it is: decoding tells what is wrong.
    """
    if data.startswith(PNG_MAGIC):
        return PNG_MAGIC + b"".join(_png_chunks(data))
    return _jpeg(data, {**_JPEG_COLORS, **_JPEG_DESCRIBED}) if data.startswith(_JPEG_START) else data


def jpeg_pixels(data: bytes) -> bytes:
    """Return a JPEG file without EXIF and profile too, which libjpeg reads and may complain of."""
    return _jpeg(data, _JPEG_COLORS)


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an opened image, 1 to 8; 1 where it has none, or none that can be read."""
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        value = exif.get(_ORIENTATION, 1)
    except Exception:  # damage makes Pillow's parsers raise almost anything
        return 1
    return value if value in range(1, 9) else 1


def upright(pixels: np.ndarray, turned: int) -> np.ndarray:
    """Return pixels (h, w, ...) as they are to be seen; `turned` is their `orientation`."""
    if turned >= 5:
        pixels = pixels.swapaxes(0, 1)
    if turned in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if turned in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _png_chunks(data: bytes) -> Iterator[bytes]:
    start = len(PNG_MAGIC)
    while start < len(data):
        kind, end = data[start + 4 : start + 8], start + 12 + int.from_bytes(data[start : start + 4])
        chunk = data[start:end]
        # A capital first letter: no decoder may pass over this chunk.
        if (kind in _PNG_CHUNKS or kind[:1].isupper()) and _is_sound(kind, chunk):
            yield chunk
        start = end


def _is_sound(kind: bytes, chunk: bytes) -> bool:
    """Return False for EXIF or a profile that is damaged, and for a profile that is larger than any is."""
    if kind not in (b"eXIf", b"iCCP"):
        return True
    if int.from_bytes(chunk[-4:]) != zlib.crc32(chunk[4:-4]):
        return False
    return kind == b"eXIf" or _is_profile(chunk[8:-4])


def _is_profile(content: bytes) -> bool:
    inflate = zlib.decompressobj()
    try:
        inflate.decompress(content.partition(b"\x00")[2][1:], _MAX_PROFILE_BYTES)
    except zlib.error:
        return False
    return inflate.eof


def _jpeg(data: bytes, kept: Mapping[int, bytes]) -> bytes:
    """Return the file without comments, and without application segments but those of `kept`."""
    return _JPEG_START + b"".join(_jpeg_segments(data, kept))


def _jpeg_segments(data: bytes, kept: Mapping[int, bytes]) -> Iterator[bytes]:
    start = len(_JPEG_START)
    while data[start : start + 1] == b"\xff" and (marker := data[start + 1 : start + 2]) not in (b"", b"\xff"):
        if marker[0] == _JPEG_SCAN:
            break
        end = start + 2 + int.from_bytes(data[start + 2 : start + 4])
        segment = data[start:end]
        is_told = marker[0] in kept and segment[4:].startswith(kept[marker[0]])
        if is_told or not (marker[0] == _JPEG_COMMENT or 0xE0 <= marker[0] <= 0xEF):
            yield segment
        start = end
    yield data[start:]
