"""Count the files and functions along the five main paths, at run time on the tiny stack.

Of the calls of the main thread, those to named functions of `src` count: no comprehensions, no lambdas, no modules. A
path is run twice and the second run is counted, so that imports and files made once do not. `files` are the files that
hold a function called; `functions` are pairs of file and bare name, so that two `forward` of one file are one;
`calls` counts every call for which the nearest function of `src` up the stack lies in another file.
"""

import contextlib
import functools
import os
import runpy
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
SRC = str(ROOT / "src") + os.sep
Action = Callable[[], Any]


class Hops(NamedTuple):
    """Files entered, distinct functions, and calls from one file to another."""

    files: int
    functions: int
    calls: int


class Tracer:
    """A profile function that counts; `sys.setprofile` takes it."""

    def __init__(self) -> None:
        self.functions: set[tuple[str, str]] = set()
        self.calls = 0

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """Count a call to a function of `src`."""
        if event != "call" or not _is_ours(frame.f_code):
            return
        here = frame.f_code.co_filename
        if frame.f_code.co_name[0] != "<":
            self.functions.add((here, frame.f_code.co_name))
        caller = frame.f_back
        while caller is not None and not _is_ours(caller.f_code):
            caller = caller.f_back
        self.calls += caller is not None and caller.f_code.co_filename != here

    def hops(self) -> Hops:
        """The counts so far."""
        return Hops(len({file for file, _ in self.functions}), len(self.functions), self.calls)


def measure() -> dict[str, Hops]:
    """The hops of each path. Runs the five of them twice in a temporary folder, which takes two minutes."""
    os.environ.update(HF_HUB_OFFLINE="1", WANDB_MODE="offline", CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1")
    with tempfile.TemporaryDirectory(prefix="hops-") as folder, contextlib.chdir(folder), _quiet():
        return {name: traced(prepare()) for name, prepare in PATHS.items()}


def traced(action: Action) -> Hops:
    """The hops of the second run of `action`."""
    action()
    tracer = Tracer()
    sys.setprofile(tracer)
    try:
        action()
    finally:
        sys.setprofile(None)
    return tracer.hops()


# One function a path, to be edited where names change: each prepares, and returns what is run.


def train() -> Action:
    """One optimizer step of SeeSR by `train.py`; its samples are made in the main process, so that they count."""
    return _script("train.py", "experiment=tiny_seesr trainer.max_steps=1 data.num_workers=0 run_name=run{}")


def training_step() -> Action:
    """`training_step` of SeeSR on the tiny stack, two samples, no trainer."""
    import torch

    from seesr_pl.tiny.stack import tiny_stack
    from seesr_pl.training import SeeSRDiffusion

    module = SeeSRDiffusion(tiny_stack(lora_rank=8))
    images, numbers = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8), torch.arange(2)
    batch = {"hq": images, "lq": images[:, ::4, ::4], "key": ["a", "b"], "sample_id": numbers, "epoch": numbers}
    batch |= {"severity": torch.zeros(2), "tags": ["", ""]}
    step: Any = module.training_step
    return functools.partial(_without_trainer, module, functools.partial(step, batch, 0))


def pipeline_call() -> Action:
    """`SeeSRPipeline.__call__` on one image: two steps with guidance, no tiles."""
    pipeline = _pipeline()
    return functools.partial(pipeline, _image(), num_inference_steps=2, process_size=64)


def restore() -> Action:
    """`seesr restore` of one image with a saved pipeline: two steps with guidance, no tiles."""
    from PIL import Image

    _pipeline().save_pretrained("pipeline")
    Image.fromarray(_image()).save("in.png")
    return _command("restore in.png --ckpt pipeline --steps 2 --process-size 64 --out out{}")


def evaluate() -> Action:
    """`evaluate.py` of a benchmark of two images with a saved pipeline: restore, score, report."""
    from PIL import Image

    _pipeline().save_pretrained("pipeline")
    for folder, size in (("lq", 32), ("hq", 128)):
        Path("pairs", folder).mkdir(parents=True)
        for name in ("a.png", "b.png"):
            Image.fromarray(_image(size)).save(Path("pairs", folder, name))
    settings = "method=seesr sampler=tiny ckpt=pipeline benchmark=folder benchmark.root=pairs"
    return _script("evaluate.py", f"{settings} run_name=judged{{}}")


PATHS: dict[str, Callable[[], Action]] = {
    "training_step (SeeSR)": training_step,
    "SeeSRPipeline.__call__": pipeline_call,
    "seesr restore": restore,
    "evaluate.py (restoration)": evaluate,
    "train.py, one step": train,
}


def _pipeline() -> Any:
    from seesr_pl.sampling import SeeSRPipeline
    from seesr_pl.tiny.stack import tiny_stack

    return SeeSRPipeline(*tiny_stack(weights="shipped"))


def _image(size: int = 32) -> Any:
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)


def _without_trainer(module: Any, step: Action) -> None:
    with mock.patch.object(module, "log"):
        step()


def _script(name: str, line: str) -> Action:
    from hydra.core.global_hydra import GlobalHydra

    def run(arguments: list[str]) -> None:
        GlobalHydra.instance().clear()
        with mock.patch.object(sys, "argv", [name, *arguments]):
            runpy.run_path(str(ROOT / name), run_name="__main__")

    return _each_time_anew(run, line)


def _command(line: str) -> Action:
    from seesr_pl.cli import app

    def run(arguments: list[str]) -> None:
        with mock.patch.object(sys, "argv", ["seesr", *arguments]):
            app()

    return _each_time_anew(run, line)


def _each_time_anew(run: Callable[[list[str]], None], line: str) -> Action:
    numbers = iter((1, 2))

    def action() -> None:
        try:
            run(shlex.split(line.format(next(numbers))))
        except SystemExit as end:
            if end.code:
                raise RuntimeError(f"{line} ended with exit code {end.code}") from end

    return action


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Send what the commands print to stderr, so that it is shown when one fails."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith(SRC) and code.co_name != "<module>"
