"""The whole system in minutes on two CPU cores: photographs, DAPE, SeeSR, restoration, scores, an HTML report.

Every stage is a command of the project; what it says goes to a file of its own. `make demo` calls this file.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from demo_report import PEER, report
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

ROOT = Path(__file__).resolve().parents[1]
BASELINES = ("bicubic", "gaussian_blur", "nlm")
# A stage runs beside another where both cores are free; a second thread slows networks this small.
LANES = 2
NEXT = """[bold]What to type next[/]
  seesr restore PHOTO.jpg --ckpt {out}/seesr --out restored        [dim]your own photograph[/]
  python train.py experiment=tiny_seesr                            [dim]longer, and your own settings[/]
  python train.py experiment=seesr                                 [dim]the real one: lists the files it needs[/]"""


class Size(NamedTuple):
    """How long a demo is: optimizer steps of both stages, not minutes, and crops of each held-out photograph."""

    dape_steps: int
    seesr_steps: int
    crops: int


class Stage(NamedTuple):
    """A command of the demo.

    Args:
        name: of its folder in the demo's folder, and of its log.
        title: what the terminal shows.
        command: as a user would type it.
        after: names of the stages whose results it reads.
        steps: rows of `metrics.csv`, or restored images, that it makes; 0 where it has neither.
    """

    name: str
    title: str
    command: str
    after: tuple[str, ...] = ()
    steps: int = 0


class Job(NamedTuple):
    """A stage that runs, and its line on the terminal."""

    stage: Stage
    process: subprocess.Popen[bytes]
    task: TaskID


FULL, QUICK = Size(200, 250, 3), Size(20, 30, 1)
HELD_OUT = 8  # photographs


def main() -> None:
    """Run every stage, then write the report and say what was done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the training: it runs, but learns nothing")
    parser.add_argument("--out", type=Path, help="folder of everything: outputs/demo, or outputs/demo_quick")
    parser.add_argument("--realesrgan", action="store_true", help="beside the toy, the network of [realesrgan]")
    arguments = parser.parse_args()
    arguments.out = arguments.out or Path("outputs/demo_quick" if arguments.quick else "outputs/demo")
    console = Console(highlight=False)
    start = time.perf_counter()
    others = (*BASELINES, PEER) if arguments.realesrgan else BASELINES
    run_all(stages(arguments.out, QUICK if arguments.quick else FULL, others), arguments.out, console)
    report(arguments.out, others, console)
    minutes = (time.perf_counter() - start) / 60
    console.print(f"\nDone in {minutes:.1f} minutes. Look at [bold]{arguments.out}/report.html[/]")
    console.print(f"[dim]The commands and all that they said are in {arguments.out}/logs[/]\n")
    console.print(NEXT.format(out=arguments.out), soft_wrap=True)


def stages(out: Path, size: Size, others: Sequence[str]) -> list[Stage]:
    """Return the stages in order, `others` compared; training that was finished before is not done again."""
    crops = f"benchmark=folder benchmark.root={out}/photos/benchmark \"benchmark.group='(.*)_'\" paths.outputs={out}"
    judge = f"python evaluate.py {crops} metrics=[psnr_y,psnr_rgb,ssim_y] stages=[restore,score]"
    # What is learned is judged below; a validation would do that a second time.
    train = f"python train.py paths.outputs={out} paths.shards={out}/shards trainer.limit_val_batches=0"
    milestones = ",".join(str(round(size.dape_steps * share)) for share in (0.5, 0.7, 0.85, 0.95))
    dape = f"trainer.max_steps={size.dape_steps} module.milestones=[{milestones}]"
    compare = ",".join(f"{out}/{name}" for name in others)
    images = size.crops * HELD_OUT
    return [
        Stage(
            "photos",
            "photographs and degraded crops",
            f"seesr photos {out}/photos --crops {size.crops}",
        ),
        Stage(
            "dape",
            "DAPE learns to tag degraded images",
            f"{train} experiment=tiny_dape run_name=dape {dape}",
            steps=size.dape_steps,
        ),
        *(
            Stage(name, f"for comparison: {name}", f"{judge} method={name} run_name={name}", ("photos",), images)
            for name in others
        ),
        Stage(
            "export",
            "DAPE in the published format",
            f"seesr convert dape {out}/dape {out}/dape.safetensors",
            ("dape",),
        ),
        Stage(
            "seesr",
            "SeeSR learns to restore",
            f"{train} experiment=tiny_seesr run_name=seesr trainer.max_steps={size.seesr_steps} "
            f"module.representation=dape module.stack.dape={out}/dape.safetensors",
            ("export",),
            size.seesr_steps,
        ),
        Stage(
            "tags",
            "what RAM and DAPE see",
            f"python evaluate.py task=tags ckpt={out}/dape run_name=tags {crops}",
            ("photos", "dape"),
        ),
        Stage(
            "restored",
            "restore the held-out crops",
            f"{judge} ckpt={out}/seesr run_name=restored compare=[{compare}]",
            ("photos", "seesr", *others),
            images,
        ),
    ]


def run_all(stages: Sequence[Stage], out: Path, console: Console) -> None:
    """Run the stages, two at a time where one does not wait for the other; a failure ends the demo with its code."""
    (out / "logs").mkdir(parents=True, exist_ok=True)
    waiting, running, finished = list(stages), list[Job](), set[str]()
    columns = (TextColumn("{task.description}"), BarColumn(16), TextColumn("{task.fields[count]:>7}"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
        while waiting or running:
            ready = [stage for stage in waiting if finished.issuperset(stage.after)]
            for stage in ready[: LANES - len(running)]:
                waiting.remove(stage)
                task = progress.add_task(stage.title, total=stage.steps or None, count="")
                running.append(Job(stage, launch(stage, out), task))
            time.sleep(0.2)
            for job in list(running):
                code, (stage, _, task) = job.process.poll(), job
                done = stage.steps if code == 0 else done_steps(out / stage.name) if stage.steps else 0
                progress.update(task, completed=done, count=f"{done}/{stage.steps}" if stage.steps else "")
                if code:
                    progress.stop()
                    fail(job, running, out, console)
                if code == 0:
                    progress.update(task, total=1, completed=1)
                    finished.add(stage.name)
                    running.remove(job)


def launch(stage: Stage, out: Path) -> subprocess.Popen[bytes]:
    """Start the command of a stage with this Python; its output goes to <out>/logs/<stage>.log."""
    name, *arguments = shlex.split(stage.command)
    program = sys.executable if name == "python" else str(Path(sys.executable).with_name(name))
    with (out / "logs" / f"{stage.name}.log").open("wb") as log:
        log.write(f"$ {stage.command}\n".encode())
        log.flush()
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        command = [program, *arguments]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)


def done_steps(folder: Path) -> int:
    """Return how many steps a training has logged, or how many images an evaluation has restored."""
    if (folder / "restored").is_dir():
        return len(list((folder / "restored").glob("*.png")))
    if not (folder / "metrics.csv").is_file():
        return 0
    return len((folder / "metrics.csv").read_bytes().splitlines()) - 1


def fail(failed: Job, running: Sequence[Job], out: Path, console: Console) -> NoReturn:
    """Stop the other stages, show the end of what the failed one said, and exit with its code."""
    for job in running:
        job.process.terminate()
    log = out / "logs" / f"{failed.stage.name}.log"
    lines = log.read_text(errors="replace").splitlines()
    code = failed.process.returncode
    console.print(f"\nThe stage {failed.stage.name!r} ended with exit code {code}. The end of {log}:", markup=False)
    console.print("\n".join(f"  {line}" for line in (lines[0], "...", *lines[-20:])), markup=False)
    sys.exit(code)


if __name__ == "__main__":
    main()
