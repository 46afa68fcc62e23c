"""`seesr shards`: make, index, check and look at the shards that training reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

app = typer.Typer(no_args_is_help=True, help=__doc__)


Encoding = Literal["jpg", "png", "webp"]
Crop = Literal["random", "resize"]
Urls = Annotated[list[str], typer.Argument(help="paths or http(s)://, s3://, gs:// urls; {000..099} and * expand")]


@app.command()
def build(
    paths: Annotated[list[Path], typer.Argument(metavar="SOURCE... OUT", help="folders, .tar/.tar.gz/.zip, images")],
    shard_size: Annotated[int, typer.Option(help="images per shard")] = 1000,
    shard_megabytes: Annotated[int, typer.Option(help="finish a shard early at this size")] = 1024,
    min_side: Annotated[int, typer.Option(help="leave out images with a shorter side below this")] = 0,
    tile: Annotated[int, typer.Option(help="cut images into tiles of at least this side; 0: do not")] = 0,
    limit: Annotated[int | None, typer.Option(help="stop after so many images")] = None,
    encode: Annotated[Encoding | None, typer.Option(help="encode anew; default: keep the files' bytes")] = None,
    quality: Annotated[int, typer.Option(help="of jpg and webp; webp at 100 is lossless")] = 95,
    workers: Annotated[int, typer.Option(help="threads that read and check")] = 4,
) -> None:
    """Build shards; the same command again goes on after a kill. What is left out is listed in OUT/report.json."""
    from rich.console import Console

    from seesr_pl.data.build import BuildProgress, build_shards
    from seesr_pl.data.prepare import BuildOptions

    if len(paths) < 2:
        raise ValueError("give at least one SOURCE and, last, the folder OUT")
    options = BuildOptions(shard_size, shard_megabytes, min_side, tile, limit, encode, quality)
    with _progress("bytes") as progress:
        task = progress.add_task("building", total=None, rate="")

        def show(state: BuildProgress) -> None:
            rate = f"{state.num_images} images, {state.num_skipped} left out"
            progress.update(task, completed=state.bytes_passed, total=state.bytes_total, rate=rate)

        report = build_shards(paths[:-1], paths[-1], options=options, num_workers=workers, on_progress=show)
    counts = "{images} images in {samples} samples in {shards} shards, {skipped} left out".format(**report)
    Console().print(f"{counts}; see {paths[-1] / 'report.json'}", soft_wrap=True)


@app.command()
def index(urls: Urls) -> None:
    """Index webdataset tars in place: writes URL.idx beside each."""
    from rich.console import Console

    from seesr_pl.data.scan import index_shard
    from seesr_pl.data.sources import ShardSource

    source = ShardSource(urls)
    shards = source.shard_urls()
    with _progress("shards") as progress:
        task = progress.add_task("indexing", total=len(shards), rate="")
        num_samples = 0
        for url in shards:
            num_samples += len(index_shard(url, source))
            progress.update(task, advance=1, rate=f"{num_samples} samples")
    Console().print(f"{num_samples} samples in {len(shards)} shards")


@app.command()
def verify(urls: Urls) -> None:
    """Check every sample's checksum and decode it; lists the damaged ones and ends with 1 if there are any."""
    from rich.console import Console

    from seesr_pl.data.catalog import read_index
    from seesr_pl.data.scan import Damage, verify_shard
    from seesr_pl.data.sources import ShardSource

    source = ShardSource(urls)
    shards = source.shard_urls()
    total = sum(len(read_index(url, source)) for url in shards)
    damaged: list[Damage] = []
    with _progress("samples") as progress:
        task = progress.add_task("verifying", total=total, rate="")
        for damage in (damage for url in shards for damage in verify_shard(url, source)):
            damaged += [damage] if damage else []
            progress.update(task, advance=1, rate=f"{len(damaged)} damaged")
    for url, key, reason in damaged:
        Console().print(f"{url}: {key}: {reason}", markup=False, soft_wrap=True)
    Console().print(f"{total - len(damaged)} of {total} samples in {len(shards)} shards are sound")
    if damaged:
        raise typer.Exit(1)


@app.command()
def show(
    urls: Urls,
    out: Annotated[Path, typer.Option(help="the contact sheet to write, .png")],
    num: Annotated[int, typer.Option(help="pairs on the sheet")] = 16,
    seed: Annotated[int, typer.Option(help="the run's seed")] = 0,
    epoch: Annotated[int, typer.Option(help="pass over the data")] = 0,
    first: Annotated[int, typer.Option(help="position in the epoch to begin at")] = 0,
    crop: Annotated[Crop, typer.Option(help="random: SeeSR; resize: DAPE")] = "random",
    crop_size: Annotated[int, typer.Option(help="side of hq")] = 512,
    degradation: Annotated[Path | None, typer.Option(help="e.g. conf/degradation/pasd.yaml; default: SeeSR's")] = None,
) -> None:
    """Write a contact sheet of hq/lq pairs as training with this seed and these shards alone meets them."""
    from seesr_pl.data import ShardDataset, ShardSource
    from seesr_pl.imaging.io import write_image
    from seesr_pl.imaging.sheet import CaptionedPair, contact_sheet

    dataset = ShardDataset(
        [ShardSource(urls)], degradation=_degradation(degradation), seed=seed, crop=crop, crop_size=crop_size
    )
    start = epoch * len(dataset) + first
    samples = [dataset[position] for position in range(start, start + num)]
    captions = [f"id {s.sample_id} epoch {s.epoch} severity {s.severity:.2f} {s.key}" for s in samples]
    write_image(
        out, contact_sheet([CaptionedPair(s.hq, s.lq, text) for s, text in zip(samples, captions, strict=True)])
    )


def _degradation(path: Path | None) -> Any:
    from seesr_pl.degradation import RealESRGANDegradation

    if path is None:
        return RealESRGANDegradation()
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    return instantiate(OmegaConf.load(path), _convert_="all")


def _progress(unit: str) -> Any:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    counts: Sequence[Any] = (
        (DownloadColumn(), TransferSpeedColumn()) if unit == "bytes" else (MofNCompleteColumn(), TextColumn(unit))
    )
    columns = (TextColumn("{task.description}"), BarColumn(), *counts, TextColumn("{task.fields[rate]}"))
    return Progress(*columns, TextColumn("ETA"), TimeRemainingColumn())
