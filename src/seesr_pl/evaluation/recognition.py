"""What a detector and a segmenter of transformers see in an image: boxes, masks, segments, categories of pixels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForObjectDetection, AutoModelForUniversalSegmentation

from seesr_pl.checkpoints.published import PUBLISHED
from seesr_pl.files import fingerprint, require
from seesr_pl.types import RGB

MIN_SEGMENT_SCORE = 0.8
"""Segments of lower confidence are no part of a panoptic result, as in Mask2Former's configuration for COCO."""


class Detection(NamedTuple):
    """An object: the network's label, the confidence, and its box (x, y, width, height) or mask (h, w) in pixels."""

    label: int
    score: float
    box: tuple[float, float, float, float] | None = None
    mask: np.ndarray | None = None


class Segments(NamedTuple):
    """An image in segments: `ids` (h, w) with -1 for none, the label of each id; `labels` (h, w), one for each pixel.

    `objects` are instance masks of things and stuff alike, of which each pixel may have several.
    """

    ids: np.ndarray
    label_of: dict[int, int]
    labels: np.ndarray
    objects: list[Detection]


class Recognizer:
    """A network of transformers in a local folder, with its image processor; `version` names its weights.

    Raises ValueError for a folder that holds another kind of network.
    """

    def __init__(self, folder: str | Path, model: Any, needs: Sequence[str], *, device: str) -> None:
        path, self.device = Path(folder).expanduser(), torch.device(device)
        try:
            self.processor = AutoImageProcessor.from_pretrained(str(path), local_files_only=True)
            self.network = model.from_pretrained(str(path), local_files_only=True).eval().to(self.device)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: {' '.join(str(error).split())[:300]}") from error
        lacking = [name for name in needs if not hasattr(self.processor, name)]
        if lacking:
            raise ValueError(f"{path}: its {type(self.processor).__name__} has no {', '.join(lacking)}")
        self.labels = {int(label): str(name) for label, name in self.network.config.id2label.items()}
        self.version = fingerprint(path)

    @torch.no_grad()
    def _outputs(self, image: RGB) -> Any:
        inputs = self.processor(images=Image.fromarray(image), return_tensors="pt").to(self.device)
        return self.network(**inputs)


class Detector(Recognizer):
    """A network for AutoModelForObjectDetection, such as RT-DETR or DETR."""

    def __init__(self, folder: str | Path, *, device: str = "cpu") -> None:
        super().__init__(folder, AutoModelForObjectDetection, ["post_process_object_detection"], device=device)

    def __call__(self, image: RGB, size: tuple[int, int], *, count: int = 100) -> list[Detection]:
        """Return the `count` most confident boxes in pixels of an image of `size` (height, width)."""
        outputs = self._outputs(image)
        found = self.processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=[size])[0]
        order = found["scores"].argsort(descending=True, stable=True)[:count]
        boxes, scores, labels = (found[name][order].cpu() for name in ("boxes", "scores", "labels"))
        corners = boxes.double()
        sides = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1).tolist()
        return [
            Detection(label, score, (box[0], box[1], box[2], box[3]))
            for label, score, box in zip(labels.tolist(), scores.tolist(), sides, strict=True)
        ]


class Segmenter(Recognizer):
    """A network for AutoModelForUniversalSegmentation that was trained for panoptic segmentation: Mask2Former."""

    _NEEDS = tuple(f"post_process_{kind}_segmentation" for kind in ("panoptic", "semantic", "instance"))

    def __init__(
        self, folder: str | Path, *, device: str = "cpu", min_segment_score: float = MIN_SEGMENT_SCORE
    ) -> None:
        super().__init__(folder, AutoModelForUniversalSegmentation, self._NEEDS, device=device)
        self.min_segment_score = min_segment_score

    def __call__(self, image: RGB, size: tuple[int, int], *, stuff: Sequence[int] = (), count: int = 100) -> Segments:
        """Segment `image` in pixels of an image of `size` (height, width).

        Segments of one label of `stuff` are one segment; `count` masks, the most confident ones, are objects.
        """
        outputs, sizes = self._outputs(image), {"target_sizes": [size]}
        whole = self.processor.post_process_panoptic_segmentation(
            outputs, threshold=self.min_segment_score, label_ids_to_fuse=set(stuff), **sizes
        )[0]
        labels = self.processor.post_process_semantic_segmentation(outputs, **sizes)[0]
        found = self.processor.post_process_instance_segmentation(
            outputs, threshold=0.0, return_binary_maps=True, **sizes
        )[0]
        # Without any object the processor returns a map in place of a stack of masks.
        masks = found["segmentation"].cpu().numpy() if found["segments_info"] else ()
        objects = [
            Detection(part["label_id"], float(part["score"]), mask=mask > 0)
            for part, mask in zip(found["segments_info"], masks, strict=True)
        ]
        return Segments(
            whole["segmentation"].cpu().numpy().astype(np.int64),
            {part["id"]: part["label_id"] for part in whole["segments_info"]},
            labels.cpu().numpy().astype(np.int64),
            sorted(objects, key=lambda each: -each.score)[:count],
        )


class Networks(NamedTuple):
    """What looks at images; one of the two may be None."""

    detector: Detector | None
    segmenter: Segmenter | None


def networks_in(detector: str | Path | None, segmenter: str | Path | None, *, device: str = "cpu") -> Networks:
    """Load the networks in these folders. Raises ValueError for none, FileNotFoundError for a folder without one."""
    if detector is None and segmenter is None:
        raise ValueError("task=semantics needs detector=FOLDER or segmenter=FOLDER; seesr weights detector segmenter")
    given = {"detector": detector, "segmenter": segmenter}
    require([file for key, path in given.items() if path for file in PUBLISHED[key].missing(Path(path).expanduser())])
    return Networks(
        None if detector is None else Detector(detector, device=device),
        None if segmenter is None else Segmenter(segmenter, device=device),
    )
