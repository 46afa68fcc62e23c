"""Refuses a wrong config before anything is built: every key, type and file is checked against what will use it."""

import difflib
import inspect
import logging
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.config_store import ConfigStore
from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf

from seesr_pl.annotations import accepts, hints_of, in_words
from seesr_pl.files import MissingFile
from seesr_pl.nested import leaves
from seesr_pl.sampling.settings import settings

# Keys of Hydra's instantiate, allowed in any node that has a `_target_`.
HYDRA_KEYS = frozenset({"_target_", "_partial_", "_convert_", "_recursive_", "_args_"})
# `sampler/settings`, on which the files of conf/sampler build: every setting, none of them changed.
ConfigStore.instance().store(
    group="sampler",
    name="settings",
    node={"_target_": "seesr_pl.sampling.sampler", **dict.fromkeys(setting.name for setting in settings())},
    provider="seesr_pl",
)
PATH_KEYS = ("outputs", "weights", "shards", "run", "debian")
TRAIN_KEYS = (
    "seed",
    "run_name",
    "resume",
    "paths",
    "module",
    "sampler",
    "data",
    "degradation",
    "trainer",
    "callbacks",
    "logger",
)


class ConfigError(ValueError):
    """One or more mistakes in a config, each with the full path of its key and the fix."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"config: {count}, nothing was started", *(f"  {line}" for line in problems)]))


class Run(NamedTuple):
    """A run folder found again: its composed config and the checkpoint to load."""

    cfg: DictConfig
    checkpoint: Path


def check(cfg: DictConfig, *, root_keys: Sequence[str] = TRAIN_KEYS) -> None:
    """Bind every `_target_` node of `cfg` to the signature of its target.

    Raises ConfigError that lists every unknown key (with the nearest valid one), wrong type and missing value.
    """
    problems = [unknown(str(name), list(root_keys)) for name in cfg if name not in root_keys]
    paths = [f"paths.{name}" for name in PATH_KEYS]
    problems += [unknown(f"paths.{name}", paths) for name in cfg.get("paths", {}) if name not in PATH_KEYS]
    problems += [problem for group in ("callbacks", "logger") for problem in _nameless(cfg.get(group), group)]
    problems += [f"{name} = ???: a value is missing; give it as {name}=VALUE" for name in _missing_values(cfg)]
    if not problems:
        problems += _problems(OmegaConf.to_container(cfg, resolve=True), "")
    if problems:
        raise ConfigError(problems)


def preflight(cfg: DictConfig) -> None:
    """Ask every target of `cfg` that can tell for the files it will miss.

    Raises FileNotFoundError with one message that lists each file, where it is published and how to point to it.
    """
    missing: dict[str, str] = {}
    for path, node in _nodes(OmegaConf.to_container(cfg, resolve=True), ""):
        for file in _missing_files(node):
            keys = "".join(f"\n    key:  {path}.{name}=PATH" for name, value in node.items() if value == file.path)
            text = f"  {file.path}\n    from: {file.origin}\n    fix:  {file.fix}{keys}"
            missing.setdefault(file.path, text)
    if missing:
        head = f"{len(missing)} needed and not there, nothing was started"
        tail = "paths.weights=DIR and paths.shards=DIR point to other folders"
        raise FileNotFoundError("\n".join([head, *missing.values(), tail]))


def recorded(folder: str | Path) -> Any:
    """The resolved config that a run folder records, {} if it records none."""
    path = Path(folder) / "config.yaml"
    return plain(typing.cast(DictConfig, OmegaConf.load(path))) if path.is_file() else {}


def load_run(ckpt: str | Path) -> Run:
    """The config and checkpoint of a run, from its folder or from one of its checkpoint files.

    Raises FileNotFoundError if there is no checkpoint or no `config.yaml` of its run.
    """
    path = Path(ckpt)
    checkpoint = path / "checkpoints" / "last.ckpt" if path.is_dir() else path
    if not checkpoint.is_file():
        raise FileNotFoundError(f"ckpt={ckpt}: {checkpoint} does not exist; give a run folder or a .ckpt file of it")
    folders = [checkpoint.parent.parent, checkpoint.parent]
    configs = [folder / "config.yaml" for folder in folders if (folder / "config.yaml").is_file()]
    if not configs:
        raise FileNotFoundError(f"ckpt={ckpt}: no config.yaml in {folders[0]}; keep a checkpoint in its run's folder")
    return Run(typing.cast(DictConfig, OmegaConf.load(configs[0])), checkpoint)


def _missing_values(cfg: DictConfig) -> list[str]:
    # OmegaConf.missing_keys would follow interpolations into the missing value and raise.
    return [path for path, value in leaves(OmegaConf.to_container(cfg, resolve=False)) if value == "???"]


def _nameless(group: DictConfig | None, path: str) -> Iterator[str]:
    """Members of a group of nodes that name no class, as a misspelt name on the command line makes them."""
    members = {str(name): member for name, member in group.items_ex(resolve=False)} if group else {}
    known = [f"{path}.{name}" for name, member in members.items() if member and "_target_" in member]
    for name, member in members.items():
        if member and "_target_" not in member:
            yield unknown(f"{path}.{name}", known)


def _nodes(value: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping with a `_target_` below `value`, with its path, outermost first."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield path, value
        for name, child in value.items():
            yield from _nodes(child, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _nodes(child, f"{path}.{index}")


def _problems(config: Any, path: str) -> list[str]:
    found: list[str] = []
    for node_path, node in _nodes(config, path):
        target = _target(node["_target_"])
        if isinstance(target, str):
            found.append(f"{node_path}._target_ = {node['_target_']}: {target}")
        else:
            found += _signature_problems(node, node_path, target)
    return found


def _target(name: str) -> Callable[..., Any] | str:
    hydra_log = logging.getLogger("hydra.utils")
    hydra_log.disabled = True  # it would print what ConfigError says
    try:
        return typing.cast(Callable[..., Any], get_object(name))
    except Exception as error:
        return f"cannot be imported: {' '.join(str(error).splitlines()[:2])}"
    finally:
        hydra_log.disabled = False


def _signature_problems(node: Mapping[str, Any], path: str, target: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(target).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return []
    names = [name for name, p in parameters.items() if p.kind is not p.VAR_POSITIONAL]
    hints = hints_of(target)
    found = []
    for name, value in node.items():
        if name in HYDRA_KEYS:
            continue
        if name not in names:
            found.append(unknown(f"{path}.{name}", [f"{path}.{known}" for known in names]))
        elif name in hints and not accepts(value, hints[name]):
            found.append(f"{path}.{name} = {value!r}: expected {in_words(hints[name])}, got {type(value).__name__}")
    return found


def _missing_files(node: Mapping[str, Any]) -> list[MissingFile]:
    find = getattr(get_object(node["_target_"]), "missing_files", None)
    if find is None:
        return []
    known = inspect.signature(find).parameters
    return list(find(**{name: value for name, value in node.items() if name in known}))


def unknown(name: str, valid: list[str]) -> str:
    """The message for a key that does not exist: the nearest that does, and all of them."""
    return f"{name}: unknown key{nearest(name, valid)}"


def nearest(name: str, valid: list[str], *, prefix: str = "") -> str:
    """The end of a message about `name`: the nearest of `valid`, and all of them."""
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    suggestion = f"; did you mean {prefix}{close[0]}?" if close else ""
    short = [item.rsplit(".", 1)[-1] for item in valid]
    return f"{suggestion}\n    valid here: {', '.join(short)}"


def plain(cfg: DictConfig | ListConfig) -> Any:
    """`cfg` as plain dicts and lists with every interpolation resolved."""
    return OmegaConf.to_container(cfg, resolve=True)
