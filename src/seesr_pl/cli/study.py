"""`seesr study`: make the page of a blind user study, and count its votes."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Make the page of a blind user study, and count its votes.")


@app.command(epilog="Example: seesr study make study --method a=A --method b=B --real LQ")
def make(
    out: Annotated[Path, typer.Argument(help="folder for study.html, which goes to raters, and key.json")],
    method: Annotated[list[str], typer.Option(help="NAME=FOLDER of results; at least two")],
    synthetic: Annotated[Path | None, typer.Option(help="folder of LQ images that were degraded on purpose")] = None,
    real: Annotated[Path | None, typer.Option(help="folder of real LQ images")] = None,
    count: Annotated[int, typer.Option(min=1, help="images of each kind")] = 16,
    seed: Annotated[int, typer.Option(help="of images, order and sides")] = 0,
) -> None:
    """Write the page of a blind study. It shows each LQ image with unnamed results and asks for the best."""
    from seesr_pl.evaluation import make_study

    inputs = {kind: path for kind, path in (("synthetic", synthetic), ("real", real)) if path is not None}
    if not inputs:
        raise ValueError("give --synthetic FOLDER, --real FOLDER or both")
    wrong = [word for word in method if "=" not in word]
    if wrong:
        raise ValueError(f"--method {wrong[0]}: expected NAME=FOLDER")
    trials = make_study(out, inputs, dict(word.split("=", 1) for word in method), count=count, seed=seed)
    print(f"{out}/study.html: {len(trials)} questions, attention checks among them; keep {out}/key.json to yourself")


@app.command(epilog="Example: seesr study tally study/key.json votes_ann.json votes_ben.json")
def tally(
    key: Annotated[Path, typer.Argument(help="key.json of the study.")],
    votes: Annotated[list[Path], typer.Argument(help="the raters' files")],
) -> None:
    """Print each method's share of the votes. With its 95 % interval, and how far raters agree."""
    import rich
    from rich.table import Table

    from seesr_pl.evaluation import tally as count

    found = count(key, votes)
    table = Table("method", *(f"{kind}, share (95 %)" for kind in found.shares))
    for name in next(iter(found.shares.values())):
        cells = [shares[name] for shares in found.shares.values() if shares]
        table.add_row(name, *(f"{100 * c.mean:.1f} % ({100 * c.low:.1f} to {100 * c.high:.1f})" for c in cells))
    rich.print(table)
    print(f"{len(found.raters)} raters; agreement, Fleiss' kappa: {found.kappa:.2f}")
    if found.failed:
        print(f"left out, as they failed an attention check: {', '.join(found.failed)}")
