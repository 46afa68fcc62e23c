"""Whether a restored image is true to what was photographed: to its LQ image, and to the tags of its HQ one."""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from seesr_pl.degradation import degrade_again
from seesr_pl.evaluation.benchmark import Pair
from seesr_pl.evaluation.metrics import CONSISTENCY, TAG_SCORES, ImageMetric, TagScore, psnr_y
from seesr_pl.files import fingerprint
from seesr_pl.imaging.io import read_rgb
from seesr_pl.types import RGB

if TYPE_CHECKING:
    from seesr_pl.models.ram import RAM

NO_RAM = "no RAM is at hand; ckpt=RUN has one, tagger=PATH names one (a run, a pipeline folder, ram_swin_large_14m.pth)"
UNKNOWN = "how the images were degraded is not known: no degradations.json beside them"


def lq_psnr(sr: RGB, hq: RGB | None, lq: Path) -> float:
    """Compute PSNR-Y in dB of `sr`, reduced to the size of the file `lq` by antialiased bicubic, against it.

    Raises ValueError as `psnr_y`.
    """
    given = read_rgb(lq)
    size = given.shape[1], given.shape[0]
    return psnr_y(np.asarray(Image.fromarray(sr).resize(size, Image.Resampling.BICUBIC)), given)


def lq_psnr_own(sr: RGB, hq: RGB | None, lq: Path, record: Mapping[str, Any]) -> float:
    """Compute PSNR-Y in dB of `sr`, degraded again as `record` of `degradation.recorded` says, against the file `lq`.

    Raises ValueError as `psnr_y` and `degrade_again`.
    """
    return psnr_y(degrade_again(sr, record), read_rgb(lq))


def consistency(degradations: Mapping[str, Mapping[str, Any]]) -> dict[str, ImageMetric | str]:
    """Return `lq_psnr`, and `lq_psnr_own` where `degradations` tells of images how they were degraded, or why not."""

    def own(pair: Pair) -> tuple[Path, Mapping[str, Any]]:
        if pair.name not in degradations:
            raise ValueError("how it was degraded is not known")
        return pair.lq, degradations[pair.name]

    simple, keyed = CONSISTENCY
    return {
        simple: ImageMetric(simple, lq_psnr, False, True, "1", further=lambda pair: (pair.lq,)),
        keyed: ImageMetric(keyed, lq_psnr_own, False, True, "1", further=own) if degradations else UNKNOWN,
    }


class Tagger:
    """Score the tags that plain RAM sees on a restored image by those that it sees on the HQ one.

    Its LoRA, if it has one, is off. What it saw of an image is kept, so that several scores cost one look.
    """

    def __init__(self, ram: "RAM") -> None:
        self.ram = ram
        self._seen: dict[bytes, Any] = {}

    def score(self, name: TagScore, sr: RGB, hq: RGB) -> float:
        """Compute the score `name` of uint8 RGB images, in [0, 1]; the average precision is of the ranking of all tags.

        Raises ValueError where RAM sees no tag on the image that the score divides by.
        """
        from seesr_pl.evaluation.semantics import mean_average_precision, precision_recall_f1

        logits, theirs = self._logits(sr), self._logits(hq)
        predicted, wanted = self.ram.tag_mask(logits), self.ram.tag_mask(theirs)
        if not wanted.any():
            raise ValueError("RAM sees no tag on the HQ image")
        if name == "tags_ap":
            # One image ranks its tags, as there one tag ranks its images.
            return mean_average_precision(logits.T, wanted.T)
        if name == "tags_precision" and not predicted.any():
            raise ValueError("RAM sees no tag on the restored image")
        return float(precision_recall_f1(predicted, wanted)[name.removeprefix("tags_")])

    def version(self) -> str:
        """Return a digest of what the scores depend on: weights without LoRA, tags, thresholds."""
        from seesr_pl.models.stack import weights_hash

        state = {name.replace(".base_layer", ""): value for name, value in self.ram.state_dict().items()}
        plain = {name: value.float() for name, value in state.items() if "lora_" not in name}
        return fingerprint(weights_hash(plain), self.ram.tag_names, self.ram.thresholds.tolist())

    def _logits(self, image: RGB) -> Any:
        import torch

        from seesr_pl.imaging.tensors import to_float

        key = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
        if key not in self._seen:
            with torch.no_grad():
                pixels = to_float(torch.from_numpy(image.copy())[None]).to(self.ram.device)
                self._seen[key] = self.ram.see(pixels, adapter=False).logits.float().cpu()
        return self._seen[key]


def tag_preservation(ram: Callable[[], "RAM"] | None) -> dict[str, ImageMetric | str]:
    """Return the scores of a `Tagger` of `ram`, or why there are none."""
    if ram is None:
        return dict.fromkeys(TAG_SCORES, NO_RAM)
    tagger = Tagger(ram())
    version = f"1 {tagger.version()}"
    return {name: ImageMetric(name, partial(tagger.score, name), True, True, version) for name in TAG_SCORES}
