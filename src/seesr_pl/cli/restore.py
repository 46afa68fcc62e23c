"""`seesr restore`: restore image files."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from seesr_pl.cli.options import (
    DTYPE_HELP,
    DType,
    On,
    Trust,
    make_writable,
    pipeline_builder,
    sampling_options,
)
from seesr_pl.sampling import settings as sampling
from seesr_pl.text import say, say_left_out

Ending = Literal["png", "jpg", "webp"]
SamplerName = Literal["official", "unipc20", "dpmpp20", "turbo"]
OffloadName = Annotated[
    Literal["none", "model"], typer.Option(help="model: for a GPU below 12 GB, move the networks there in turn")
]
Fidelity = Annotated[
    float | None,
    typer.Option(help="0 generative to 1 faithful: moves guidance, ControlNet weight, start and color fix; 0.5: none"),
]
Tags = Annotated[
    Path | None, typer.Option(help="tags to use: a text file, or a folder of NAME.txt as `seesr tag` writes it")
]
Prompter = Literal["own", "none", "classification", "caption", "ram", "dape"]


@sampling_options
def restore(
    inputs: Annotated[list[str], typer.Argument(help="image files, folders, or patterns like 'in/*.png'")],
    out: Annotated[Path, typer.Option(help="folder for the results")],
    ckpt: Annotated[Path | None, typer.Option(help="a run, its .ckpt file, or a saved pipeline folder")] = None,
    base: Annotated[Path | None, typer.Option(help="Stable Diffusion 2 folder (official weights)")] = None,
    seesr: Annotated[Path | None, typer.Option(help="SeeSR folder with unet/ and controlnet/")] = None,
    ram: Annotated[Path | None, typer.Option(help="ram_swin_large_14m.pth, or a saved RAM folder")] = None,
    dape: Annotated[Path | None, typer.Option(help="DAPE.pth")] = None,
    sampler: Annotated[
        SamplerName | None, typer.Option(help="sampling settings by name; default: those of --ckpt, or official")
    ] = None,
    prompter: Annotated[
        Prompter, typer.Option(help="source of the prompt; own: that of --ckpt, or the tags of DAPE or RAM")
    ] = "own",
    prompter_model: Annotated[
        str | None, typer.Option(help="model of classification or caption: a folder, or a name on Hugging Face")
    ] = None,
    seed: Annotated[int, typer.Option(help="seed of the noise, which depends on it and the sample alone")] = 0,
    samples: Annotated[int, typer.Option(min=1, help="results per image")] = 1,
    ending: Annotated[Ending, typer.Option("--format", help="file format of the results")] = "png",
    dtype: Annotated[DType, typer.Option(help=DTYPE_HELP)] = "auto",
    devices: Annotated[str, typer.Option(help="auto, cpu, cuda, or several: cuda:0,cuda:1")] = "auto",
    on: On = "local",
    offload: OffloadName = "none",
    compile: Annotated[bool, typer.Option(help="compile the networks: pays off for many images")] = False,
    overwrite: Annotated[bool, typer.Option(help="restore again where a result exists")] = False,
    fidelity: Fidelity = None,
    tags: Tags = None,
    metadata: Annotated[bool, typer.Option(help="write into each result how it was made")] = True,
    trust: Trust = None,
    **changes: Any,
) -> None:
    """Restore images. Run the same command again to continue. Exit code 1 if an image failed."""
    build = pipeline_builder(
        ckpt,
        base,
        seesr,
        ram,
        dape,
        dtype=dtype,
        keep_base_unet=sampler == "turbo",
        stay=offload != "none",
        trust=trust or (),
    )
    from seesr_pl.jobs import pool
    from seesr_pl.jobs.restore import RestorerSettings, batches, plan
    from seesr_pl.sampling.offload import require_gpu

    chosen = sampling.sampler(**changes)  # raises where a value is out of its limits, before anything is loaded
    place = pool.place(on, devices, folder=out)
    for name in place.devices if on == "local" else ():
        require_gpu(offload, name)
    make_writable(out)
    if tags is not None and not tags.exists():
        raise FileNotFoundError(f"--tags {tags} does not exist; give a text file, or a folder that `seesr tag` wrote")
    planned = plan(inputs, out, ending=f".{ending}", samples=samples, tags=tags)
    settings = RestorerSettings(build, sampler, chosen, seed, prompter, prompter_model, overwrite, compile)
    settings = settings._replace(fidelity=_checked(fidelity), metadata=metadata, alone=place.alone, offload=offload)
    _run(batches(planned.jobs, chosen.get("batch_size", 1)), planned.left_out, settings, place)


def _run(batches: Sequence[Any], left_out: Sequence[Any], settings: Any, place: Any) -> None:
    from seesr_pl.jobs import pool
    from seesr_pl.progress import bar

    say_left_out(left_out, error=True)
    counts = {"restored": 0, "kept": 0, "failed": 0}
    try:
        with bar("restoring", sum(map(len, batches)), unit="images") as progress:
            done = pool.run(batches, settings.restorer, place=place, advance=progress.advance)
            for outcome in itertools.chain.from_iterable(done):
                counts[outcome.state] += 1
                if outcome.state == "failed":
                    say(f"{outcome.job.source}: {outcome.message}", label="skipped", style="red", error=True)
    except KeyboardInterrupt:
        say(f"stopped: {_summary(counts)}; run the same command again to continue", error=True)
        raise typer.Exit(130) from None
    except OSError as error:
        if not any(counts.values()):
            raise
        raise OSError(f"{error}; {_summary(counts)}, all of them complete") from error
    say(f"{_summary(counts)}, {len(left_out)} left out", error=True)
    if counts["failed"]:
        raise typer.Exit(1)


def _checked(fidelity: float | None) -> float | None:
    if fidelity is not None:
        sampling.at_fidelity(sampling.OFFICIAL, fidelity)  # raises where it is out of its limits
    return fidelity


def _summary(counts: dict[str, int]) -> str:
    return f"{counts['restored']} restored, {counts['kept']} kept, {counts['failed']} failed"
