"""Break one line of `src` at a time and see whether a test notices: `make mutants`.

`tests/mutants/*.toml` lists the faults, one table `[[mutant]]` each: `name`; `old`, a text that stands exactly once in
`src`; `new`, what replaces it; `tests`, the files or tests that must fail then; and `alive`, the reason, for a fault
that is known to go unnoticed. Each is tried in a copy of `src`, in a process of its own, without the folders outside
the repository. Exit code 1 if a fault without a reason goes unnoticed, or cannot be tried.
"""

import argparse
import contextlib
import importlib
import importlib.util
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LISTS = ROOT / "tests" / "mutants"
TIMEOUT_SECONDS = 300.0
# Imported once, before the processes part: this is most of the time that a test file takes.
HEAVY = (
    "pytest", "hypothesis.strategies", "torch.utils.data", "torch._dynamo", "torch.optim.lr_scheduler", "lightning",
    "lightning.pytorch.callbacks", "lightning.pytorch.loggers", "torchmetrics", "cv2", "scipy.stats", "scipy.ndimage",
    "scipy.signal", "skimage.data",
    "peft", "diffusers.models", "diffusers.models.controlnets.controlnet", "diffusers.models.unets.unet_2d_condition",
    "diffusers.models.autoencoders.autoencoder_kl", "diffusers.pipelines.pipeline_utils", "diffusers.schedulers",
    "diffusers.schedulers.scheduling_ddpm", "diffusers.schedulers.scheduling_ddim",
    "transformers.models.clip.modeling_clip", "transformers.models.clip.tokenization_clip",
    "transformers.models.swin.modeling_swin", "transformers.models.blip.modeling_blip_text", "hydra.utils",
    "typer.testing", "rich.progress", "simplejpeg", "jinja2", "fsspec", "jaxtyping",
)  # fmt: skip
OUTSIDE = ("SEESR_GOLDEN", "SEESR_BENCHMARKS")


class Mutant(NamedTuple):
    """A fault: where it is listed, what stands in `src` and what replaces it, and the tests that must notice."""

    name: str
    listed: str
    old: str
    new: str
    tests: tuple[str, ...]
    alive: str = ""

    @property
    def label(self) -> str:
        """Name of the fault in messages."""
        return f"{self.listed}: {self.name}"


class Trial(NamedTuple):
    """A label, and the tests that one process runs on one copy of `src`; `file` is changed to `text` there."""

    label: str
    tests: tuple[str, ...]
    file: Path | None = None
    text: str = ""


class Verdict(NamedTuple):
    """How a trial ended: pytest's exit code, None after the time limit; what it printed; seconds."""

    trial: Trial
    code: int | None
    output: str
    seconds: float


def main() -> int:
    """Try the chosen faults; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="try those whose list or name holds this text")
    parser.add_argument("--list", action="store_true", help="print the faults, try none")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_SECONDS, help="seconds that a fault may take")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once (default: cores)")
    given = parser.parse_args()
    chosen = [mutant for mutant in read_lists(LISTS) if given.only in mutant.label]
    if given.list:
        print("\n".join(mutant.label for mutant in chosen))
        return 0
    trials, wrong = prepare(chosen, read_sources(ROOT / "src"))
    if wrong or not trials:
        print("\n".join(wrong) or f"no mutant in {LISTS} is named like {given.only!r}")
        return 1
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        workshop = Workshop(Path(folder), jobs=given.jobs, timeout=given.timeout)
        return 1 if not workshop.is_green(chosen) else report(chosen, workshop.run(trials))


def read_lists(folder: Path) -> list[Mutant]:
    """Read the mutants of all lists in `folder`; ValueError for a wrong table, or a name that is twice in a list."""
    found: dict[tuple[str, str], Mutant] = {}
    for path in sorted(folder.glob("*.toml")):
        for number, table in enumerate(tomllib.loads(path.read_text()).get("mutant", [])):
            try:
                mutant = Mutant(listed=path.stem, **(table | {"tests": tuple(table["tests"])}))
            except (TypeError, KeyError) as error:
                raise ValueError(f"{path}: mutant {number}, {table.get('name')!r}: {error}") from error
            if (path.stem, mutant.name) in found:
                raise ValueError(f"{path}: two mutants are named {mutant.name!r}; give each its own name")
            found[path.stem, mutant.name] = mutant
    return list(found.values())


def read_sources(src: Path) -> dict[Path, str]:
    """Return the text of each Python file below `src`, by its path below it."""
    return {path.relative_to(src): path.read_text() for path in sorted(src.rglob("*.py"))}


def mutated(mutant: Mutant, sources: Mapping[Path, str]) -> tuple[Path, str]:
    """The file that `mutant` changes, and its text then; ValueError unless `old` stands exactly once in all files."""
    counts = {path: text.count(mutant.old) for path, text in sources.items() if mutant.old in text}
    if sum(counts.values()) != 1:
        places = ", ".join(f"{path} ({count})" for path, count in counts.items()) or "no file"
        raise ValueError(f"{mutant.label}: `old` must stand exactly once in src, it stands in {places}: {mutant.old!r}")
    if mutant.new == mutant.old:
        raise ValueError(f"{mutant.label}: `new` must differ from `old`: {mutant.old!r}")
    (path,) = counts
    return path, sources[path].replace(mutant.old, mutant.new)


def prepare(mutants: Sequence[Mutant], sources: Mapping[Path, str]) -> tuple[list[Trial], list[str]]:
    """Return a trial for each mutant, and a message for each that does not stand in exactly one place."""
    trials, wrong = [], []
    for mutant in mutants:
        try:
            trials.append(Trial(mutant.label, mutant.tests, *mutated(mutant, sources)))
        except ValueError as error:
            wrong.append(str(error))
    return trials, wrong


class Workshop:
    """Runs trials in forked processes, `jobs` at once, each on its own copy of `src` below `folder`."""

    def __init__(self, folder: Path, *, jobs: int, timeout: float) -> None:
        self.folder, self.jobs, self.timeout = folder, jobs, timeout
        self.count = 0
        set_environment(folder)
        for name in HEAVY:
            if importlib.util.find_spec(name.partition(".")[0]):
                importlib.import_module(name)
        import torch

        torch.set_num_threads(1)  # a fork has none of the threads of its parent
        assert "seesr_pl" not in sys.modules, "a child must import its own copy"

    def is_green(self, mutants: Sequence[Mutant]) -> bool:
        """Whether the tests that `mutants` name pass on `src` as it is; prints those that do not."""
        by_file: dict[str, list[str]] = {}
        for test in dict.fromkeys(test for mutant in mutants for test in mutant.tests):
            by_file.setdefault(test.partition("::")[0], []).append(test)
        trials = [Trial(file, (file,) if file in tests else tuple(tests)) for file, tests in by_file.items()]
        red = [verdict for verdict in self.run(trials) if verdict.code != 0]
        for verdict in red:
            print(f"{verdict.trial.label} does not pass without any mutant:\n{verdict.output}")
        print(f"{len(trials)} test files pass on src as it is" if not red else f"{len(red)} test files do not pass")
        return not red

    def run(self, trials: Sequence[Trial]) -> Iterator[Verdict]:
        """Yield the verdict of each trial, in the order in which they end."""
        waiting, running = list(reversed(trials)), {}
        while waiting or running:
            while waiting and len(running) < self.jobs:
                process, trial, folder = self._start(waiting.pop())
                running[process.sentinel] = (process, trial, folder, time.monotonic())
            ends = min(start for *_, start in running.values()) + self.timeout
            ready = wait(list(running), timeout=max(0.0, ends - time.monotonic()))
            late = [key for key, (*_, start) in running.items() if time.monotonic() >= start + self.timeout]
            for sentinel in {*ready, *late}:
                process, trial, folder, start = running.pop(sentinel)
                yield _verdict(process, trial, folder, time.monotonic() - start, timed_out=sentinel not in ready)

    def _start(self, trial: Trial) -> tuple[BaseProcess, Trial, Path]:
        self.count += 1
        folder = self.folder / f"{self.count:04d}"
        shutil.copytree(ROOT / "src", folder / "src")
        for name in ("conf", "train.py", "evaluate.py"):  # the check of configs looks for them beside `src`
            (folder / name).symlink_to(ROOT / name)
        if trial.file is not None:
            (folder / "src" / trial.file).write_text(trial.text)
        process = multiprocessing.get_context("fork").Process(target=_child, args=(folder, trial.tests))
        process.start()
        return process, trial, folder


def set_environment(folder: Path) -> None:
    """Give tests and the processes that they start one thread, no network and nothing outside the repository."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    nothing = {name: str(folder / "nothing") for name in OUTSIDE}
    os.environ.update(threads, **nothing, HF_HUB_OFFLINE="1", WANDB_MODE="offline", CUDA_VISIBLE_DEVICES="")


def report(mutants: Sequence[Mutant], verdicts: Iterator[Verdict]) -> int:
    """Print each verdict as it comes, then the counts and those that live; 1 if one lives without a reason."""
    reasons = {mutant.label: mutant.alive for mutant in mutants}
    killed, living, broken = 0, [], []
    for verdict in verdicts:
        label = verdict.trial.label
        word = _word(verdict.code)
        print(f"{word:<9} {label} ({verdict.seconds:.1f} s)", flush=True)
        killed += word in ("killed", "timed out")
        living += [label] if word == "ALIVE" else []
        broken += [f"{label}: pytest ended with {verdict.code}\n{verdict.output}"] if word == "BROKEN" else []
        if reasons[label] and word != "ALIVE":
            print(f"          although the list calls it alive: {reasons[label]}")
    print(f"\n{len(mutants)} mutants: {killed} killed, {len(living)} alive, {len(broken)} could not be tried")
    for label in living:
        print(f"alive: {label}: {reasons[label] or 'NO REASON; write the test that fails'}")
    print("".join(f"{text}\n" for text in broken), end="")
    return 1 if broken or any(not reasons[label] for label in living) else 0


def _word(code: int | None) -> str:
    # pytest: 0 all passed, 1 failures, 2 a file cannot be collected, 4 a conftest cannot be imported; 5 no test ran.
    # Below zero: the process died.
    words = {0: "ALIVE", 1: "killed", 2: "killed", 4: "killed", None: "timed out"}
    return words.get(code, "killed" if code is not None and code < 0 else "BROKEN")


def _verdict(process: BaseProcess, trial: Trial, folder: Path, seconds: float, *, timed_out: bool) -> Verdict:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)  # it and what its tests have started
    process.join()
    output = (folder / "output").read_text(errors="replace") if (folder / "output").exists() else ""
    shutil.rmtree(folder, ignore_errors=True)
    return Verdict(trial, None if timed_out else process.exitcode, output[-3000:], seconds)


def _child(folder: Path, tests: Sequence[str]) -> None:
    os.setsid()
    with (folder / "output").open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    src = str(folder / "src")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (src, os.environ.get("PYTHONPATH"))))
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(folder / "hypothesis")
    os.chdir(ROOT)
    sys.path[:0] = [src, str(ROOT)]  # as `python -m pytest` has it: processes that tests spawn import them from it
    import pytest

    import seesr_pl

    assert Path(str(seesr_pl.__file__)).is_relative_to(src), f"{seesr_pl.__file__} is not the copy in {src}"
    sys.exit(
        int(
            pytest.main(
                ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", f"--basetemp={folder / 'pytest'}", *tests]
            )
        )
    )


if __name__ == "__main__":
    sys.exit(main())
