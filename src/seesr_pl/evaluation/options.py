"""What an evaluation may be told besides its benchmark and its method: the keys of its config that name no class."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from seesr_pl.annotations import Amount, Count, hints_of, misfit

Stage = Literal["restore", "score", "report"]
STAGES: tuple[Stage, ...] = ("restore", "score", "report")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The keys by name, and the values that each may have; conf/evaluate.yaml says what they mean."""

    task: Literal["auto", "restoration", "tags", "semantics", "make_benchmark"]
    ckpt: str | list[str] | None
    trust: list[str]
    seed: Amount
    seeds: Count | list[str]
    counterfactual: str | None
    run_name: str
    metrics: str | list[str]
    tagger: str | None
    niqe_parameters: str | None
    metric_weights: dict[str, str]
    metric_folder: str | None
    detector: str | None
    segmenter: str | None
    crop_border: Amount
    luma_range: Literal["limited", "full"]
    compare: list[str]
    stages: Stage | list[Stage]
    overwrite: bool
    strict: bool
    device: str | list[str]
    processes: Count
    on: str
    dtype: Literal["auto", "float32", "bfloat16", "float16"]


def option_problems(values: Mapping[str, Any], *, needs_ckpt: bool, outputs: str) -> list[str]:
    """Say of each of `values` that does not fit `Options` what is expected, and of a checkpoint that is not there.

    Args:
        values: by key; keys that are no options are passed over.
        needs_ckpt: whether the task or the method takes its networks from `ckpt`.
        outputs: the folder of the runs, for the message.
    """
    problems = [
        f"{name} = {values[name]!r}: {problem}"
        for name, hint in get_type_hints(Options, include_extras=True).items()
        if (problem := misfit(values[name], hint))
    ]
    folders = values["seeds"] if isinstance(values["seeds"], list) else []
    problems += [
        f"seeds = {folder}: is no folder of images" for folder in folders if not Path(folder).expanduser().is_dir()
    ]
    found = checkpoints(values["ckpt"])
    if not found and needs_ckpt:
        problems.append("ckpt = null: give a run folder, a .ckpt file of it or a pipeline folder as ckpt=PATH")
    if values["tagger"] and not Path(values["tagger"]).expanduser().exists():
        problems.append(f"tagger = {values['tagger']}: does not exist; give a run, a pipeline folder or a file of RAM")
    if values["on"] != "local" and values["device"] == "auto":
        problems.append("device = 'auto': this machine does not know those of others; give device=cuda or device=cpu")
    missing = [ckpt for ckpt in found if not Path(ckpt).expanduser().exists()]
    problems += [f"ckpt = {ckpt}: does not exist; runs lie in {outputs}/<run_name>" for ckpt in missing]
    problems += [
        f"compare = {folder}: is no folder; give folders of finished evaluations, such as {outputs}/<run_name>"
        for folder in values["compare"] or ()
        if not Path(folder).expanduser().is_dir()
    ]
    return problems


def logger_problems(values: Mapping[str, Any], *, task: str) -> list[str]:
    """Say why an evaluation whose `task` is known cannot be logged: it would have no summary of its own, or several."""
    stages, problems = stages_of(values["stages"]), []
    if "wandb" not in values["logger"]:
        problems.append("logger: an evaluation is logged to W&B alone: logger=wandb; its files hold all that it found")
    if task in ("restoration", "semantics") and "score" not in stages:
        problems.append(f"logger: nothing is scored with stages={stages}; add score, or leave logger out")
    if task == "tags" and len(checkpoints(values["ckpt"])) > 1:
        problems.append("logger: give one ckpt; several DAPEs have a summary each")
    return problems


def not_varied(values: Mapping[str, Any], method: Callable[..., Any]) -> dict[str, str]:
    """Say why `method` cannot be tried under other seeds, or with another tag, where that is asked for."""
    known = inspect.signature(method).parameters
    has_folders, name = isinstance(values["seeds"], list), values["method"]["name"]
    missing = {}
    if values["seeds"] != 1 and ("dir" if has_folders else "seed") not in known:
        given = "takes no folders: give a number" if has_folders else "draws nothing at random"
        given = "holds stored results: give their folders, seeds=[DIR,DIR]" if "dir" in known else given
        missing["seed_spread"] = f"method={name} {given}"
    if values["counterfactual"] and "tag_change" not in known:
        missing["tag_effect"] = f"method={name} takes no tags"
    return missing


def checkpoints(ckpt: str | Sequence[str] | None) -> list[str]:
    """Return the checkpoints that the key `ckpt` names: none, one or several."""
    return [] if ckpt is None else [ckpt] if isinstance(ckpt, str) else list(ckpt)


def stages_of(stages: Stage | Sequence[Stage]) -> list[Stage]:
    """Return the stages that the key `stages` names: one as a word, or several."""
    return [stages] if isinstance(stages, str) else list(stages)


def evaluation_name(ckpt: str | Sequence[str] | None, method: str, benchmark: str) -> str:
    """Name an evaluation after what it judges: run and checkpoint, or the method, and the benchmark."""
    paths = [Path(path).expanduser() for path in checkpoints(ckpt)]
    runs = [f"{path.parent.parent.name}_{path.stem}" if path.suffix == ".ckpt" else path.name for path in paths]
    judged = [] if runs and method == "seesr" else [method]
    return "_".join(part for part in (*judged, "+".join(runs), benchmark) if part)


def method_settings(values: Mapping[str, Any], method: Callable[..., Any]) -> dict[str, Any]:
    """All constructor arguments of `method` but name and device; files and folders as `Path`, known by content."""
    hints = hints_of(method)
    paths = [name for name, value in values.items() if value is not None and Path in get_args(hints.get(name))]
    found = {**values, **{name: Path(values[name]).expanduser() for name in paths}}
    return {name: value for name, value in found.items() if name not in ("name", "device")}
