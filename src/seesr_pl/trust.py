"""Read a recorded config, and build what it names if all of it may be built: a stranger must not choose what runs."""

import importlib
import inspect
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seesr_pl.config import leaves, nodes, preflight
from seesr_pl.limits import read_text

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
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where PyYAML was built so
_MAX_CONFIG_BYTES = 1 << 20
_MAX_RESOLVED = 1_000_000
_MAX_DEPTH = 100
_REFERENCE = re.compile(r"\$\{[ \t]*(\.*)([^${}: \t]*)[ \t]*\}")
"""An interpolation of a key, `${a.b}`, `${..b}` or `${ a.b }`; what resolvers are given holds such too."""
_BUILT_IN = re.compile(r"\$\{[ \t]*(oc\.[^${}: \t]*)[ \t]*:")
"""A resolver of OmegaConf; those but `oc.env` copy what their text names, where no reference tells."""


def read_config(path: Path) -> DictConfig:
    """Read the config that was recorded in the file `path`.

    Raises ValueError, which names the file, where it holds something else, or where few bytes of it stand for many:
    by the aliases of YAML, which no run writes, or by interpolations.
    """
    text = read_text(path, limit=_MAX_CONFIG_BYTES)
    try:
        _check_form(text)
        cfg = OmegaConf.create(text)
        resolved = _Resolved(OmegaConf.to_container(cfg, resolve=False)).size(())
    except (yaml.YAMLError, OmegaConfBaseException, RecursionError, ValueError) as error:
        raise ValueError(f"{path} is no config that can be read: {error}") from error
    if resolved > _MAX_RESOLVED:
        raise ValueError(
            f"{path} holds interpolations that stand for {resolved:,} characters and values; the limit is "
            f"{_MAX_RESOLVED:,}"
        )
    if not isinstance(cfg, DictConfig):
        raise ValueError(f"{path} holds no mapping of keys, as a config does")
    return cfg


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


def _check_form(text: str) -> None:
    """Raise ValueError for YAML with aliases, and for what is nested too deep, without reading on."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it holds aliases (&name and *name), by which few bytes stand for many; write them out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise ValueError(f"it is nested more than {_MAX_DEPTH} deep")


class _Resolved:
    """How much a plain config becomes when its interpolations are resolved."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.sizes: dict[tuple[str, ...], int] = {}

    def size(self, place: tuple[str, ...]) -> int:
        """Return the number of characters and values at `place`; a cycle, which OmegaConf refuses, counts once."""
        if place not in self.sizes:
            self.sizes[place] = 0
            node = self.config
            for depth, name in enumerate(place):
                if isinstance(node, str):  # the place leads through what this text refers to
                    parts = [(*part, *place[depth:]) for part in _references(node, place[:depth])]
                    self.sizes[place] = sum(self.size(part) for part in parts)
                    return self.sizes[place]
                node = _child(node, name)
            names = range(len(node)) if isinstance(node, list) else node if isinstance(node, dict) else ()
            parts = [*((*place, str(name)) for name in names), *_references(node, place)]
            own = len(node) if isinstance(node, str) else 1
            self.sizes[place] = own + sum(self.size(part) for part in parts)
        return self.sizes[place]


def _child(node: Any, name: str) -> Any:
    if isinstance(node, list):
        try:
            return node[int(name)] if 0 <= int(name) < len(node) else None  # "+1" and "1_0" too, as OmegaConf
        except ValueError:
            return None
    return next((value for key, value in node.items() if str(key) == name), None) if isinstance(node, dict) else None


def _references(node: Any, place: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the places that a text refers to; ValueError for a name that is an interpolation, or `oc.` but `oc.env`."""
    if not isinstance(node, str):
        return
    if re.search(r"\$\{[^{}:]*\$\{", node):
        raise ValueError(f"{'.'.join(place)} = {node}: the name of a key may not be an interpolation")
    if refused := [name for name in _BUILT_IN.findall(node) if name != "oc.env"]:
        raise ValueError(
            f"{'.'.join(place)} uses the resolver {refused[0]}, of which few bytes stand for many; of OmegaConf's own "
            "a recorded config may use oc.env alone: write ${key} or the value"
        )
    for dots, name in _REFERENCE.findall(node):
        above = place[: len(place) - len(dots)] if dots else ()
        yield (*above, *(word for word in re.split(r"[.\[\]]+", name) if word))


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
