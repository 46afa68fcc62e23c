"""What an evaluation may be told besides its benchmark and its method: the keys of its config that name no class."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from seesr_pl.annotations import accepts, hints_of, in_words

Stage = Literal["restore", "score", "report"]
STAGES: tuple[Stage, ...] = ("restore", "score", "report")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The keys by name, and the values that each may have; conf/evaluate.yaml says what they mean."""

    task: Literal["restoration", "tags"]
    ckpt: str | None
    seed: int
    run_name: str
    metrics: str | list[str]
    niqe_parameters: str | None
    compare: list[str]
    stages: Stage | list[Stage]
    overwrite: bool
    strict: bool
    device: str
    dtype: Literal["float32", "bfloat16", "float16"]


def option_problems(values: Mapping[str, Any], *, needs_ckpt: bool, outputs: str) -> list[str]:
    """Say of each of `values` that does not fit `Options` what is expected, and of a checkpoint that is not there.

    Args:
        values: by key; keys that are no options are passed over.
        needs_ckpt: whether the task or the method takes its networks from `ckpt`.
        outputs: the folder of the runs, for the message.
    """
    problems = [
        f"{name} = {values[name]!r}: expected {in_words(hint)}"
        for name, hint in get_type_hints(Options).items()
        if not accepts(values[name], hint)
    ]
    ckpt = values["ckpt"]
    if ckpt is None and needs_ckpt:
        problems.append("ckpt = null: give a run folder, a .ckpt file of it or a pipeline folder as ckpt=PATH")
    if ckpt is not None and not Path(ckpt).expanduser().exists():
        problems.append(f"ckpt = {ckpt}: does not exist; runs lie in {outputs}/<run_name>")
    return problems


def method_settings(values: Mapping[str, Any], method: Callable[..., Any]) -> dict[str, Any]:
    """All constructor arguments of `method` but its name; files and folders as `Path`, to be known by content."""
    hints = hints_of(method)
    paths = [name for name, value in values.items() if value is not None and Path in get_args(hints.get(name))]
    found = {**values, **{name: Path(values[name]).expanduser() for name in paths}}
    return {name: value for name, value in found.items() if name != "name"}
