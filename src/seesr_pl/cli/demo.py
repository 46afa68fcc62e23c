"""`seesr demo`: a web page to try the pipeline on a picture."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def demo(
    ckpt: Annotated[Path | None, typer.Option(help="a run, its .ckpt file, or a saved pipeline folder")] = None,
    base: Annotated[Path | None, typer.Option(help="Stable Diffusion 2 folder (official weights)")] = None,
    seesr: Annotated[Path | None, typer.Option(help="SeeSR folder with unet/ and controlnet/")] = None,
    ram: Annotated[Path | None, typer.Option(help="ram_swin_large_14m.pth, or a saved RAM folder")] = None,
    dape: Annotated[Path | None, typer.Option(help="DAPE.pth")] = None,
    turbo: Annotated[bool, typer.Option(help="--base is sd-turbo: the preset turbo becomes useful")] = False,
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], typer.Option(help="of the networks")] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")] = "auto",
    host: Annotated[str, typer.Option(help="address to listen on; 0.0.0.0 for all")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
) -> None:
    """Serve a page: upload, see and edit the tags, restore, compare before and after. Needs the extra \\[demo]."""
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise ImportError("the demo needs gradio: pip install 'seesr-pl[demo]'") from error
    from seesr_pl.cli.demo_page import page
    from seesr_pl.cli.weights import pipeline_builder
    from seesr_pl.runs import device as existing_device

    build = pipeline_builder(ckpt, base, seesr, ram, dape, dtype=dtype, keep_base_unet=turbo)
    page(build(existing_device(device))).queue().launch(server_name=host, server_port=port)
