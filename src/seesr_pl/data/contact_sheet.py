"""A picture of training pairs, for the eye."""

import cv2
import numpy as np

from seesr_pl.data.stream import StreamSample

_GAP, _LINE = 8, 20
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)


def contact_sheet(samples: list[StreamSample], *, num_columns: int = 4) -> np.ndarray:
    """hq beside lq (each lq pixel as 4x4) of every sample, with its id, epoch, severity and key; uint8 RGB."""
    cells = [_cell(sample) for sample in samples]
    num_columns = min(num_columns, len(cells))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % num_columns)
    rows = [np.hstack(cells[first : first + num_columns]) for first in range(0, len(cells), num_columns)]
    return np.vstack(rows)


def _cell(sample: StreamSample) -> np.ndarray:
    hq = sample.hq
    lq = cv2.resize(sample.lq, (hq.shape[1], hq.shape[0]), interpolation=cv2.INTER_NEAREST)
    pair = cv2.copyMakeBorder(np.hstack([hq, lq]), _LINE, _GAP, _GAP, _GAP, cv2.BORDER_CONSTANT, value=_WHITE)
    text = f"id {sample.sample_id} epoch {sample.epoch} severity {sample.severity:.2f} {sample.key}"
    return cv2.putText(pair, text, (_GAP, _LINE - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.4, _BLACK, 1, cv2.LINE_AA)
