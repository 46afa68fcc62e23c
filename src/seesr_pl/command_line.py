"""What a Hydra command line means here: keys without `+`, run folders, errors of one screen."""

import os
import sys
import typing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from seesr_pl.config import ConfigError, nearest, unknown

USER_ERRORS = (ValueError, FileNotFoundError, ImportError)
RUN_VARIABLE = "SEESR_RUN_FOLDER"


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


def sweep_name(task_overrides: Sequence[str]) -> str:
    """The folder of one job of a sweep, e.g. `module.lora_rank=2`: what varied, without name and paths."""
    words = [word.lstrip("+") for word in task_overrides]
    return ",".join(word for word in words if not word.startswith(("experiment=", "run_name=", "paths."))).replace(
        "/", "_"
    )


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
        problems.append(unknown(root, roots))
    elif name in groups:
        choices = sorted(path.stem for path in (config_dir / name).glob("*.yaml"))
        wrong = [
            choice for choice in value.strip("[]").split(",") if choice not in choices and choice not in ("null", "")
        ]
        problems += [f"{name}={choice} does not exist{nearest(choice, choices, prefix=f'{name}=')}" for choice in wrong]
        if name == "launcher" and "slurm" in value and find_spec("submitit") is None:
            problems.append("launcher=slurm needs the submitit launcher: pip install 'seesr-pl[slurm]'")
    elif "." in name:
        return f"++{argument}"
    return argument
