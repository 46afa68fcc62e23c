"""`seesr tag`: write the tags that RAM or DAPE finds in images and shards."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from seesr_pl.cli.options import On, Trust, make_writable
from seesr_pl.text import say, say_left_out


def tag(
    sources: Annotated[list[Path], typer.Argument(help="image files, shards (.tar), or folders of either")],
    out: Annotated[Path, typer.Option(help="folder for NAME.txt of each image, or the tagged copies of shards")],
    ckpt: Annotated[
        Path | None, typer.Option(help="a run, its .ckpt file, or a pipeline folder: tag with its RAM and DAPE")
    ] = None,
    ram: Annotated[
        Path | None, typer.Option(help="ram_swin_large_14m.pth, its safetensors, or a saved RAM folder")
    ] = None,
    dape: Annotated[Path | None, typer.Option(help="DAPE.pth: tag with DAPE; default: plain RAM")] = None,
    tag_list: Annotated[Path | None, typer.Option(help="default: ram_tag_list.txt beside --ram")] = None,
    thresholds: Annotated[Path | None, typer.Option(help="default: ram_tag_list_threshold.txt beside --ram")] = None,
    representation: Annotated[bool, typer.Option(help="also write the representation, NAME.rep.npy")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="images per forward pass")] = 8,
    processes: Annotated[int, typer.Option(min=1, help="processes, each with its own network")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda; several processes share the GPUs")] = "auto",
    on: On = "local",
    trust: Trust = None,
) -> None:
    """Write the tags of images, "a, b,", as training uses them. Run the same command again to continue.

    Exit code 1 if an image could not be tagged.
    """

    from seesr_pl.files import LeftOut

    build = _ram_builder(ckpt, ram, dape, tag_list, thresholds, trust or ())
    from seesr_pl.jobs import pool
    from seesr_pl.jobs.tag import TaggerSettings, plan
    from seesr_pl.progress import bar

    settings = TaggerSettings(build, representation, batch_size)
    place = pool.place(on, device, folder=out, num_processes=processes)
    make_writable(out)
    planned = plan(sources, out)
    say_left_out(planned.left_out)
    total = sum(job.num_images for job in planned.jobs)
    failed: list[LeftOut] = []
    with bar("tagging", total, unit="images") as progress:
        for failures in pool.run(planned.jobs, settings.worker, place=place, advance=progress.advance):
            failed += failures
    for path, reason in dict.fromkeys(failed):
        say(f"{path}: {reason}", label="not tagged", style="red")
    counts = f"{total - len(failed)} images tagged into {out}, {len(failed)} failed"
    say(f"{counts}, {len(planned.left_out)} left out")
    if failed:
        raise typer.Exit(1)


def _ram_builder(
    ckpt: Path | None,
    ram: Path | None,
    dape: Path | None,
    tag_list: Path | None,
    thresholds: Path | None,
    trust: Sequence[str],
) -> Callable[[], Any]:
    """Return a picklable function that loads RAM; ValueError unless the options name one, and only one."""
    if (ckpt is None) == (ram is None) or (ckpt is not None and any((dape, tag_list, thresholds))):
        raise ValueError("which RAM? give --ckpt alone, or --ram (and --dape, --tag-list, --thresholds)")
    if ckpt is not None:
        return functools.partial(_from_ckpt, ckpt, tuple(trust))
    from seesr_pl.checkpoints.published import missing
    from seesr_pl.files import require

    require(missing(ram=ram, dape=dape, tag_list=tag_list, thresholds=thresholds))
    assert ram is not None
    return functools.partial(_from_files, ram, dape, tag_list, thresholds)


def _from_ckpt(ckpt: Path, trust: Sequence[str]) -> Any:
    from seesr_pl.runs import load_ram

    return load_ram(ckpt, trust=trust)


def _from_files(ram: Path, dape: Path | None, tag_list: Path | None, thresholds: Path | None) -> Any:
    from seesr_pl.checkpoints import official_ram

    return official_ram(ram, dape, tag_list=tag_list, thresholds=thresholds)
