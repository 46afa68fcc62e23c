"""Turn a Hydra command into a run: complete its overrides, choose its folder, resume it, shorten its errors."""

import os
import re
import runpy
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

from seesr_pl import process
from seesr_pl.config import COMMANDS, ConfigError, folder_name, leaves, nearest, plain, root_keys, unknown
from seesr_pl.evaluation.options import evaluation_name
from seesr_pl.job_names import SWEPT_VARIABLE, swept_keys
from seesr_pl.runs import RunFolder
from seesr_pl.text import shown
from seesr_pl.training.stops import Stopped
from seesr_pl.typed import hydra_value

Resume = Literal["auto", "force", "never"]
USER_ERRORS = (ValueError, FileNotFoundError, ImportError)
_OPTIONS_WITH_VALUES = ("--cfg", "-c", "--package", "-p", "--info", "-i", "--config-dir", "-cd", "--experimental-rerun")
RUN_VARIABLE = "SEESR_RUN_FOLDER"
# Groups whose choices are plugins of Hydra: the package that they need, and our extra that installs it.
_PLUGINS = (("launcher", "submitit", "slurm"), ("sweeper", "optuna", "sweep"))
# Keys that may change when a run is resumed: none of them changes what is learned from which sample.
FREE_KEYS = (
    "resume", "optimized_metric", "sampler", "module.sampler", "paths", "trainer", "callbacks", "logger",
    "data.num_workers", "data.micro_batch_size", "data.max_micro_batch_size", "data.prefetch_factor",
    "data.num_retries", "data.first_wait_seconds",
    # Where the samples lie; which samples they are is in the checkpoint, and compared with it (`ShardDataModule`).
    "data.sources", "data.validation_sources", "data.validation_batch_size", "data.max_bad_fraction",
    "data.cache_folder", "data.cache_gigabytes",
    "module.compile", "module.compile_frozen", "module.gradient_checkpointing", "module.channels_last",
)  # fmt: skip
# Keys below the free ones that may not change, since they do change what is learned.
BOUND_KEYS = ("trainer.precision", "trainer.gradient_clip_val", "trainer.gradient_clip_algorithm", "callbacks.ema")


def train() -> None:
    """Run `train.py`: the command `seesr-train`, with which Lightning also starts the other ranks."""
    runpy.run_path(str(COMMANDS / "train.py"), run_name="__main__")


def evaluate() -> None:
    """Run `evaluate.py`: the command `seesr-evaluate`."""
    runpy.run_path(str(COMMANDS / "evaluate.py"), run_name="__main__")


def overrides(arguments: Sequence[str], config_dir: Path, config_name: str) -> list[str]:
    """Complete a command line so that it can set any constructor argument without Hydra's `+`.

    Return `arguments` with `++` before each `a.b=c`, which sets a key whether or not a YAML file has it, and with names
    of files and folders as they were typed (`typed.hydra_value`); to ask for help, no experiment need be named. Raises
    ConfigError for an unknown root key, a group choice without a file, or a value that cannot be read.
    """
    if any(argument.startswith(("-cp", "-cn", "--config")) for argument in arguments):
        return list(arguments)  # a process that Lightning launched: its config was composed and checked by rank 0
    roots = sorted({*root_keys(config_dir / f"{config_name}.yaml"), "hydra"})
    if {"--help", "-h"} & set(arguments) and "experiment" in roots:
        # Hydra composes the config before it prints help, and cannot do so without an experiment.
        return [*arguments, *([] if _names_experiment(arguments) else ["experiment=seesr"])]
    problems: list[str] = []
    problems += _words_alone(arguments, config_dir)
    completed = [_completed(argument, roots, config_dir, problems) for argument in arguments]
    if {"-m", "--multirun"} & set(arguments):
        os.environ[SWEPT_VARIABLE] = " ".join(swept_keys(arguments))  # for `sweep_name`, wherever a job runs
    if any(re.fullmatch(r"(\+\+)?trainer\.fast_dev_run=(True|true|[1-9]\d*)|debug=fast", word) for word in completed):
        completed.append("hydra.run.dir=.")  # a trial writes nothing, and Hydra makes the folder that it is given
    if problems:
        raise ConfigError(problems)
    return completed


def require_experiment(arguments: Sequence[str], config_dir: Path) -> None:
    """Raise ValueError, which lists the experiments, where a command line names none and asks Hydra for no help."""
    asks_hydra = {"--hydra-help", "--version", "-cn", "--config-name"} & {word.split("=")[0] for word in arguments}
    if asks_hydra or _names_experiment(arguments):
        return
    files = sorted((config_dir / "experiment").glob("*.yaml"))
    about = {path.stem: re.split("[:;.(]", path.read_text().splitlines()[1].removeprefix("# "))[0] for path in files}
    lines = [f"  experiment={name:<20} {text}" for name, text in about.items()]
    raise ValueError(
        "\n".join(["which experiment? python train.py experiment=NAME", *lines, "python train.py --help has more"])
    )


def enter_run(cfg: DictConfig) -> None:
    """Set `paths.run`, the folder that every process of this run writes to.

    It is outputs/<run_name>; each job of a sweep gets a folder below it, which the ranks that it launches share.
    """
    hydra_config = HydraConfig.get()
    if hydra_config.mode == RunMode.MULTIRUN:
        cfg.paths.run = os.environ[RUN_VARIABLE] = hydra_config.runtime.output_dir
        # Lightning starts the other ranks with this command line; with that of the sweep they would start all its jobs.
        sys.argv[1:] = list(hydra_config.overrides.task)
    elif is_launched() and RUN_VARIABLE in os.environ:
        cfg.paths.run = os.environ[RUN_VARIABLE]


def is_launched() -> bool:
    """Return whether this process is a rank beside the first one of this machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) > 0


def checkpoint_to_resume(cfg: DictConfig) -> Path | None:
    """Return the newest sound checkpoint of the run of `cfg`, from which it continues, or None for a new run.

    `cfg.resume`: "auto" refuses a config that differs in what is learned, "force" accepts it, "never" refuses to
    continue at all. Raises ValueError where it refuses, or where every checkpoint is damaged.
    """
    run = RunFolder(Path(cfg.paths.run))
    if cfg.trainer.get("fast_dev_run") or not run.checkpoints:
        return None
    resume: Resume = cfg.resume
    if resume == "never":
        raise ValueError(f"{run.path} holds a run already (resume=never); choose another run_name or remove the folder")
    before = plain(run.recorded()) if run.config.is_file() else {}
    changes = [] if resume == "force" else list(config_changes(before, plain(cfg)))
    if changes:
        lines = [f"{run.path} holds a run with another config:", *(f"  {line}" for line in changes)]
        lines.append("choose another run_name, or continue with the new config by resume=force")
        raise ValueError("\n".join(lines))
    return _newest_sound(run)


def _newest_sound(run: RunFolder) -> Path:
    from seesr_pl.checkpoints.saved import newest_sound

    saved, damaged = newest_sound(run.checkpoints)
    if saved is None:
        end = f"no checkpoint of {run.path} is sound; remove them to begin anew, or choose another run_name"
        lines = [*damaged, end]
        raise ValueError("\n".join(lines))
    if damaged and not is_launched():
        print(f"{'; '.join(damaged)}: going on from {saved.path}, step {saved.step}", file=sys.stderr)
    return saved.path


def config_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield `key: old -> new` for each key whose value differs and that FREE_KEYS does not allow to change.

    A schedule that ends with the run may end later with it: `decay_steps: ${trainer.max_steps}`.
    """
    old, new = dict(leaves(before)), dict(leaves(now))
    for name in sorted(old.keys() | new.keys()):
        free = _is_below(name, FREE_KEYS) and not _is_below(name, BOUND_KEYS)
        follows = name == "module.decay_steps" and all(
            each.get(name) == each.get("trainer.max_steps") for each in (old, new)
        )
        if not free and not follows and old.get(name) != new.get(name):
            yield f"{name}: {old.get(name)} -> {new.get(name)}"


def count_of(devices: Any) -> int:
    """Return the number of devices that `trainer.devices` asks for; "auto" is what a job of one task is given."""
    if isinstance(devices, int | str):
        return int(devices) if str(devices).isdecimal() else 1  # -1, like "auto", is all that a job sees
    return len(devices)


def _folder_name(run_name: Any) -> str:
    try:
        return folder_name(run_name)
    except ValueError as error:
        _stop(error)  # Hydra, which asks for it before it makes the folder, would print a traceback


OmegaConf.register_new_resolver("folder_name", _folder_name, replace=True)
OmegaConf.register_new_resolver("evaluation_name", evaluation_name, replace=True)
OmegaConf.register_new_resolver("count_of", count_of, replace=True)


@contextmanager
def user_errors() -> Iterator[None]:
    """Print an error that the user can fix without its traceback, and exit with code 2.

    HYDRA_FULL_ERROR=1 keeps the traceback. After any error, an empty folder of the run does not stay behind.
    """
    try:
        with _short_errors():
            yield
    except BaseException:
        process.release()
        _remove_empty_folder()
        raise


@contextmanager
def _short_errors() -> Iterator[None]:
    try:
        yield
    except InstantiationException as error:
        # Hydra wraps what a constructor raised; only the errors of USER_ERRORS are for the user to fix.
        if not isinstance(error.__cause__, USER_ERRORS) or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        _stop(ValueError(f"{error.__cause__}\n  at {str(error).rpartition('full_key: ')[2]}"))
    except Stopped as stop:
        # Lightning kills the first rank as soon as another one ends with a code; that of the first is what counts.
        _stop(stop, 0 if is_launched() else stop.exit_code)
    except USER_ERRORS as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        _stop(error)


def _remove_empty_folder() -> None:
    """Remove the folder that Hydra made for this job, and those above it up to `paths.outputs`, if they are empty."""
    if HydraConfig.initialized():
        folder, outputs = Path(HydraConfig.get().runtime.output_dir), Path(HydraConfig.get().sweep.dir).absolute()
        if folder == Path.cwd():
            return
        for path in (folder, *(above for above in folder.parents if above.is_relative_to(outputs))):
            sweep = path / "multirun.yaml"  # Hydra's own, written before the first job of a sweep
            if not path.is_dir() or any(each != sweep for each in path.iterdir()):
                return
            sweep.unlink(missing_ok=True)
            path.rmdir()


def _stop(error: Exception, code: int = 2) -> NoReturn:
    if code:
        print(f"\n{'error: ' if code != Stopped.exit_code else ''}{shown(error, lines=True)}\n", file=sys.stderr)
    raise SystemExit(code) from error


def _names_experiment(arguments: Sequence[str]) -> bool:
    return any(argument.startswith("experiment=") for argument in arguments)


def _completed(argument: str, roots: Sequence[str], config_dir: Path, problems: list[str]) -> str:
    if argument == "hydra/sweeper=optuna":
        argument = "sweeper=optuna"  # the plugin's sweeper with a study on disk and the direction of the metric
    name, separator, value = argument.partition("=")
    if not separator or name.startswith(("-", "+", "~", "hydra")):
        return argument
    root = name.split(".")[0].split("@")[0].split("/")[0]
    if root not in roots:
        texts = {path.parent.name: path.read_text() for path in sorted(config_dir.glob("*/default.yaml"))}
        inner = [group for group, text in texts.items() if re.search(rf"^{re.escape(name)}:", text, re.MULTILINE)]
        problems.append(f"{name}: unknown key; did you mean {inner[0]}.{argument}?" if inner else unknown(root, roots))
    elif (config_dir / name).is_dir():
        problems += _choice_problems(name, value, config_dir / name)
    elif name == "run_name" and re.fullmatch(r"[\w.+,-]+", value):
        # Quoted, since YAML takes 2026_11_25 for the number 20261125, and `on` for true.
        return f"{name}=" + ",".join(f"'{word}'" for word in value.split(","))
    else:
        problems += _outputs_problems(value) if name == "paths.outputs" else []
        try:
            return f"{'++' if '.' in name else ''}{name}={hydra_value(name, value)}"
        except ValueError as error:
            problems.append(str(error))
    return argument


def _words_alone(arguments: Sequence[str], config_dir: Path) -> Iterator[str]:
    """Name each word that is neither KEY=VALUE nor an option of Hydra or its value."""
    for before, word in zip(["", *arguments], arguments, strict=False):
        if "=" not in word and not word.startswith(("-", "~", "+")) and before not in _OPTIONS_WITH_VALUES:
            files = config_dir.glob(f"*/{word}.yaml") if word.isidentifier() else ()
            meant = " or ".join(sorted(f"{path.parent.name}={word}" for path in files))
            yield f"{word!r} is no KEY=VALUE" + (f"; did you mean {meant}?" if meant else "")


def _choice_problems(group: str, value: str, folder: Path) -> list[str]:
    """List what is wrong with `group=value`: a file that does not exist, a launcher that is not installed."""
    choices = sorted(path.stem for path in folder.glob("*.yaml"))
    wrong = [choice for choice in value.strip("[]").split(",") if choice not in (*choices, "null", "")]
    problems = [f"{group}={choice} does not exist{nearest(choice, choices, prefix=f'{group}=')}" for choice in wrong]
    for plugin, package, extra in _PLUGINS:
        if group == plugin and value and find_spec(package) is None:
            problems.append(f"{group}={value} needs the package {package}: pip install 'seesr-pl[{extra}]'")
    return problems


def _outputs_problems(folder: str) -> list[str]:
    """Tell why no run can be written below `folder`; Hydra, which makes it, would end in a traceback."""
    path = Path(folder).expanduser().absolute()
    existing = next(place for place in (path, *path.parents) if os.path.lexists(place))
    probe = existing / f".seesr-{os.getpid()}"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        reason = f"{existing} cannot be written to ({error.strerror})"
        return [f"paths.outputs = {folder}: {reason}; give a folder of your own as paths.outputs=DIR"]
    return []


def _is_below(name: str, keys: Sequence[str]) -> bool:
    return any(name == key or name.startswith(f"{key}.") for key in keys)
