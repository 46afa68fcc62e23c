"""Build, index, verify and view the shards that training reads."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from seesr_pl.cli.options import On, Trust
from seesr_pl.files import LeftOut
from seesr_pl.progress import bar
from seesr_pl.text import say

# The data package imports torch, which takes seconds: each command imports it itself, so that --help is fast.
app = typer.Typer(no_args_is_help=True, help=__doc__)

Encoding = Literal["jpg", "png", "webp"]
Crop = Literal["random", "resize"]
Urls = Annotated[list[str], typer.Argument(help="paths, or http(s)://, s3://, gs:// urls; {000..099} and * expand")]


@app.command(epilog="Example: seesr shards build photos/ shards/own")
def build(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE... OUT", help="folders, .tar/.tar.gz/.zip, images or patterns; last, the output folder"
        ),
    ],
    shard_size: Annotated[int, typer.Option(help="samples per shard")] = 1000,
    shard_megabytes: Annotated[int, typer.Option(help="finish a shard early at this size, in MiB")] = 1024,
    min_side: Annotated[int, typer.Option(help="leave out images whose shorter side has fewer pixels")] = 0,
    tile: Annotated[int, typer.Option(help="cut images into tiles of at least this side, in pixels; 0: whole")] = 0,
    max_side: Annotated[int, typer.Option(help="shrink images whose longer side has more pixels; 0: do not")] = 0,
    lq: Annotated[
        Path | None, typer.Option(help="folder of LQ images of the same names: store pairs, for pairs=stored")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="stop after this many images")] = None,
    encode: Annotated[
        Encoding | None, typer.Option(help="encode again as this; default: keep the files' bytes")
    ] = None,
    quality: Annotated[int, typer.Option(help="1 to 100, of jpg and webp; webp at 100 is lossless")] = 95,
    workers: Annotated[int, typer.Option(help="threads that decode and encode")] = 4,
    on: On = "local",
) -> None:
    """Build shards; a killed build continues by the same command. OUT/report.json lists the images left out."""
    from seesr_pl.data.build import BuildProgress, build_shards
    from seesr_pl.data.prepare import BuildOptions

    if len(paths) < 2:
        raise ValueError("give at least one SOURCE and, last, the folder OUT")
    pairs = None if lq is None else str(lq)
    options = BuildOptions(shard_size, shard_megabytes, min_side, tile, limit, encode, quality, max_side, pairs)
    with bar("building", None, unit="bytes") as shown, _crew(on, paths[-1]) as crew:

        def show(state: BuildProgress) -> None:
            shown.reach(state.bytes_passed, state.bytes_total)
            shown.note(f"{state.num_images} images, {state.num_skipped} left out")

        report = build_shards(paths[:-1], paths[-1], options=options, num_workers=workers, crew=crew, on_progress=show)
    counts = "{images} images in {samples} samples in {shards} shards, {skipped} left out".format(**report)
    say(f"{counts}; see {paths[-1] / 'report.json'}")
    if report["large"]:
        say(
            f"{report['large']} images have more than 4 megapixels and are decoded whole for each crop; they are stored"
            " as they are, so that any crop of them can come. --tile 1024 cuts them up, which reads faster"
        )


@app.command(epilog="Example: seesr shards index 'others/*.tar'")
def index(urls: Urls) -> None:
    """Index webdataset tars. Write URL.idx beside each, and list the images that belong to no sample."""
    from seesr_pl.data.catalog import ShardSource, index_shard

    source = ShardSource(urls)
    shards = source.shard_urls()
    num_samples = 0
    left_out: list[tuple[str, LeftOut]] = []
    with bar("indexing", len(shards), unit="shards") as shown:
        for url in shards:
            found: list[LeftOut] = []
            num_samples += len(index_shard(url, source, left_out=found))
            left_out += [(url, item) for item in found]
            shown.advance()
            shown.note(f"{num_samples} samples, {len(left_out)} members left out")
    for url, (path, reason) in left_out:
        say(f"{url}: {path} is left out: {reason}")
    say(f"{num_samples} samples in {len(shards)} shards")


@app.command(epilog="Example: seesr shards verify 'shards/own/*.tar'")
def verify(urls: Urls) -> None:
    """Check and decode every sample. List damaged ones. Exit code 1 if there are any."""
    from seesr_pl.data.catalog import Damage, ShardSource, read_index, verify_shard

    source = ShardSource(urls)
    shards = source.shard_urls()
    total = sum(len(read_index(url, source)) for url in shards)
    damaged: list[Damage] = []
    with bar("verifying", total, unit="samples") as shown:
        for damage in (damage for url in shards for damage in verify_shard(url, source)):
            damaged += [damage] if damage else []
            shown.advance()
            shown.note(f"{len(damaged)} damaged")
    for url, key, reason in damaged:
        say(f"{url}: {key}: {reason}")
    say(f"{total - len(damaged)} of {total} samples in {len(shards)} shards are sound")
    if damaged:
        raise typer.Exit(1)


@app.command(epilog="Example: seesr shards show 'shards/own/*.tar' --out pairs.png")
def show(
    urls: Urls,
    out: Annotated[Path, typer.Option(help="the contact sheet to write, .png")],
    num: Annotated[int, typer.Option(help="number of pairs on the sheet")] = 16,
    seed: Annotated[int, typer.Option(help="seed of the run")] = 0,
    epoch: Annotated[int, typer.Option(help="epoch, from 0")] = 0,
    first: Annotated[int, typer.Option(help="position of the first pair in the epoch, from 0")] = 0,
    crop: Annotated[Crop, typer.Option(help="random: as SeeSR trains; resize: as DAPE does")] = "random",
    crop_size: Annotated[int, typer.Option(help="side of hq in pixels")] = 512,
    degradation: Annotated[Path | None, typer.Option(help="e.g. conf/degradation/pasd.yaml; default: SeeSR's")] = None,
    trust: Trust = None,
) -> None:
    """Write a contact sheet of training pairs. They are those that training on these shards with this seed gets."""
    from seesr_pl.data import ShardDataset, ShardSource
    from seesr_pl.imaging.io import write_image
    from seesr_pl.imaging.sheet import CaptionedPair, contact_sheet

    least = {"--num": (num, 1), "--seed": (seed, 0), "--epoch": (epoch, 0), "--first": (first, 0)}
    for name, (value, minimum) in least.items():
        if value < minimum:
            raise ValueError(f"{name} {value} must be at least {minimum}")
    dataset = ShardDataset(
        [ShardSource(urls)],
        degradation=_degradation(degradation, trust or ()),
        seed=seed,
        crop=crop,
        crop_size=crop_size,
    )
    start = epoch * len(dataset) + first
    samples = [dataset[position] for position in range(start, start + num)]
    captions = [f"id {s.sample_id} epoch {s.epoch} severity {s.severity:.2f} {s.key}" for s in samples]
    write_image(
        out, contact_sheet([CaptionedPair(s.hq, s.lq, text) for s, text in zip(samples, captions, strict=True)])
    )


def _crew(on: str, out: Path) -> AbstractContextManager[Any]:
    if on == "local":
        return nullcontext()
    from seesr_pl.jobs import cluster, pool

    return cluster.crew(pool.place(on, "cpu", folder=out))


def _degradation(path: Path | None, trust: Sequence[str]) -> Any:
    from seesr_pl.degradation import RealESRGANDegradation

    if path is None:
        return RealESRGANDegradation()
    from seesr_pl.config import plain
    from seesr_pl.trust import build, read_config

    return build(plain(read_config(path)), key="", origin=path, trust=trust)
