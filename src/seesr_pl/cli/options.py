"""Options that several commands share: the sampling settings, and the weights."""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer

from seesr_pl.checkpoints.published import missing
from seesr_pl.files import require
from seesr_pl.sampling.settings import Setting, with_settings

Trust: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME", help="a class of another package that the run's config.yaml may build: it can run any code"
    ),
]
"""Option of every command that builds what a recorded config names."""


On: TypeAlias = Annotated[
    str,
    typer.Option(help="where: local, slurm:partition=NAME:jobs=8 (submitit's parameters), or dask://HOST:PORT"),
]
"""Option of every command whose jobs other machines can do (docs/sweeps.md)."""
DType = Literal["auto", "float32", "bfloat16", "float16"]
DTYPE_HELP = "precision of the networks; auto: float16 on a GPU, as the official code; RAM stays in float32"


def sampling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command`, whose last parameter is **changes, an option for each field of `Sampling`."""
    return with_settings(command, _option)


def pipeline_builder(
    ckpt: Path | None,
    base: Path | None,
    seesr: Path | None,
    ram: Path | None,
    dape: Path | None,
    *,
    dtype: str,
    keep_base_unet: bool,
    stay: bool = False,
    trust: Sequence[str] = (),
) -> Callable[[str], Any]:
    """Return a picklable function that loads the pipeline for a device, and to it unless it is to `stay` on the CPU.

    Raises ValueError where the options do not name enough weights, FileNotFoundError where a file is missing.
    """
    if ckpt is not None:
        return functools.partial(_from_ckpt, ckpt, dtype, tuple(trust), stay)
    if base is None or seesr is None or ram is None:
        raise ValueError("which weights? give --ckpt, or --base, --seesr and --ram (and --dape)")
    require(missing(base=base, seesr=seesr, ram=ram, dape=dape))
    return functools.partial(_from_official, (base, seesr, ram, dape), dtype, keep_base_unet, stay)


def make_writable(out: Path) -> None:
    """Make the folder `out` of a command's results; raise ValueError where it cannot be made or written to."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out {out} cannot be a folder ({error.strerror}); give another one") from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise ValueError(f"--out {out} cannot be written to; give a folder of your own")


def _option(setting: Setting) -> Any:
    names = [f"--{setting.name.replace('_', '-')}", setting.short] if setting.short else []
    official = "" if setting.default in (None, "") else f" (official: {setting.default})"
    minimum, maximum = setting.limits[:2]
    # `Sampling` checks the limits, with the same message everywhere; click's would differ.
    range_ = "".join([f", from {minimum:g}" if minimum is not None else "", f" to {maximum:g}" if maximum else ""])
    help_text = f"{setting.help}{range_}{official}"
    return Annotated[setting.hint | None, typer.Option(*names, help=help_text, show_default=False)]


def _from_ckpt(ckpt: Path, dtype: str, trust: Sequence[str], stay: bool, device: str) -> Any:
    from seesr_pl.imaging.tensors import existing_dtype
    from seesr_pl.runs import load_pipeline

    _hide_loading_bars()
    place, precision = "cpu" if stay else device, existing_dtype(dtype, device)
    return load_pipeline(ckpt, device=place, dtype=precision, trust=trust)


def _from_official(
    paths: tuple[Path, Path, Path, Path | None], dtype: str, keep_base_unet: bool, stay: bool, device: str
) -> Any:
    import torch

    from seesr_pl.imaging.tensors import existing_dtype
    from seesr_pl.sampling.pipeline import SeeSRPipeline

    _hide_loading_bars()
    precision = getattr(torch, existing_dtype(dtype, device))
    pipeline = SeeSRPipeline.from_official(*paths, keep_base_unet=keep_base_unet, torch_dtype=precision)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline if stay else pipeline.to(device)


def _hide_loading_bars() -> None:
    import diffusers.utils.logging
    import transformers.utils.logging

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
