"""Refuses a wrong config before anything is built: every key, type and file is checked against what will use it."""

import difflib
import inspect
import logging
import os
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf

from seesr_pl.annotations import accepts, hints_of, in_words
from seesr_pl.types import MissingFile

USER_ERRORS = (ValueError, FileNotFoundError, ImportError)
RUN_VARIABLE = "SEESR_RUN_FOLDER"
# Keys of Hydra's instantiate, allowed in any node that has a `_target_`.
HYDRA_KEYS = frozenset({"_target_", "_partial_", "_convert_", "_recursive_", "_args_"})
TRAIN_KEYS = ("seed", "run_name", "resume", "paths", "module", "data", "degradation", "trainer", "callbacks", "logger")


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
    problems = [_unknown(str(name), list(root_keys)) for name in cfg if name not in root_keys]
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


def enter_run(cfg: DictConfig) -> None:
    """Settle `paths.run`, the folder that every process of this run writes to.

    It is outputs/<run_name>; one job of a sweep gets a folder below it, and hands it on to the ranks it launches.
    """
    launched = int(os.environ.get("LOCAL_RANK", "0")) > 0
    hydra_config = HydraConfig.get()
    if hydra_config.mode == RunMode.MULTIRUN:
        cfg.paths.run = os.environ[RUN_VARIABLE] = hydra_config.runtime.output_dir
        # Lightning starts the other ranks with this command line: without it they would start the whole sweep again.
        sys.argv[1:] = list(hydra_config.overrides.task)
    elif launched and RUN_VARIABLE in os.environ:
        cfg.paths.run = os.environ[RUN_VARIABLE]


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


def overrides(arguments: Sequence[str], config_dir: Path, config_name: str) -> list[str]:
    """Let a command line set any constructor argument without Hydra's `+`, and refuse what cannot exist.

    Returns `arguments` with `++` before each `a.b=c` whose key the YAML files leave to its Python default.
    Raises ConfigError for an unknown root key or a group choice without a file.
    """
    if any(argument.startswith(("-cp", "-cn", "--config")) for argument in arguments):
        return list(arguments)  # a process that Lightning launched: its config was composed and checked by rank 0
    primary = typing.cast(DictConfig, OmegaConf.load(config_dir / f"{config_name}.yaml"))
    groups = {folder.name for folder in config_dir.iterdir() if folder.is_dir()}
    roots = sorted(groups | {str(name) for name in primary if name != "defaults"} | {"hydra"})
    problems: list[str] = []
    completed = [_completed(argument, roots, groups, config_dir, problems) for argument in arguments]
    if problems:
        raise ConfigError(problems)
    return completed


def sweep_name(task_overrides: Sequence[str]) -> str:
    """The folder of one job of a sweep, e.g. `module.lora_rank=2`: what was varied, without experiment and name."""
    words = [word.lstrip("+") for word in task_overrides]
    return ",".join(word for word in words if not word.startswith(("experiment=", "run_name="))).replace("/", "_")


OmegaConf.register_new_resolver("sweep_name", sweep_name, replace=True)


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn the errors that a user can mend into a message of one screen and exit code 2, without a traceback."""
    try:
        yield
    except InstantiationException as error:
        # Hydra wraps what a constructor raised; only what the constructor refused is the user's to mend.
        if not isinstance(error.__cause__, USER_ERRORS) or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        _stop(f"{error.__cause__}\n  at {str(error).rpartition('full_key: ')[2]}")
    except USER_ERRORS as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        _stop(str(error))


def _stop(message: str) -> NoReturn:
    print(f"\nerror: {message}\n", file=sys.stderr)
    sys.exit(2)


def _completed(argument: str, roots: list[str], groups: set[str], config_dir: Path, problems: list[str]) -> str:
    name, separator, value = argument.partition("=")
    if not separator or name.startswith(("-", "+", "~", "hydra")):
        return argument
    root = name.split(".")[0].split("@")[0].split("/")[0]
    if root not in roots:
        problems.append(_unknown(root, roots))
    elif name in groups:
        choices = sorted(path.stem for path in (config_dir / name).glob("*.yaml"))
        wrong = [choice for choice in value.split(",") if choice not in choices and choice not in ("null", "")]
        problems += [
            f"{name}={choice} does not exist{_nearest(choice, choices, prefix=f'{name}=')}" for choice in wrong
        ]
    elif "." in name:
        return f"++{argument}"
    return argument


def _missing_values(cfg: DictConfig) -> list[str]:
    return sorted(OmegaConf.missing_keys(cfg))


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
            found.append(_unknown(f"{path}.{name}", [f"{path}.{known}" for known in names]))
        elif name in hints and not accepts(value, hints[name]):
            found.append(f"{path}.{name} = {value!r}: expected {in_words(hints[name])}, got {type(value).__name__}")
    return found


def _missing_files(node: Mapping[str, Any]) -> list[MissingFile]:
    find = getattr(get_object(node["_target_"]), "missing_files", None)
    if find is None:
        return []
    known = inspect.signature(find).parameters
    return list(find(**{name: value for name, value in node.items() if name in known}))


def _unknown(name: str, valid: list[str]) -> str:
    return f"{name}: unknown key{_nearest(name, valid)}"


def _nearest(name: str, valid: list[str], *, prefix: str = "") -> str:
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    suggestion = f"; did you mean {prefix}{close[0]}?" if close else ""
    short = [item.rsplit(".", 1)[-1] for item in valid]
    return f"{suggestion}\n    valid here: {', '.join(short)}"


def plain(cfg: DictConfig | ListConfig) -> Any:
    """`cfg` as plain dicts and lists with every interpolation resolved."""
    return OmegaConf.to_container(cfg, resolve=True)
