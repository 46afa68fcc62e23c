"""Tags of a tile of a photograph: what its pixels are like, and which annotated regions it lies in."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

# Hue in OpenCV's half degrees. A color counts if at least COLOUR_SHARE of the pixels have it.
HUES = {"orange": (6, 20), "yellow": (20, 34), "green": (34, 85), "blue": (85, 130), "purple": (130, 165)}
COLOUR_SHARE = 0.2
APPEARANCE_TAGS = (
    *("dark", "bright", "gray", "vivid", "red", *HUES, "white", "black"),
    *("smooth", "textured", "horizontal", "vertical", "contrast"),
)
# Gray levels of second difference: about a third of the training tiles is below SMOOTH, a third above TEXTURED.
SMOOTH, TEXTURED = 3.0, 12.0
DIRECTED = 1.35
# Share of a tile that a region must cover for its tag to hold.
REGION_SHARE = 0.3

Box = tuple[float, float, float, float]


def appearance_tags(tile: np.ndarray) -> list[str]:
    """Return which of `APPEARANCE_TAGS` hold for an RGB uint8 tile (h, w, 3), by thresholds on its statistics."""
    hue, saturation, value = (plane.astype(np.float32) for plane in cv2.split(cv2.cvtColor(tile, cv2.COLOR_RGB2HSV)))
    luma = cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY).astype(np.float32)
    colored = (saturation > 70) & (value > 50)
    true = {
        "dark": luma.mean() < 70,
        "bright": luma.mean() > 165,
        "gray": saturation.mean() < 30,
        "vivid": saturation.mean() > 130,
        "red": (colored & ((hue < 6) | (hue >= 165))).mean() > COLOUR_SHARE,
        "white": ((saturation < 40) & (value > 200)).mean() > COLOUR_SHARE,
        "black": (value < 40).mean() > COLOUR_SHARE,
        "contrast": luma.std() > 60,
    }
    true |= {name: (colored & (hue >= low) & (hue < high)).mean() > COLOUR_SHARE for name, (low, high) in HUES.items()}
    true |= _texture_tags(luma)
    return [tag for tag in APPEARANCE_TAGS if true[tag]]


def region_tags(regions: Mapping[str, Sequence[Box]], box: Box) -> list[str]:
    """Return the tags whose boxes cover at least `REGION_SHARE` of `box`, all in fractions of the photograph."""
    return [tag for tag, boxes in regions.items() if sum(_overlap(other, box) for other in boxes) >= REGION_SHARE]


def _texture_tags(luma: np.ndarray) -> dict[str, bool]:
    """Judge texture by second differences: structure of a few pixels counts, an edge between plain areas hardly."""
    vertical, horizontal = (float(np.abs(np.diff(luma, n=2, axis=axis)).mean()) for axis in (1, 0))
    strength = vertical + horizontal
    return {
        "smooth": strength < SMOOTH,
        "textured": strength > TEXTURED,
        "horizontal": strength > SMOOTH and horizontal > DIRECTED * vertical,
        "vertical": strength > SMOOTH and vertical > DIRECTED * horizontal,
    }


def _overlap(region: Box, box: Box) -> float:
    """Return the share of `box` that `region` covers."""
    width = max(0.0, min(region[2], box[2]) - max(region[0], box[0]))
    height = max(0.0, min(region[3], box[3]) - max(region[1], box[1]))
    return width * height / ((box[2] - box[0]) * (box[3] - box[1]))
