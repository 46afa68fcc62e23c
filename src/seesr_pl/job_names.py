"""Names of the jobs of a sweep: what varies among them, as a folder name."""

import os
import re
import sys
from collections.abc import Iterator, Sequence

from omegaconf import OmegaConf

from seesr_pl.files import fingerprint

SWEPT_VARIABLE = "SEESR_SWEPT"
_MAX_NAME = 200  # characters; file systems end at 255 bytes


def sweep_name(task_overrides: Sequence[str]) -> str:
    """Return the folder name of one job of a sweep: what varies, e.g. `module.lora_rank=2`, without name and paths."""
    words = [word.lstrip("+") for word in task_overrides]
    swept = os.environ.get(SWEPT_VARIABLE, "").split()
    varied = [word for word in words if not word.startswith(("experiment=", "run_name=", "paths."))]
    name = ",".join(word for word in varied if not swept or word.partition("=")[0] in swept).replace("/", "_")
    return name if len(name) <= _MAX_NAME else f"{name[:_MAX_NAME]}-{fingerprint(name)[:8]}"


def swept_keys(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the keys that a sweep gives several values: a list outside of brackets, or a range, interval or choice."""
    for word in arguments:
        key, _, value = word.lstrip("+").partition("=")
        outside = re.sub(r"\[.*\]|\{.*\}|'.*'|\".*\"", "", value)
        if "," in outside or re.match(r"\w+\(", value):
            yield key


def varied_words(task_overrides: Sequence[str]) -> list[str]:
    """Return what varies in one job of a sweep of evaluations besides method and set, which its run name tells.

    Words that stand on the command line as they are do not vary. With `run_name=` or a name given, method and set are
    words like others.
    """
    given = [argument.lstrip("+") for argument in sys.argv[1:]]
    words = [word.lstrip("+") for word in task_overrides]
    named = any(word.startswith(("run_name=", "method.name=", "benchmark.name=")) for word in words)
    told = () if named else ("method=", "benchmark=", "ckpt=")
    return [word for word in words if word not in given and not word.startswith(told)]


def distinct(labels: Sequence[str]) -> list[str]:
    """Return `labels` without the words that all have, and without the groups of keys: `sampler.start_from=lq`.

    Where that would leave nothing, or make two alike, they stay as they are.
    """
    words = [label.split(" ") for label in labels]
    common = set(words[0]).intersection(*words) if len(labels) > 1 else set[str]()
    kept = [[re.sub(r"^(sampler|method)\.(?=\w+=)", "", word) for word in each if word not in common] for each in words]
    short = [" ".join(each) for each in kept]
    return short if all(short) and len(set(short)) == len(set(labels)) else list(labels)


def varied_name(task_overrides: Sequence[str]) -> str:
    """Return the folder name of one job of a sweep of evaluations below its run name; "." where nothing else varies."""
    return ",".join(varied_words(task_overrides)).replace("/", "_") or "."


OmegaConf.register_new_resolver("varied_name", varied_name, replace=True)
OmegaConf.register_new_resolver("sweep_name", sweep_name, replace=True)
