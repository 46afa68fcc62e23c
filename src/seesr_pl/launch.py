"""How a Hydra command becomes a run: keys without `+`, its folder, the way back into it, short errors."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from seesr_pl.config import ConfigError, leaves, nearest, plain, root_keys, unknown
from seesr_pl.runs import RunFolder

Resume = Literal["auto", "force", "never"]
USER_ERRORS = (ValueError, FileNotFoundError, ImportError)
RUN_VARIABLE = "SEESR_RUN_FOLDER"
# May differ between the two halves of a run: none of these changes what is learned from which sample.
FREE_KEYS = (
    "resume", "sampler", "module.sampler", "paths", "trainer", "callbacks", "logger",
    "data.num_workers", "data.micro_batch_size", "data.prefetch_factor", "data.num_retries", "data.first_wait_seconds",
    "data.validation_sources", "data.validation_batch_size", "data.max_bad_fraction",
    "data.cache_folder", "data.cache_gigabytes",
    "module.compile", "module.gradient_checkpointing", "module.channels_last",
)  # fmt: skip
# Of the free groups, what does change it.
BOUND_KEYS = ("trainer.precision", "trainer.gradient_clip_val", "trainer.gradient_clip_algorithm", "callbacks.ema")


def overrides(arguments: Sequence[str], config_dir: Path, config_name: str) -> list[str]:
    """Let a command line set any constructor argument without Hydra's `+`, and refuse what cannot exist.

    Returns `arguments` with `++` before each `a.b=c` whose key the YAML files leave to its Python default.
    Raises ConfigError for an unknown root key or a group choice without a file.
    """
    if any(argument.startswith(("-cp", "-cn", "--config")) for argument in arguments):
        return list(arguments)  # a process that Lightning launched: its config was composed and checked by rank 0
    roots = [*root_keys(config_dir / f"{config_name}.yaml"), "hydra"]
    problems: list[str] = []
    completed = [_completed(argument, roots, config_dir, problems) for argument in arguments]
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


def checkpoint_to_resume(cfg: DictConfig) -> Path | None:
    """The checkpoint that the run of `cfg` goes on from, or None for a fresh run.

    `cfg.resume` is `auto`, which refuses a config that would change what is learned, `force`, which does not, or
    `never`, which refuses any. Raises ValueError where continuing would mix two different runs.
    """
    run = RunFolder(Path(cfg.paths.run))
    if not run.last_checkpoint.is_file():
        return None
    resume: Resume = cfg.resume
    if resume == "never":
        raise ValueError(f"{run.path} holds a run already (resume=never); choose another run_name or remove the folder")
    before = plain(run.recorded()) if run.config.is_file() else {}
    changes = [] if resume == "force" else list(config_changes(before, plain(cfg)))
    if changes:
        lines = [f"{run.path} holds a run with another config:", *(f"  {line}" for line in changes)]
        lines.append("choose another run_name, or continue with the new config all the same by resume=force")
        raise ValueError("\n".join(lines))
    return run.last_checkpoint


def config_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Each key whose value differs, as `key: old -> new`, but those of FREE_KEYS that are not of BOUND_KEYS."""
    old, new = dict(leaves(before)), dict(leaves(now))
    for name in sorted(old.keys() | new.keys()):
        free = _is_below(name, FREE_KEYS) and not _is_below(name, BOUND_KEYS)
        if not free and old.get(name) != new.get(name):
            yield f"{name}: {old.get(name)} -> {new.get(name)}"


def sweep_name(task_overrides: Sequence[str]) -> str:
    """The folder of one job of a sweep, e.g. `module.lora_rank=2`: what varied, without name and paths."""
    words = [word.lstrip("+") for word in task_overrides]
    varied = [word for word in words if not word.startswith(("experiment=", "run_name=", "paths."))]
    return ",".join(varied).replace("/", "_")


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


def _completed(argument: str, roots: Sequence[str], config_dir: Path, problems: list[str]) -> str:
    name, separator, value = argument.partition("=")
    if not separator or name.startswith(("-", "+", "~", "hydra")):
        return argument
    root = name.split(".")[0].split("@")[0].split("/")[0]
    if root not in roots:
        problems.append(unknown(root, roots))
    elif (config_dir / name).is_dir():
        problems += _choice_problems(name, value, config_dir / name)
    elif "." in name:
        return f"++{argument}"
    return argument


def _choice_problems(group: str, value: str, folder: Path) -> list[str]:
    """What is wrong with `group=value`: files that do not exist, a launcher that is not installed."""
    choices = sorted(path.stem for path in folder.glob("*.yaml"))
    wrong = [choice for choice in value.strip("[]").split(",") if choice not in (*choices, "null", "")]
    problems = [f"{group}={choice} does not exist{nearest(choice, choices, prefix=f'{group}=')}" for choice in wrong]
    if group == "launcher" and "slurm" in value and find_spec("submitit") is None:
        problems.append("launcher=slurm needs the submitit launcher: pip install 'seesr-pl[slurm]'")
    return problems


def _is_below(name: str, keys: Sequence[str]) -> bool:
    return any(name == key or name.startswith(f"{key}.") for key in keys)
