"""`seesr photos`: freely licensed photographs as files, for a try-out without a data set."""

from pathlib import Path
from typing import Annotated

import typer

from seesr_pl.text import say


def photos(
    out: Annotated[Path, typer.Argument(help="folder to write train/, choice/, held-out/ and benchmark/ into")],
    debian_root: Annotated[
        Path | None,
        typer.Option(help="where the Debian packages of data/photographs.md are unpacked; without it, pip's alone"),
    ] = None,
    crop_size: Annotated[int, typer.Option(help="side of the benchmark's HQ crops, a multiple of 4")] = 256,
    crops: Annotated[int, typer.Option(help="crops of each held-out photograph")] = 4,
) -> None:
    """Write free photographs of installed packages. With a fixed split, and a benchmark of held-out crops."""

    from seesr_pl.evaluation.benchmark import write_pairs
    from seesr_pl.imaging.io import write_image
    from seesr_pl.tiny.pairs import photo_pairs
    from seesr_pl.tiny.photographs import Source, photographs

    if crop_size % 4 or crop_size < 64:
        raise ValueError(f"crop_size={crop_size} must be a multiple of 4, at least 64")
    source: Source = "pip" if debian_root is None else "all"
    for photo in photographs(("train", "choice", "held-out"), source=source):
        path = out / photo.split / f"{photo.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, photo.read(debian_root))
        say(f"{path}  {photo.author}, {photo.licence}, from {photo.package}")
    pairs = photo_pairs(
        photographs(("held-out",), source=source),
        crop_size=crop_size,
        crops_per_photo=crops,
        debian_root=debian_root,
    )
    count = write_pairs(out / "benchmark", pairs)
    say(f"{out / 'benchmark'}  {count} degraded held-out crops with their references")
