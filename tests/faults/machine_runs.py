"""Small runs of `train.py` that meet a fault; the callbacks are named in a run's config by `_target_`."""

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from lightning import Callback

from seesr_pl import config  # noqa: F401  (registers what the sampler's files build on)
from seesr_pl.data import ShardWriter

ROOT = Path(__file__).resolve().parents[2]
STAGES = {
    1: ("experiment=dape", "~module.ram", "+module.ram={_target_: stacks.small_ram, dape: false}"),
    2: (
        "experiment=seesr",
        "~module.stack",
        "+module.stack={_target_: stacks.small_stack}",
        "module.channels_last=false",
    ),
}


def shards(folder, *, num_samples=6):
    """Write shards of smooth noise; returns their pattern."""
    with ShardWriter(folder, max_samples=4) as writer:
        for number in range(num_samples):
            coarse = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
            image = cv2.resize(coarse, (72, 72), interpolation=cv2.INTER_CUBIC)
            writer.write(f"{number:04d}", cv2.imencode(".png", image)[1].tobytes(), extension="png", tags="wood,")
    return str(folder / "*.tar")


def words(pattern, outputs, *, steps, stage=2, **callbacks):
    """The command line of a small run; a callback of this file is given as name=(class, arguments)."""
    source = f"{{_target_: seesr_pl.data.ShardSource, urls: '{pattern}'}}"
    line = [*STAGES[stage], "module.frozen_dtype=float32", "trainer.precision=32-true"]
    line += ["module.channels_last=false", "callbacks.validation_images=null"] if stage == 2 else []
    line += ["trainer.accelerator=cpu", "trainer.devices=1", f"trainer.max_steps={steps}", "degradation=none"]
    line += ["trainer.val_check_interval=null", "trainer.log_every_n_steps=1", "callbacks.throughput=null"]
    line += ["trainer.enable_progress_bar=false", "data.global_batch_size=2", "data.micro_batch_size=1"]
    line += ["data.num_workers=0", "data.crop_size=64", f"data.sources=[{source}]", "data.validation_sources=[]"]
    line += [f"paths.outputs={outputs}", "module.learning_rate=1e-3", "logger=csv"]
    for name, (target, arguments) in callbacks.items():
        options = "".join(f", {key}: {value}" for key, value in arguments.items())
        line.append(f"+callbacks.{name}={{_target_: machine_runs.{target}{options}}}")
    return line


def prepared(line):
    """What `train.py` does up to the first step, in this process; returns the call that trains."""
    added = [
        word if word.startswith(("~", "+", "experiment", "degradation=", "logger=")) else f"++{word}" for word in line
    ]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=added)
    specification = importlib.util.spec_from_file_location("train", ROOT / "train.py")
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    return script.prepare(cfg)


def start(line, **environment):
    """Start `train.py` in a process and group of its own."""
    paths = [str(ROOT / "src"), str(ROOT / "tests"), str(Path(__file__).parent)]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths), **environment}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *line],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finished(process, *, seconds=180):
    """Wait for the process; returns (exit code, what it printed). Its whole group is gone afterwards."""
    try:
        output, _ = process.communicate(timeout=seconds)
    finally:
        kill_group(process)
    return process.returncode, output


def kill_group(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def global_step(path):
    return torch.load(path, weights_only=True, map_location="cpu")["global_step"]


class NotANumberAt(Callback):
    """From `step` on, for `count` steps, the losses (or the gradients alone) of one rank are NaN."""

    def __init__(self, *, step, rank=0, count=1, gradients=False):
        self.steps, self.rank, self.gradients = range(step, step + count), rank, gradients

    def _is_due(self, trainer):
        return trainer.global_step in self.steps and trainer.global_rank == self.rank

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.loss = getattr(self, "loss", pl_module.loss)
        spoilt = self._is_due(trainer) and not self.gradients
        pl_module.loss = (lambda p, t: self.loss(p, t) * float("nan")) if spoilt else self.loss

    def on_after_backward(self, trainer, pl_module):
        if self.gradients and self._is_due(trainer):
            next(each for each in pl_module.parameters() if each.grad is not None).grad.fill_(float("inf"))


class FaultAt(Callback):
    """When `step` steps are done, `rank` raises, hangs, leaves by sys.exit, or is sent the signal `fault`."""

    def __init__(self, *, step, fault, rank=0, seed=None):
        self.step, self.fault, self.rank, self.seed = step, fault, rank, seed

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step != self.step or trainer.global_rank != self.rank:
            return
        if self.seed not in (None, pl_module.seed):
            return
        if self.fault == "raise":
            raise RuntimeError("a fault of the test")
        if self.fault == "exit":
            sys.exit(7)
        if self.fault == "hang":
            time.sleep(600)
        os.kill(os.getpid(), getattr(signal, self.fault))
        self.step = -1


class Diary(Callback):
    """Each rank appends a line for each micro batch to `<folder>/rank_<n>.jsonl`: the step, and epoch and sample id."""

    def __init__(self, *, folder):
        self.folder = Path(folder)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.step = trainer.global_step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        samples = list(zip(batch["epoch"].tolist(), batch["sample_id"].tolist(), strict=True))
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"rank_{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps([self.step, samples]) + "\n")
