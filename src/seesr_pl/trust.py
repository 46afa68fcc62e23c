"""Build what a recorded config names, if all of it may be built: a file from a stranger must not choose what runs."""

import importlib
import inspect
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from seesr_pl.config import leaves, nodes, preflight

# Functions that configs of this project name; any other function might write a file, or call what it is given.
_FUNCTIONS = frozenset(
    {
        "seesr_pl.checkpoints.load_stack",
        "seesr_pl.checkpoints.official_ram",
        "seesr_pl.checkpoints.random_stack",
        "seesr_pl.sampling.sampler",
        "seesr_pl.tiny.in_decibels",
        "seesr_pl.tiny.leaf_shards",
        "seesr_pl.tiny.photo_shards",
        "seesr_pl.tiny.tiny_ram",
        "seesr_pl.tiny.tiny_stack",
    }
)
_PACKAGES = ("seesr_pl", "torch.optim")


def build(config: Any, *, key: str, origin: Path, trust: Collection[str] = ()) -> Any:
    """Instantiate the node `key` of a config that was recorded in the file `origin`.

    Args:
        config: the node, as plain dicts and lists with every interpolation resolved.
        key: its place, for messages; "" where it is the whole file.
        origin: the file, for messages.
        trust: dotted names that may be built besides the classes of seesr_pl and torch.optim.

    Raises ValueError, which lists what was refused and how to allow it, before anything of it is imported;
    FileNotFoundError where a file that it needs is missing.
    """
    whole = {key: config} if key else config
    refused = list(_refused(whole, trust))
    if refused:
        lines = [f"  {path} = {value!r}" for path, value in refused]
        names = ",".join(sorted({str(value) for path, value in refused if path.endswith("_target_")}))
        raise ValueError(
            "\n".join(
                [
                    f"{origin} names what is not built from a recorded config, and nothing was run:",
                    *lines,
                    "classes of seesr_pl and torch.optim are built; others can run any code. If you know what they do:",
                    f"  trust=[{names}] of evaluate.py, or --trust NAME of seesr, once for each",
                ]
            )
        )
    cfg = OmegaConf.create(whole)
    preflight(cfg)
    return instantiate(cfg[key] if key else cfg, _convert_="all")


def _refused(config: Any, trust: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Yield the place and value of each target that may not be built, and of text that would be resolved once more."""
    for path, value in leaves(config):
        if isinstance(value, str) and "${" in value:
            yield path, value
    for path, node in nodes(config, ""):
        target = node["_target_"]
        if not (isinstance(target, str) and (target in trust or target in _FUNCTIONS or _is_our_class(target))):
            yield f"{path}._target_".removeprefix("."), target


def _is_our_class(target: str) -> bool:
    """Return whether `target` is a class defined in one of _PACKAGES; modules of no other package are imported.

    A name may lead out of its module, as `seesr_pl.files.os` does: where the class was defined is what counts.
    """
    module, _, name = target.rpartition(".")
    if not any(f"{module}.".startswith(f"{package}.") for package in _PACKAGES):
        return False
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return False
    return inspect.isclass(found) and any(f"{found.__module__}.".startswith(f"{p}.") for p in _PACKAGES)
