"""A picture of training pairs, for the eye."""

import cv2
import numpy as np

from seesr_pl.data.stream import StreamSample

_GAP = 8
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.4
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)


def contact_sheet(samples: list[StreamSample], *, num_columns: int = 4) -> np.ndarray:
    """hq beside lq (each lq pixel as 4x4) of every sample, with its id, epoch, severity and key; uint8 RGB."""
    cells = [_cell(sample) for sample in samples]
    height = max(len(cell) for cell in cells)
    cells = [np.pad(cell, ((height - len(cell), 0), (0, 0), (0, 0)), constant_values=255) for cell in cells]
    num_columns = min(num_columns, len(cells))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % num_columns)
    rows = [np.hstack(cells[first : first + num_columns]) for first in range(0, len(cells), num_columns)]
    return np.vstack(rows)


def _cell(sample: StreamSample) -> np.ndarray:
    height, width = sample.hq.shape[:2]
    lq = cv2.resize(sample.lq, (width, height), interpolation=cv2.INTER_NEAREST)
    between = np.full((height, _GAP // 2, 3), 255, np.uint8)
    text = f"id {sample.sample_id} epoch {sample.epoch} severity {sample.severity:.2f} {sample.key}"
    # Large crops are looked at from afar, and small ones must hold the whole line.
    scale = _FONT_SCALE * max(1, width / 256)
    scale *= min(1, 2 * width / cv2.getTextSize(text, _FONT, scale, 1)[0][0])
    line = 2 * _GAP + cv2.getTextSize(text, _FONT, scale, 1)[0][1]
    pair = np.hstack([sample.hq, between, lq])
    cell = cv2.copyMakeBorder(pair, line, _GAP, _GAP, _GAP, cv2.BORDER_CONSTANT, value=_WHITE)
    return cv2.putText(cell, text, (_GAP, line - _GAP), _FONT, scale, _BLACK, max(1, round(2 * scale)), cv2.LINE_AA)
