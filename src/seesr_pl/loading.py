"""From the path that a user gives as `ckpt` to the networks that it holds."""

from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate

from seesr_pl import config


def is_pipeline(ckpt: str | Path) -> bool:
    """Whether `ckpt` is a folder that `SeeSRPipeline.save_pretrained` wrote, not one of a run."""
    return (Path(ckpt).expanduser() / "model_index.json").is_file()


def module_of(ckpt: str | Path) -> Any:
    """The LightningModule of a run as its checkpoint left it, in eval mode on the CPU.

    Raises FileNotFoundError with what is missing: the checkpoint, its config, or weights of the start.
    """
    run = config.load_run(Path(ckpt).expanduser())
    config.preflight(run.cfg)
    module = instantiate(run.cfg.module, _convert_="all")
    checkpoint = torch.load(run.checkpoint, map_location="cpu", weights_only=False, mmap=True)
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"])
    return module.eval()


def pipeline_of(ckpt: str | Path, *, device: str = "cpu", dtype: str = "float32") -> Any:
    """The `SeeSRPipeline` of a pipeline folder or of a run of `experiment=seesr`, which keeps to the run's ablation.

    RAM stays in float32.
    """
    from seesr_pl.sampling.pipeline import SeeSRPipeline

    precision: torch.dtype = getattr(torch, dtype)
    if is_pipeline(ckpt):
        pipeline = SeeSRPipeline.from_pretrained(Path(ckpt).expanduser(), torch_dtype=precision)
    else:
        pipeline = _run_pipeline(ckpt, precision)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def ram_of(ckpt: str | Path) -> Any:
    """The RAM, with DAPE's LoRA, of a run or of a pipeline folder."""
    from seesr_pl.models.ram import RAM

    if is_pipeline(ckpt):
        return RAM.from_pretrained(Path(ckpt).expanduser() / "ram")
    module = module_of(ckpt)
    return module.ram if hasattr(module, "ram") else module.stack.ram


def checkpoint_file(ckpt: str | Path) -> str:
    """What `ckpt` stands for on disk: the pipeline folder itself, or the checkpoint file of the run."""
    return str(Path(ckpt).expanduser() if is_pipeline(ckpt) else config.load_run(Path(ckpt).expanduser()).checkpoint)


def _run_pipeline(ckpt: str | Path, dtype: torch.dtype) -> Any:
    module = module_of(ckpt)
    if not hasattr(module, "pipeline"):
        raise ValueError(f"ckpt={ckpt} is a run of {type(module).__name__}; restoring needs one of experiment=seesr")
    if dtype != torch.float32:
        for part in (module.vae, module.text_encoder, module.unet, module.controlnet):
            part.to(dtype=dtype)
    return module.pipeline()
