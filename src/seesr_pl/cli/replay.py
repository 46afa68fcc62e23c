"""`seesr replay`: look at the batch of one training step, and at the loss of each of its samples."""

from pathlib import Path
from typing import Annotated

import typer

from seesr_pl.cli.options import Trust
from seesr_pl.text import say


def replay(
    run: Annotated[Path, typer.Argument(help="folder of a run of dape or seesr, or one of its .ckpt files")],
    step: Annotated[int, typer.Option(min=0, help="the step, as in metrics.csv")],
    out: Annotated[Path | None, typer.Option(help="the sheet of images; default: RUN/replay/step_N.png")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    trust: Trust = None,
) -> None:
    """Rebuild the batch of a step with its noise. Print the loss of each sample, save the images as a sheet."""
    from seesr_pl.config import plain
    from seesr_pl.runs import RunFolder, build_module
    from seesr_pl.trust import build

    folder = RunFolder.of(run) if run.is_file() else RunFolder(run)
    if not folder.config.is_file():
        raise FileNotFoundError(f"{run} is no run: it has no config.yaml")
    config = folder.recorded()
    from seesr_pl.checkpoints.saved import load, newest_sound
    from seesr_pl.imaging.io import write_image
    from seesr_pl.jobs.pool import existing_device
    from seesr_pl.training import replay as steps
    from seesr_pl.training.dape import DAPEDistillation
    from seesr_pl.training.seesr import SeeSRDiffusion

    saved, damaged = newest_sound(folder.checkpoints, up_to=step)
    if folder.chosen or saved is None:
        saved, damaged = newest_sound([folder.chosen] if folder.chosen else folder.checkpoints)
    if saved is None and damaged:
        raise ValueError("; ".join(damaged))
    module = build_module(folder, trust=trust or ())
    data = build(plain(config)["data"], key="data", origin=folder.config, trust=trust or ())
    if not isinstance(module, SeeSRDiffusion | DAPEDistillation):
        raise ValueError(f"{run} is a run of {type(module).__name__}; dape and seesr can be replayed")
    samples = []
    print(
        f"step {step} of {folder.path}, weights after step {saved.step} ({saved.path})"
        if saved
        else f"step {step} of {folder.path}, weights that the run started from"
    )
    for sample in steps.replay(
        module,
        data,
        load(saved.path) if saved else {},
        step=step,
        device=existing_device(device),
        precision=str(plain(config.trainer).get("precision")),
    ):
        say(steps.describe(sample))
        samples.append(sample)
    target = out or folder.path / "replay" / f"step_{step}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_image(target, steps.sheet(samples))
    print(f"mean loss {sum(each.loss for each in samples) / len(samples):.6g}; images in {target}")
