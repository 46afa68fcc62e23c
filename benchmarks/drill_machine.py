"""Drills on a machine that breaks: kills, signals, damaged checkpoints, a full disk, a loss that is not a number.

Each starts `train.py` on small networks in processes of its own (`tests/faults/machine_runs.py`). SEESR_DRILL_KILLS is
the number of kills (100).
"""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "faults")]

from machine_runs import finished, global_step, kill_group, shards, start, words  # noqa: E402

NUM_KILLS = int(os.environ.get("SEESR_DRILL_KILLS", "100"))
STEPS = 60
TWO = ("trainer.devices=2", "trainer.strategy=ddp")
Drill = tuple[str, Callable[[], tuple[str, bool]]]


def drills(quick: bool) -> list[Drill]:
    """Return the drills of this file."""
    return [
        ("kills: SIGKILL at random, both stages, 1 and 2 processes", partial(kills, 4 if quick else NUM_KILLS)),
        ("signals: SIGTERM, SIGUSR1, SIGINT at random", partial(signals, 2 if quick else 12)),
        ("checkpoints: damaged in many ways", partial(checkpoints, 20 if quick else 400)),
        ("disk: full while saving", disk),
        ("nan: a loss that is not a number, and its replay", nan),
    ]


def kills(count: int) -> tuple[str, bool]:
    """Kill runs until there were `count` kills; each must end as one that nobody killed, to the bit."""
    draw, done, runs, wrong = random.Random(0), 0, 0, []
    while done < count:
        stage = 1 + runs % 2
        with tempfile.TemporaryDirectory() as folder:
            attempts = _until_done(Path(folder), stage=stage, seed=runs, draw=draw, most=count - done)
            done += attempts
            wrong += [f"run {runs}: {text}" for text in _differences(Path(folder), stage=stage, seed=runs)]
        runs += 1
        print(f"kills: {done} of {count}, {runs} runs, wrong: {wrong}", file=sys.stderr, flush=True)
    return (
        f"{done} kills in {runs} runs of {STEPS} steps; {wrong or 'ends equal to the bit, no sample lost or doubled'}",
        not wrong,
    )


def signals(count: int) -> tuple[str, bool]:
    """Send a signal at a random moment; the run must say that it is unfinished, and no completed step be lost."""
    draw, wrong = random.Random(1), []
    for number in range(count):
        name = ("SIGTERM", "SIGUSR1", "SIGINT")[number % 3]
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "seesr"
            line = words(shards(Path(folder) / "shards"), folder, steps=5000)
            process = start([*line, *(TWO if number % 2 else ())])
            _wait_for(run, process, step=1)
            time.sleep(draw.uniform(0, 2))
            process.send_signal(getattr(signal, name))
            code, output = finished(process)
            saved, logged = global_step(run / "checkpoints" / "last.ckpt"), _logged(run)
            if code != 75 or saved != logged + 1:
                wrong.append(f"{name}: exit code {code}, step {saved} saved, {logged} logged: {output[-300:]}")
    return f"{count} signals; {wrong or 'exit code 75, the last completed step saved'}", not wrong


def checkpoints(count: int) -> tuple[str, bool]:
    """Damage `last.ckpt`: no other value may ever be loaded; then let a run go on from the one before."""
    from seesr_pl.checkpoints.saved import damage

    draw, noticed, wrong = random.Random(2), 0, []
    with tempfile.TemporaryDirectory() as folder:
        line = [*words(shards(Path(folder) / "shards"), folder, steps=6), "callbacks.last.every_n_steps=2"]
        finished(start(line))
        last = Path(folder) / "seesr" / "checkpoints" / "last.ckpt"
        sound, values = last.read_bytes(), torch.load(last, weights_only=True)
        for number in range(count):
            last.write_bytes(_damaged(sound, number, draw))
            if damage(last):
                noticed += 1
            elif not _same(torch.load(last, weights_only=True), values):
                wrong.append(f"damage {number} is loaded")
        last.write_bytes(_damaged(sound, 0, draw))
        code, output = finished(start(line))
        again = torch.load(last, weights_only=True)
        if code or "going on from" not in output or not _same(again, values):
            wrong.append(f"the run did not go on: {output[-300:]}")
    text = (
        f"{count} damaged files: {noticed} noticed, the others hold the same values; the run went on from previous.ckpt"
    )
    return (text, True) if not wrong else ("; ".join(wrong), False)


def disk() -> tuple[str, bool]:
    """Train into a file system that is full from the third checkpoint on; needs root, for mount."""
    if os.geteuid():
        return "not run: mounting a small file system needs root", False
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small"
        small.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m", "none", str(small)], check=True)
        try:
            line = [*words(shards(Path(folder) / "shards"), small, steps=8), "callbacks.last.every_n_steps=2"]
            code, output = finished(start(line))
            files = sorted((small / "seesr" / "checkpoints").iterdir())
            steps = {path.name: global_step(path) for path in files}
            subprocess.run(["mount", "-o", "remount,size=40m", str(small)], check=True)
            again, _ = finished(start(line))
            end = global_step(small / "seesr" / "checkpoints" / "last.ckpt")
        finally:
            subprocess.run(["umount", str(small)], check=True)
    lines = output.count("the run goes on")
    passed = (code, again, end, lines > 0) == (75, 0, 8, True) and steps == {"last.ckpt": 4, "previous.ckpt": 2}
    return f"exit code {code}, {lines} lines about room, files {steps}; with room again: {again}, step {end}", passed


def nan() -> tuple[str, bool]:
    """Spoil the loss of one rank of two; the run must end, keep good weights, and be replayed."""
    with tempfile.TemporaryDirectory() as folder:
        fault = ("NotANumberAt", {"step": 5, "rank": 1})
        line = [*words(shards(Path(folder) / "shards"), folder, steps=9, nan=fault), "callbacks.last.every_n_steps=2"]
        code, output = finished(start([*line, *TWO]))
        named = next((row for row in output.splitlines() if "is not finite" in row), output[-300:])
        program = "import sys; from seesr_pl.cli import app; sys.argv[0] = 'seesr'; app()"
        command = [sys.executable, "-c", program, "replay", f"{folder}/seesr", "--step", "5"]
        paths = os.pathsep.join([str(ROOT / "src"), *sys.path[:2]])
        shown = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
        )
        passed = code == 3 and shown.returncode == 0 and shown.stdout.count("\nsample ") == 2
        return (
            f"exit code {code}: {named}; replay printed {shown.stdout.count('sample ')} losses {shown.stderr}",
            passed,
        )


def _line(folder: Path, *, stage: int, seed: int, outputs: str) -> list[str]:
    diary = ("Diary", {"folder": folder / outputs / "diary"})
    line = words(str(folder / "shards" / "*.tar"), folder / outputs, steps=STEPS, stage=stage, diary=diary)
    return [*line, f"seed={seed}", "callbacks.last.every_n_steps=1", "callbacks.kept=null"]


def _until_done(folder: Path, *, stage: int, seed: int, draw: random.Random, most: int) -> int:
    """Start, kill and start again until the run is done; returns how often it was killed."""
    shards(folder / "shards")
    count = 0
    while True:
        line = [*_line(folder, stage=stage, seed=seed, outputs="killed"), *(TWO if draw.random() < 0.5 else ())]
        process, run = start(line), folder / "killed" / ("dape" if stage == 1 else "seesr")
        if count < most:
            # A third of the kills hit the start, the others training, where each step writes a checkpoint.
            if draw.random() < 2 / 3:
                _wait_for(run, process, step=_logged(run) + 1)
            time.sleep(draw.uniform(0, 1.5))
        else:
            process.wait()
        ended = process.poll()
        kill_group(process)
        if ended is not None:
            assert ended == 0, process.stdout.read()[-3000:]
            return count
        count += 1


def _differences(folder: Path, *, stage: int, seed: int) -> list[str]:
    """Return what differs between the killed run and one that nobody kills."""
    code, output = finished(start(_line(folder, stage=stage, seed=seed, outputs="whole")), seconds=600)
    assert code == 0, output[-3000:]
    name = "dape" if stage == 1 else "seesr"
    ends = [
        torch.load(folder / each / name / "checkpoints" / "last.ckpt", weights_only=True)
        for each in ("killed", "whole")
    ]
    found = [] if _same(*ends) else ["weights or moments differ"]
    met = [_met(folder / each / "diary") for each in ("killed", "whole")]
    return found + ([] if met[0] == met[1] else ["other samples were met"]) + _rows(folder / "killed" / name)


def _met(diary: Path) -> list[list[tuple[int, int]]]:
    """Return the samples of each step; a step that was repeated must have met the same ones again."""
    steps: list[set[tuple[int, int]]] = [set() for _ in range(STEPS)]
    for path in diary.glob("*.jsonl"):
        for row in path.read_text().splitlines():
            try:
                step, samples = json.loads(row)
            except ValueError:
                continue  # cut short by the kill
            steps[step] |= {tuple(sample) for sample in samples}
    return [sorted(step) for step in steps]


def _rows(run: Path) -> list[str]:
    with (run / "metrics.csv").open(newline="") as file:
        logged = [int(row["step"]) for row in csv.DictReader(file)]
    return [] if logged == list(range(STEPS)) else [f"metrics.csv has the steps {logged}"]


def _same(left: dict, right: dict) -> bool:
    parts = [(left["state_dict"], right["state_dict"])]
    states = zip(left["optimizer_states"], right["optimizer_states"], strict=True)
    parts += [(mine["state"][key], theirs["state"][key]) for mine, theirs in states for key in theirs["state"]]
    return left["global_step"] == right["global_step"] and all(
        torch.equal(mine[name], theirs[name]) for mine, theirs in parts for name in theirs
    )


def _damaged(data: bytes, number: int, draw: random.Random) -> bytes:
    if number % 4 == 1:
        return data[: draw.randrange(len(data))]
    if number % 40 == 2:
        return b""
    content = bytearray(data)
    for _ in range(64 if number % 4 == 0 else 1):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(content)


def _logged(run: Path) -> int:
    """Return the last step in the run's metrics.csv; -1 where there is none."""
    try:
        with (run / "metrics.csv").open(newline="") as file:
            return max((int(row["step"]) for row in csv.DictReader(file) if row.get("train/loss")), default=-1)
    except (FileNotFoundError, ValueError):
        return -1


def _wait_for(run: Path, process: subprocess.Popen, *, step: int) -> None:
    end = time.monotonic() + 180
    while process.poll() is None and _logged(run) < step and time.monotonic() < end:
        time.sleep(0.05)
