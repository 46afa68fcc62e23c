"""Restore a benchmark and score the result: `python evaluate.py ckpt=RUN benchmark=realsr benchmark.root=DIR`."""

import inspect
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig

from seesr_pl import config, launch, runs
from seesr_pl.evaluation.options import method_settings, option_problems
from seesr_pl.progress import track

CONFIG_DIR = Path(__file__).resolve().parent / "conf"
# Imports inside functions are those of torch and of what needs it: --help and a mistake are answered before.


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """Check the composed config, then run its task and show what came out."""
    with launch.user_errors():
        check(cfg)
        config.preflight(cfg)
        {"restoration": evaluate_restoration, "tags": evaluate_tags}[cfg.task](cfg)


def check(cfg: DictConfig) -> None:
    """Raise ConfigError for a value that does not fit, or a checkpoint that is needed and not there."""
    config.check(cfg)
    needs_ckpt = cfg.task == "tags" or needs_pipeline(cfg)
    problems = option_problems(config.plain(cfg), needs_ckpt=needs_ckpt, outputs=cfg.paths.outputs)
    if problems:
        raise config.ConfigError(problems)


def evaluate_restoration(cfg: DictConfig) -> None:
    """Restore, score, report; each stage picks up what an earlier run left and still holds."""
    from seesr_pl.evaluation import image_metrics, judge_method, show

    benchmark = instantiate(cfg.benchmark, _convert_="all")
    possible = {"has_reference": benchmark.has_reference, "niqe_parameters": cfg.niqe_parameters, "device": device(cfg)}
    shown = judge_method(
        benchmark,
        lambda: build_method(cfg),
        Path(cfg.paths.run),
        name=cfg.method.name,
        settings=settings(cfg),
        metrics=image_metrics(cfg.metrics, strict=cfg.strict, **possible),
        stages=cfg.stages,
        compare=cfg.compare,
        overwrite=cfg.overwrite,
        track=track,
        command=" ".join(sys.argv),
    )
    show(shown)


def evaluate_tags(cfg: DictConfig) -> None:
    """Compare what DAPE and plain RAM see on the LQ images with what RAM sees on the HQ ones."""
    from seesr_pl.evaluation import judge_tags, show

    ram, benchmark = runs.load_ram(cfg.ckpt).to(device(cfg)), instantiate(cfg.benchmark, _convert_="all")
    show(judge_tags(ram, benchmark, Path(cfg.paths.run), track=track))


def needs_pipeline(cfg: DictConfig) -> bool:
    """Tell whether the method restores with the pipeline of `ckpt`: its constructor takes one as `pipeline`."""
    return "pipeline" in inspect.signature(get_object(cfg.method._target_)).parameters


def build_method(cfg: DictConfig) -> Any:
    """Build the method, with the pipeline of `ckpt` where it needs one."""
    # By position: Hydra copies what it is given by name, which for a pipeline is gigabytes.
    given = [runs.load_pipeline(cfg.ckpt, device=device(cfg), dtype=cfg.dtype)] if needs_pipeline(cfg) else []
    return instantiate(cfg.method, *given, _convert_="all")


def settings(cfg: DictConfig) -> dict[str, Any]:
    """Return all that a restored image depends on besides its input."""
    method = method_settings(config.plain(cfg.method), get_object(cfg.method._target_))
    if not needs_pipeline(cfg):
        return {"method": method}
    ckpt, sampler = Path(runs.checkpoint_file(cfg.ckpt)), runs.recorded_sampler(cfg.ckpt)
    return {"method": method, "ckpt": ckpt, "sampler": sampler, "dtype": cfg.dtype}


def device(cfg: DictConfig) -> str:
    """Return the device that `device` stands for; `auto` is the first GPU, or the CPU."""
    from seesr_pl.jobs.pool import existing_device

    return existing_device(cfg.device)


if __name__ == "__main__":
    with launch.user_errors():
        sys.argv[1:] = launch.overrides(sys.argv[1:], CONFIG_DIR, "evaluate")
    main()
