"""`seesr weights`: fetch the published files that a command needs and that are not there."""

import itertools
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seesr_pl.checkpoints.published import PUBLISHED, Published, parts_of

if TYPE_CHECKING:
    from seesr_pl.checkpoints.download import Wanted

_RESTORING = ("base", "seesr", "ram", "tag_list", "thresholds", "dape")


def weights(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[experiment=NAME | method=NAME | NAME]...",
            help=f"what they are for, or which: metrics (of the paper's table), clipiqa, {', '.join(PUBLISHED)}; "
            "default: what restoring needs",
            show_default=False,
        ),
    ] = None,
    folder: Annotated[Path, typer.Option("--weights", help="folder to put them into")] = Path("weights"),
    dry_run: Annotated[bool, typer.Option(help="list files, sizes, addresses and places, and fetch nothing")] = False,
    convert: Annotated[
        bool, typer.Option(help="also write RAM and DAPE as safetensors, without what is never used (0.85 GB of 5.6)")
    ] = False,
) -> None:
    """Fetch published weights that are missing. The same command again continues. Offline, list where they are."""
    from huggingface_hub import is_offline_mode

    from seesr_pl.checkpoints import download

    places = dict(_places(names or _RESTORING, folder))
    files = [file for published, place in places.items() for file in download.wanted(published, place)]
    offline = is_offline_mode()
    _show(files, offline=offline)
    if files and (dry_run or offline):
        raise typer.Exit(0 if dry_run else 1)
    failed = [str(error) for error in (_fetched(file) for file in files) if error]
    if failed:
        raise OSError("\n".join(failed))
    if convert:
        _convert(places)


def _places(names: Sequence[str], folder: Path) -> Iterator[tuple[Published, Path]]:
    """Yield what is named, and its place: in `folder`, or where the experiment's or the method's config has it."""
    for name in names:
        group, _, choice = name.partition("=")
        if choice and group in ("experiment", "method"):
            yield from _of_config(group, choice, folder)
        else:
            yield from ((PUBLISHED[key], folder / PUBLISHED[key].name) for key in parts_of(name))


def _of_config(group: str, choice: str, folder: Path) -> Iterator[tuple[Published, Path]]:
    from omegaconf import OmegaConf

    from seesr_pl.config import CONF, composed, leaves
    from seesr_pl.launch import overrides

    config_name = "train" if group == "experiment" else "evaluate"
    cfg = composed(config_name, overrides([f"{group}={choice}", f"paths.weights={folder}"], CONF, config_name))
    content = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)
    if group == "method" and choice == "seesr":
        yield from _places(_RESTORING, folder)
    for path in (Path(value) for _, value in leaves(content) if isinstance(value, str)):
        found = [published for published in PUBLISHED.values() if path.name == published.name]
        yield from ((published, path) for published in found)
        if PUBLISHED["ram"] in found:
            yield from ((PUBLISHED[name], path.parent / PUBLISHED[name].name) for name in ("tag_list", "thresholds"))


def _show(files: "Sequence[Wanted]", *, offline: bool) -> None:
    from rich.console import Console
    from rich.filesize import decimal

    from seesr_pl.checkpoints.download import page, size_of

    console = Console(soft_wrap=True, highlight=False)
    if not files:
        console.print("everything is there")
        return
    total = 0
    for published, group in itertools.groupby(files, key=lambda file: file.published):
        console.print(f"{published.name}, from", markup=False)
        for address in published.addresses:
            console.print(f"    {page(address)}", markup=False)
        for file in group:
            size = published.size if offline else size_of(file)
            total += size or 0
            console.print(f"  {file.path}  {decimal(size) if size else 'size not known'}", markup=False)
    folder = next(place for place in files[0].path.absolute().parents if place.exists())
    free = shutil.disk_usage(folder).free
    console.print(f"{len(files)} files, {decimal(total)} of known size; {decimal(free)} free")
    if offline:
        console.print("offline (HF_HUB_OFFLINE): fetch each from one of its addresses and put it into its place")
    elif total > free:
        raise ValueError(f"{decimal(total)} do not fit into {decimal(free)}; give --weights another folder")


def _fetched(file: "Wanted") -> str:
    """Fetch `file`; return what went wrong, "" if nothing did: the other files are still to be fetched."""
    from rich.console import Console

    from seesr_pl.checkpoints.download import fetch

    try:
        url = fetch(file)
    except OSError as error:
        return str(error)
    checked = "" if file.published.sha256 is None else ", SHA-256 as published"
    Console(soft_wrap=True, highlight=False).print(f"{file.path}: fetched from {url}{checked}", markup=False)
    return ""


def _convert(places: dict[Published, Path]) -> None:
    from rich.console import Console

    from seesr_pl.checkpoints.convert import convert_dape, convert_ram

    for name, write in (("ram", convert_ram), ("dape", convert_dape)):
        if (source := places.get(PUBLISHED[name])) is not None:
            target = source.with_suffix(".safetensors")
            write(source, target)
            message = f"{target}: point {name} to it; {source} is not needed any more"
            Console(soft_wrap=True, highlight=False).print(message, markup=False)
