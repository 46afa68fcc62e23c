"""JPEG as a real codec does it: libjpeg, 4:2:0."""

from typing import Literal

import cv2
import simplejpeg

from seesr_pl.degradation.arrays import Pixels

ChromaUpsampling = Literal["nearest", "fancy"]


def jpeg(pixels: Pixels, quality: int, *, chroma_upsampling: ChromaUpsampling = "nearest") -> Pixels:
    """RGB (h, w, 3) compressed at `quality` (1 to 100) and decoded.

    "nearest" repeats chroma, as the official DiffJPEG does (basicsr/utils/diffjpeg.py); "fancy" smooths it, as
    picture viewers do.
    """
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, code = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    nearest = chroma_upsampling == "nearest"
    return simplejpeg.decode_jpeg(code, "RGB", fastdct=False, fastupsample=nearest)
