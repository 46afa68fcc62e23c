"""Refuse a wrong config before anything is built: check each key, type and file against the class that uses it."""

import difflib
import functools
import inspect
import logging
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import requires
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf

from seesr_pl.annotations import FOREIGN_LIMITS, Amount, Limits, hints_of, misfit
from seesr_pl.files import MissingFile, require
from seesr_pl.sampling.settings import OFFICIAL
from seesr_pl.text import shown

# Keys of Hydra's instantiate, allowed in any node that has a `_target_`.
HYDRA_KEYS = frozenset({"_target_", "_partial_", "_convert_", "_recursive_", "_args_"})
# Targets whose missing files are found without torch, which takes seconds to import.
QUICK_TARGETS = frozenset(
    {"seesr_pl.checkpoints.load_stack", "seesr_pl.checkpoints.official_ram", "seesr_pl.data.ShardSource"}
)
_ROOT: Mapping[str, Any] = {"seed": Amount, "resume": typing.Literal["auto", "force", "never"]}
_PACKAGE = Path(__file__).resolve().parent
COMMANDS = _PACKAGE.parents[1] if (_PACKAGE.parents[1] / "train.py").is_file() else _PACKAGE / "commands"
"""The folder of `train.py`, `evaluate.py` and `conf/`: the top of a checkout, or what a wheel makes of it."""
CONF = COMMANDS / "conf"
# What the files of conf/sampler build on. A named sampler gives every setting, so that it is the same on every run.
for _name, _values in {
    "settings": dict.fromkeys(asdict(OFFICIAL)),  # none of them changed
    "official_settings": asdict(OFFICIAL),
}.items():
    _node = {"_target_": "seesr_pl.sampling.sampler", **_values}
    ConfigStore.instance().store(group="sampler", name=_name, node=_node, provider="seesr_pl")


class ConfigError(ValueError):
    """One or more mistakes in a config, each with the full path of its key and the fix."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"config: {count}, nothing was started", *(f"  {line}" for line in problems)]))


def check(cfg: DictConfig) -> None:
    """Check every `_target_` node of `cfg` against the signature of its target, other keys against the YAML files.

    Raises ConfigError, which lists every unknown key (with the nearest valid key), wrong type and missing value.
    """
    folder = _folder()
    roots = _root_keys(cfg, folder)
    problems = [unknown(str(name), roots) for name in cfg if name not in roots]
    told = {name: cfg[name] for name in _ROOT if name in cfg and not OmegaConf.is_missing(cfg, name)}
    problems += [f"{name} = {value!r}: {text}" for name, value in told.items() if (text := misfit(value, _ROOT[name]))]
    problems += [problem for name in roots for problem in _group_problems(cfg, name, folder)]
    problems += [f"{name} = ???: a value is missing; give it as {name}=VALUE" for name in _missing_values(cfg)]
    if not problems:
        problems += _problems(plain(cfg), "")
    if not problems and "trainer" in cfg:
        problems += _device_problems(cfg.trainer.get("accelerator", "auto"), cfg.trainer.get("devices", "auto"))
    if problems:
        raise ConfigError(problems)


def folder_name(run_name: Any) -> str:
    """Return the name of a run's folder; raise ValueError for one that leads out of `paths.outputs`."""
    name = str(run_name)
    parts = name.split("/")
    if name.startswith("~") or shown(name) != name or {"", ".", ".."} & set(parts):
        fix = "give a name such as a or a/b, without .., ~ and control characters"
        raise ValueError(f"run_name={shown(name)!r} is no name of a folder below paths.outputs; {fix}")
    return name


OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)


def preflight(cfg: DictConfig, *, quick: bool = False) -> None:
    """Check that every file that the targets of `cfg` need exists; a target lists its files in `missing_files`.

    With `quick`, ask `QUICK_TARGETS` alone, and nothing where a value is missing or the command line sets a key of a
    target: the mistakes in those, which `check` finds, are to be told first.
    Raises FileNotFoundError, whose message lists each missing file, where it is published and the key that names it.
    """
    if not quick or not (_missing_values(cfg) or _keys_typed()):
        require(missing_files(cfg, quick=quick), hint="paths.weights=DIR and paths.shards=DIR point to other folders")


def missing_files(cfg: DictConfig, *, quick: bool = False) -> list[MissingFile]:
    """List the files that the targets of `cfg` need and that do not exist; with `quick`, those of `QUICK_TARGETS`."""
    missing: list[MissingFile] = []
    for path, node in nodes(plain(cfg), ""):
        for file in _missing_files(node) if not quick or node["_target_"] in QUICK_TARGETS else []:
            keys = [name for name, value in node.items() if f"{file.path}/".startswith(f"{value}/")]
            lines = "".join(f"\n    key:  {path}.{name}=PATH" for name in keys)
            missing.append(file._replace(fix=file.fix + lines))
    return missing


def composed(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose "train" or "evaluate" as its command does, outside of it; `overrides` as `launch.overrides` returns.

    Raises ConfigError for what Hydra cannot read or compose, e.g. a word without `=`.
    """
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            return compose(config_name, overrides=list(overrides))
        except HydraException as error:
            raise ConfigError(["; ".join(str(error).splitlines()[:2])]) from error


def root_keys(primary: Path) -> list[str]:
    """List the keys that a config composed from the file `primary` may have at its root: its own, and its groups."""
    content = _loaded(primary)
    groups = [str(name) for entry in content.get("defaults", []) if isinstance(entry, DictConfig) for name in entry]
    return sorted({*(name.split()[-1] for name in groups), *map(str, content)} - {"defaults"})


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value inside nested mappings and lists with its dotted path, e.g. ("a.0.b", 3)."""
    if not isinstance(value, Mapping | list):
        yield path, value
        return
    children = value.items() if isinstance(value, Mapping) else enumerate(value)
    for name, child in children:
        yield from leaves(child, f"{path}.{name}" if path else str(name))


def plain(cfg: DictConfig | ListConfig) -> Any:
    """Return `cfg` as plain dicts and lists with every interpolation resolved."""
    return OmegaConf.to_container(cfg, resolve=True)


def unknown(name: str, valid: Sequence[str]) -> str:
    """Return the message about the unknown key `name`: the nearest of `valid`, and all of them."""
    return f"{name}: unknown key{nearest(name, valid)}"


def nearest(name: str, valid: Sequence[str], *, prefix: str = "") -> str:
    """Return the end of a message about `name`: the nearest of `valid`, and all of them."""
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    suggestion = f"; did you mean {prefix}{close[0]}?" if close else ""
    short = [item.rsplit(".", 1)[-1] for item in valid]
    return f"{suggestion}\n    valid here: {', '.join(short)}"


def _folder() -> Path:
    """Return the folder of the YAML files from which the config was composed."""
    if not HydraConfig.initialized():
        return CONF
    sources = HydraConfig.get().runtime.config_sources
    return next(Path(source.path) for source in sources if source.provider == "main")


def _root_keys(cfg: DictConfig, folder: Path) -> list[str]:
    """Return the root keys of the primary file of `cfg`: that whose own keys, but for those set to null, `cfg` has."""
    for primary in sorted(folder.glob("*.yaml")):
        content = _loaded(primary)
        own = {str(name) for name, value in content.items_ex(resolve=False) if value is not None}
        if own - {"defaults", "hydra"} <= {str(name) for name in cfg}:
            return root_keys(primary)
    raise ConfigError([f"none of {folder}/*.yaml has the keys {', '.join(map(str, cfg))}: no config of this project"])


def _group_problems(cfg: DictConfig, group: str, folder: Path) -> Iterator[str]:
    """Yield a message for each member of a group that no YAML file names: it was misspelled on the command line."""
    node = cfg.get(group)
    if not isinstance(node, DictConfig) or "_target_" in node:
        return
    members = {str(name): member for name, member in node.items_ex(resolve=False)}
    known = {name for name, member in members.items() if isinstance(member, DictConfig) and "_target_" in member}
    named = _keys_in_yaml(group, folder)
    for name, member in members.items():
        if known and name in named and not isinstance(member, DictConfig) and member is not None:
            yield f"{group}.{name} = {member!r}: expected null, or keys of it: {group}.{name}.KEY=VALUE"
        elif name not in known and (isinstance(member, DictConfig) or name not in named):
            yield unknown(f"{group}.{name}", [f"{group}.{key}" for key in sorted(known or named)])


def _keys_in_yaml(group: str, folder: Path) -> set[str]:
    """Return the keys below `group` in its own files, in primary files, and in `_global_` files."""
    own = [_loaded(path) for path in (folder / group).glob("*.yaml")]
    anywhere = (path for path in folder.glob("*/*.yaml") if path.read_text().startswith("# @package _global_"))
    below = [_loaded(path).get(group) for path in (*folder.glob("*.yaml"), *anywhere)]
    return {str(name) for node in (*own, *below) if isinstance(node, DictConfig) for name in node} - {"defaults"}


def _loaded(path: Path) -> DictConfig:
    """Return the content of a YAML file, which is parsed again only where it has changed."""
    return _parsed(path, path.stat().st_mtime_ns)


@functools.cache
def _parsed(path: Path, changed: int) -> DictConfig:
    content = OmegaConf.load(path)
    return content if isinstance(content, DictConfig) else DictConfig({})


def _missing_values(cfg: DictConfig) -> list[str]:
    # OmegaConf.missing_keys would follow interpolations into the missing value and raise.
    return [path for path, value in leaves(OmegaConf.to_container(cfg, resolve=False)) if value == "???"]


def _keys_typed() -> bool:
    """Return whether the command line sets a key that a constructor may not know."""
    words = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return any(word.startswith("++") and not word.startswith("++paths.") for word in words)


def nodes(value: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each mapping with a `_target_` in `value`, with its path, outer mappings first."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield path, value
        for name, child in value.items():
            yield from nodes(child, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from nodes(child, f"{path}.{index}")


def _problems(config: Any, path: str) -> list[str]:
    found: list[str] = []
    for node_path, node in nodes(config, path):
        target = _target(node["_target_"])
        if isinstance(target, str):
            found.append(f"{node_path}._target_ = {node['_target_']}: {target}")
        else:
            found += _signature_problems(node, node_path, target)
    return found


def _device_problems(accelerator: Any, devices: Any) -> list[str]:
    """Tell where the Trainer is to run on more GPUs than there are; the names of accelerators it checks itself."""
    import torch

    if isinstance(devices, str) and devices != "auto" and not devices.lstrip("-").replace(",", "").isdecimal():
        return [f"trainer.devices = {devices!r}: expected auto, a number, or numbers of GPUs such as [0,1]"]
    there = torch.cuda.device_count()
    wanted = devices if isinstance(devices, int) and devices > 0 else 1
    if accelerator not in ("gpu", "cuda") or wanted <= there:
        return []
    fix = f"give trainer.devices={there} or less" if there else "give trainer.accelerator=cpu"
    return [f"trainer.devices = {devices} with trainer.accelerator = {accelerator}: {there} GPUs are here; {fix}"]


def _target(name: str) -> Callable[..., Any] | str:
    hydra_log = logging.getLogger("hydra.utils")
    hydra_log.disabled = True  # it would print what ConfigError says
    try:
        return typing.cast(Callable[..., Any], get_object(name))
    except Exception as error:
        return f"cannot be imported: {' '.join(str(error).splitlines()[:2])}{_extra_of(name)}"
    finally:
        hydra_log.disabled = False


def _extra_of(name: str) -> str:
    """Return the command that installs the package of `name` if it belongs to an extra; otherwise ""."""
    package = name.split(".")[0]
    for requirement in requires("seesr-pl") or ():
        if requirement.startswith(package) and "extra ==" in requirement:
            extra = requirement.rpartition("extra ==")[2].strip(" '\"")
            return f"; pip install 'seesr-pl[{extra}]'"
    return ""


def _signature_problems(node: Mapping[str, Any], path: str, target: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(target).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return []
    names = [name for name, p in parameters.items() if p.kind is not p.VAR_POSITIONAL]
    hints, limits = hints_of(target), FOREIGN_LIMITS.get(node["_target_"], {})
    found = []
    for name, value in node.items():
        if name in HYDRA_KEYS:
            continue
        if name not in names:
            found.append(unknown(f"{path}.{name}", [f"{path}.{known}" for known in names]))
        elif problem := misfit(value, hints.get(name, Any)) or limits.get(name, Limits()).problem(value):
            found.append(f"{path}.{name} = {value!r}: {problem}")
    return found


def _missing_files(node: Mapping[str, Any]) -> list[MissingFile]:
    find = getattr(get_object(node["_target_"]), "missing_files", None)
    if find is None:
        return []
    known = inspect.signature(find).parameters
    return list(find(**{name: value for name, value in node.items() if name in known}))
