"""`seesr restore`: pictures in, restored pictures out."""

import functools
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

Ending = Literal["png", "jpg", "webp"]


def restore(
    inputs: Annotated[list[str], typer.Argument(help="image files, folders, or patterns like 'in/*.png'")],
    out: Annotated[Path, typer.Option(help="folder for the results")],
    ckpt: Annotated[Path | None, typer.Option(help="a run, its .ckpt file, or a saved pipeline folder")] = None,
    base: Annotated[Path | None, typer.Option(help="Stable Diffusion 2 folder (official weights)")] = None,
    seesr: Annotated[Path | None, typer.Option(help="SeeSR folder with unet/ and controlnet/")] = None,
    ram: Annotated[Path | None, typer.Option(help="ram_swin_large_14m.pth, or a saved RAM folder")] = None,
    dape: Annotated[Path | None, typer.Option(help="DAPE.pth")] = None,
    preset: Annotated[Literal["quality", "fast", "turbo"], typer.Option(help="50, 20 or 2 steps")] = "quality",
    upscale: Annotated[float, typer.Option(min=0.1, help="size of the result over that of the input")] = 4,
    prompt: Annotated[str, typer.Option(help="words put between the tags and the added prompt")] = "",
    added_prompt: Annotated[str | None, typer.Option(help="replaces 'clean, high-resolution, 8k'")] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="replaces the official one")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="number of steps")] = None,
    guidance: Annotated[float | None, typer.Option(min=1, help="guidance scale; 1 is none")] = None,
    solver: Annotated[Literal["own", "ddpm", "ddim", "unipc", "dpmpp"] | None, typer.Option()] = None,
    start_from: Annotated[Literal["lq", "noise"], typer.Option(help="start latent")] = "lq",
    color_fix: Annotated[Literal["adain", "wavelet", "none"], typer.Option()] = "adain",
    prompter: Annotated[
        Literal["own", "none", "classification", "caption", "ram", "dape"],
        typer.Option(help="what describes the picture; own: what the run trained for, else RAM's or DAPE's tags"),
    ] = "own",
    prompter_model: Annotated[
        str | None, typer.Option(help="of classification and caption: a folder, or a name on the Hugging Face hub")
    ] = None,
    seed: Annotated[int, typer.Option(help="noise depends on the seed, the sample and nothing else")] = 0,
    samples: Annotated[int, typer.Option(min=1, help="results a picture")] = 1,
    recipe: Annotated[Literal["default", "official"], typer.Option(help="official: its accidents too")] = "default",
    process_size: Annotated[
        int | None, typer.Option(min=8, help="shortest side at work in pixels, 512; less is faster on small results")
    ] = None,
    tile: Annotated[int | None, typer.Option(min=1, help="latent tile")] = None,
    overlap: Annotated[int | None, typer.Option(min=0, help="overlap of latent tiles")] = None,
    vae_tile: Annotated[
        int | None, typer.Option(min=64, help="VAE tile in pixels; default: above official limits")
    ] = None,
    ending: Annotated[Ending, typer.Option("--format", help="file format of the results")] = "png",
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], typer.Option(help="of the networks")] = "float32",
    devices: Annotated[str, typer.Option(help="auto, cpu, cuda, or several: cuda:0,cuda:1")] = "auto",
    compile: Annotated[bool, typer.Option(help="compile the networks: worth it for many pictures")] = False,
    overwrite: Annotated[bool, typer.Option(help="restore again what is there already")] = False,
) -> None:
    """Restore pictures; the same command again does what is left. Exit code 1 if a picture failed."""
    from seesr_pl.cli.weights import pipeline_builder
    from seesr_pl.runs import device

    build = pipeline_builder(ckpt, base, seesr, ram, dape, dtype=dtype, keep_base_unet=preset == "turbo")
    places = [device(name) for name in devices.split(",")]
    _check_writable(out)
    from seesr_pl.sampling import files, files_pool
    from seesr_pl.sampling.presets import ADDED_PROMPT, NEGATIVE_PROMPT, PRESETS

    chosen: dict[str, Any] = {
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "solver": solver,
        "process_size": process_size,
        "tile": tile,
        "overlap": overlap,
        "vae_tile": vae_tile,
    }
    call = PRESETS[preset] | {name: value for name, value in chosen.items() if value is not None}
    call |= {"upscale": upscale, "start_from": start_from, "color_fix": color_fix, "recipe": recipe, "prompt": prompt}
    call["added_prompt"] = ADDED_PROMPT if added_prompt is None else added_prompt
    call["negative_prompt"] = NEGATIVE_PROMPT if negative_prompt is None else negative_prompt
    settings = files_pool.RestorerSettings(build, call, seed, prompter, overwrite, compile, prompter_model)
    _run(files.plan(inputs, out, ending=f".{ending}", samples=samples), settings, places)


def _run(jobs: list[Any], settings: Any, devices: list[str]) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from seesr_pl.sampling import files_pool

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("ETA"))
    counts = {"restored": 0, "kept": 0, "failed": 0}
    try:
        with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
            steps = progress.add_task("steps", total=len(jobs) * settings.call["num_inference_steps"])
            advance = functools.partial(progress.advance, steps)
            for outcome in files_pool.restore(jobs, settings, devices=devices, advance=advance):
                counts[outcome.state] += 1
                if outcome.state == "failed":
                    console.print(f"[red]skipped[/] {outcome.job.source}: {outcome.message}", highlight=False)
    except KeyboardInterrupt:
        console.print(f"stopped: {_summary(counts)}; the same command goes on where it stopped", highlight=False)
        raise typer.Exit(130) from None
    except OSError as error:
        raise OSError(f"{error}; {_summary(counts)}, all of them complete") from error
    console.print(_summary(counts), highlight=False)
    if counts["failed"]:
        raise typer.Exit(1)


def _summary(counts: dict[str, int]) -> str:
    return f"{counts['restored']} restored, {counts['kept']} kept, {counts['failed']} failed"


def _check_writable(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"--out {folder} cannot be written to")
