"""What diffusers and the pipeline must know of each other: how parts are saved and loaded, the form of results."""

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from diffusers.pipelines import pipeline_loading_utils
from diffusers.utils.outputs import BaseOutput
from PIL import Image

# diffusers saves and loads components by a table of base classes, looked up in the module of the component's class.
_METHODS = ["save_pretrained", "from_pretrained"]
pipeline_loading_utils.LOADABLE_CLASSES["seesr_pl.models.ram"] = {"RAM": _METHODS}
pipeline_loading_utils.ALL_IMPORTABLE_CLASSES.update(dict.fromkeys(("RAM", "SeeSRUNet", "SeeSRControlNet"), _METHODS))


@dataclass
class SeeSRPipelineOutput(BaseOutput):
    """Restored pictures, and for each the tags that the networks were told, joined by ", "."""

    images: list[Image.Image]
    tags: list[str]


def import_own_parts(parts: Iterable[Any]) -> None:
    """Imports our modules among the [module, class] of a pipeline's index: diffusers looks only at imported ones."""
    for part in parts:
        if isinstance(part, list) and str(part[0]).startswith("seesr_pl."):
            importlib.import_module(part[0])
