"""`seesr convert`: convert weights between the published formats and safetensors."""

from pathlib import Path
from typing import Annotated

import typer

from seesr_pl.cli.options import Trust
from seesr_pl.text import say

app = typer.Typer(no_args_is_help=True, help="Convert weights between the published formats and safetensors.")

_TRUST = "load any pickle, which can run code: only for a file that you trust"


@app.command(epilog="Example: seesr convert ram ram_swin_large_14m.pth ram.safetensors")
def ram(
    source: Annotated[Path, typer.Argument(help="ram_swin_large_14m.pth, or a safetensors file made of it")],
    target: Annotated[Path, typer.Argument(help="TARGET.safetensors (0.85 GB), or TARGET.pth for the official code")],
    trust: Annotated[bool, typer.Option(help=_TRUST)] = False,
) -> None:
    """Keep the tensors of RAM that tagging uses. Leave out optimizer state and unused networks."""
    from seesr_pl.checkpoints.convert import convert_ram

    _report(len(convert_ram(source, target, trust=trust)), target)


@app.command(epilog="Example: seesr convert dape outputs/dape DAPE_mine.pth")
def dape(
    source: Annotated[Path, typer.Argument(help="DAPE.pth, safetensors, or a run of experiment=dape (folder, .ckpt)")],
    target: Annotated[Path, typer.Argument(help="TARGET.safetensors, or TARGET.pth for the official code")],
    trust: Annotated[bool, typer.Option(help=_TRUST)] = False,
) -> None:
    """Keep the LoRA tensors that have an effect (2.5 MB at full size)."""
    from seesr_pl.checkpoints.convert import convert_dape
    from seesr_pl.runs import RunFolder

    file = RunFolder(source).last_checkpoint if source.is_dir() else source
    _report(len(convert_dape(file, target, trust=trust)), target)


@app.command(epilog="Example: seesr convert seesr outputs/seesr weights/mine")
def seesr(
    source: Annotated[Path, typer.Argument(help="unet/ and controlnet/, the small form, or a run (folder, .ckpt)")],
    target: Annotated[Path, typer.Argument(help="the folder to write")],
    small: Annotated[
        bool, typer.Option(help="write RCA and ControlNet alone, without Stable Diffusion's UNet")
    ] = False,
    base: Annotated[Path | None, typer.Option(help="Stable Diffusion folder; needed if SOURCE is a small form")] = None,
    trust: Trust = None,
) -> None:
    """Write SeeSR's networks for the official code. Or, with --small, in the small form."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    from seesr_pl.checkpoints.seesr import Networks, export_official, export_small, load_seesr
    from seesr_pl.models.weights import from_folder
    from seesr_pl.runs import load_module
    from seesr_pl.training import SeeSRDiffusion

    if (source / "controlnet").is_dir():
        base_unet = from_folder(UNet2DConditionModel, base / "unet") if base else None
        networks = load_seesr(source, base_unet=base_unet)
    else:
        module = load_module(source, trust=trust or ())
        if not isinstance(module, SeeSRDiffusion):
            raise ValueError(f"{source} is a run of {type(module).__name__}; give one of experiment=seesr")
        module.merge_lora()
        networks = Networks(module.stack.unet, module.stack.controlnet)
    (export_small if small else export_official)(networks, target)
    _report_folder(target)


def _report_folder(folder: Path) -> None:
    for path in sorted(folder.rglob("*.safetensors")):
        say(f"{path}: {path.stat().st_size / 1e6:,.1f} MB")


def _report(num_tensors: int, target: Path) -> None:
    size = target.stat().st_size / 1e6
    say(f"{target}: {num_tensors} tensors, {size:,.1f} MB")
