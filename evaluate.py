"""Judge a run on its validation samples, or any method on a benchmark: `python evaluate.py ckpt=RUN`."""

import copy
import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from seesr_pl import config, job_names, launch, process, runs, sweeps, typed
from seesr_pl.evaluation.options import (
    checkpoints,
    evaluation_name,
    logger_problems,
    method_settings,
    not_varied,
    option_problems,
    stages_of,
)
from seesr_pl.files import Record
from seesr_pl.limits import read_json
from seesr_pl.progress import track

VALIDATION = "validation"
bicubic = functools.partial(runs.build_method, {"_target_": "seesr_pl.evaluation.Bicubic"})
PUBLISHED = "For the published tables: benchmark=realsr (drealsr, div2k_val, reallr200) benchmark.root=DIR"
CONFIG_DIR = Path(__file__).resolve().parent / "conf"
finished: list[tuple[DictConfig, str]] = []
"""The jobs of a sweep that this process has done, with their rows' names."""
# Imports inside functions are those of torch and of what needs it: --help and a mistake are answered before.


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(cfg: DictConfig) -> float | None:
    """Check the composed config, run its task, show what came out, return the metric that `optimized_metric` names."""
    with process.one_job(), launch.user_errors():
        row = " ".join([cfg.method.name, *job_names.varied_words(HydraConfig.get().overrides.task)])
        launch.enter_run(cfg)
        check(cfg)
        ckpts = checkpoints(cfg.ckpt)
        if cfg.benchmark.name == VALIDATION:
            count = runs.write_validation(ckpts[0], Path(cfg.benchmark.root), trust=cfg.trust)
            print(f"The {count} validation samples of {ckpts[0]}. {PUBLISHED}")
        config.preflight(cfg)
        task = task_of(cfg)
        if "degradation" in cfg.benchmark:
            instantiate(cfg.benchmark, _convert_="all").make(track=track)
        failed = TASKS[task](cfg)
        if cfg.get("logger") and task != "make_benchmark":
            log(cfg)
        if HydraConfig.get().mode == RunMode.MULTIRUN and task == "restoration" and "score" in stages_of(cfg.stages):
            finished.append((cfg, row))
        if failed:
            raise SystemExit(1) from ValueError(f"{failed} images could not be restored, and count in no mean")
        summary = Record(Path(cfg.paths.run) / "summary.json").read()
        return sweeps.optimized(cfg, {name: each["mean"] for name, each in summary.get("metrics", {}).items()})


def show_all() -> None:
    """Show what the jobs of a sweep found, in one table, whose files lie in outputs/tables."""
    from seesr_pl.evaluation import Judged, combine, image_metrics, show
    from seesr_pl.evaluation.variants import SEED_SPREAD, TAG_EFFECT

    judged = []
    full = [label for _, label in finished]
    for (cfg, _), label in zip(finished, job_names.distinct(full), strict=True):
        benchmark = instantiate(cfg.benchmark, _convert_="all")
        metrics = image_metrics(cfg.metrics, device=device(cfg), **possible(cfg, benchmark)).columns
        metrics += [SEED_SPREAD] * (cfg.seeds != 1) + [TAG_EFFECT] * (cfg.counterfactual is not None)
        judged.append(Judged(benchmark, Path(cfg.paths.run), metrics, label))
    name = "+".join(dict.fromkeys([*full, *(item.benchmark.name for item in judged)]))
    show(combine(judged, Path(finished[0][0].paths.outputs) / "tables" / name.replace("/", "_")[:120]))


def check(cfg: DictConfig) -> None:
    """Raise ConfigError for a value that does not fit, or a checkpoint that is needed and not there."""
    config.check(cfg)
    pipeline = needs_pipeline(cfg) and cfg.task != "make_benchmark"
    needs_ckpt = cfg.task == "tags" or pipeline or cfg.benchmark.name == VALIDATION
    problems = option_problems(config.plain(cfg), needs_ckpt=needs_ckpt, outputs=cfg.paths.outputs)
    if cfg.get("logger") and not problems:
        problems = logger_problems(config.plain(cfg), task=task_of(cfg))
    if problems:
        raise config.ConfigError(problems)


def task_of(cfg: DictConfig) -> str:
    """Return the task, which `auto` leaves to what the first checkpoint learned."""
    ckpts = checkpoints(cfg.ckpt)
    return str(cfg.task) if cfg.task != "auto" else "tags" if ckpts and runs.learned_tags(ckpts[0]) else "restoration"


def evaluate_restoration(cfg: DictConfig) -> int:
    """Restore, score, report, and return how many images of how many methods could not be restored.

    Each stage picks up what an earlier run left and still holds.

    Of several checkpoints the first is compared with the others; on a run's validation samples with bicubic too.
    """
    from seesr_pl.evaluation import image_metrics, judge_method, show

    benchmark, ckpts = instantiate(cfg.benchmark, _convert_="all"), checkpoints(cfg.ckpt)
    folder = Path(cfg.paths.run)
    make_metrics = functools.partial(image_metrics, config.plain(cfg)["metrics"], **possible(cfg, benchmark))
    together = (config.plain(cfg.method).get("sampler") or {}).get("batch_size") or 1
    common: dict[str, Any] = {"together": together, "overwrite": cfg.overwrite, "track": track, "place": place(cfg)}
    common |= {"metrics": make_metrics(strict=cfg.strict, device=device(cfg)), "build_metrics": make_metrics}
    stages = stages_of(cfg.stages)
    numbers = [stage for stage in stages if stage != "report"]
    compare = list(cfg.compare)
    failed: dict[str, str] = {}
    common["metrics"].skipped.update(not_varied(config.plain(cfg), get_object(cfg.method._target_)))
    for other in ckpts[1:] if needs_pipeline(cfg) else ():
        name = evaluation_name(other, cfg.method.name, "")
        given: dict[str, Any] = {"name": name, "settings": settings(cfg, other), "stages": numbers}
        given |= {"about": runs.about(other), "variants": variants(cfg, other)}
        theirs = judge_method(benchmark, build_method(cfg, other), folder / name, **given, **common)
        failed |= {f"{name}, {image}": reason for image, reason in theirs.failed.items()}
        compare.append(folder / name)
    if cfg.benchmark.name == VALIDATION and cfg.method.name != "bicubic":
        beside = folder / "bicubic"
        theirs = judge_method(benchmark, bicubic, beside, name="bicubic", settings={}, stages=numbers, **common)
        failed |= {f"bicubic, {image}": reason for image, reason in theirs.failed.items()}
        compare.append(beside)
    ckpt = ckpts[0] if ckpts else None
    shown = judge_method(
        benchmark,
        build_method(cfg, ckpt),
        folder,
        name=evaluation_name(ckpt, cfg.method.name, "") if len(ckpts) > 1 else cfg.method.name,
        settings=settings(cfg, ckpt),
        stages=stages,
        compare=compare if "score" in stages else (),
        command=typed.command(sys.orig_argv),
        about=runs.about(ckpt if needs_pipeline(cfg) else None),
        variants=variants(cfg, ckpt),
        **common,
    )
    failed |= shown.failed
    show(shown._replace(failed=failed))
    return len(failed)


def evaluate_tags(cfg: DictConfig) -> int:
    """Compare what DAPE and plain RAM see on the LQ images with what RAM sees on the HQ ones; return 0."""
    from seesr_pl.evaluation import judge_tags, show

    benchmark, ckpts = instantiate(cfg.benchmark, _convert_="all"), checkpoints(cfg.ckpt)
    for ckpt in ckpts:
        folder = Path(cfg.paths.run) / (evaluation_name(ckpt, "", "") if len(ckpts) > 1 else "")
        ram = runs.load_ram(ckpt, trust=cfg.trust).to(device(cfg))
        show(judge_tags(ram, benchmark, folder, track=track, command=typed.command(sys.orig_argv)))
    return 0


def evaluate_semantics(cfg: DictConfig) -> int:
    """Restore and score as `evaluate_restoration`, then compare what networks see in the results with annotations."""
    from seesr_pl.evaluation import CocoBenchmark, Metrics, judge_method, judge_semantics, networks_in, show
    from seesr_pl.evaluation.results import distinct_name

    benchmark, folder = instantiate(cfg.benchmark, _convert_="all"), Path(cfg.paths.run)
    if not isinstance(benchmark, CocoBenchmark):
        raise ValueError(f"task=semantics needs annotations: benchmark=coco, not benchmark={cfg.benchmark.name}")
    networks = networks_in(cfg.detector, cfg.segmenter, device=device(cfg))
    failed = evaluate_restoration(cfg)
    ckpts = checkpoints(cfg.ckpt) if needs_pipeline(cfg) else []
    names = [evaluation_name(ckpt, cfg.method.name, "") for ckpt in ckpts] if len(ckpts) > 1 else [cfg.method.name]
    results = {name: folder / name if number else folder for number, name in enumerate(names)}
    for other in map(Path, cfg.compare):
        results[distinct_name(str(read_json(other / "summary.json", "method")["method"]), other, results)] = other
    if "bicubic" not in results:
        results["bicubic"] = folder / "bicubic"
        given: dict[str, Any] = {"name": "bicubic", "settings": {}, "stages": ["restore"], "track": track}
        judge_method(benchmark, bicubic, folder / "bicubic", metrics=Metrics([], {}), **given)
    images = {name: other / "restored" for name, other in results.items()}
    others = [Path(other) for other in cfg.compare]
    show(judge_semantics(benchmark, images, folder, networks, others=others, track=track))
    return failed


def make_benchmark(cfg: DictConfig) -> int:
    """Make the pairs of a set that is made here, and say what it is; return 0."""
    from seesr_pl.evaluation import MadeBenchmark

    benchmark = instantiate(cfg.benchmark, _convert_="all")
    if not isinstance(benchmark, MadeBenchmark):
        raise ValueError(
            f"task=make_benchmark: benchmark={cfg.benchmark.name} is not made here; name div2k_made or coco"
        )
    made = benchmark.make(track=track)
    print(f"{made['pairs']} pairs of {made['sources']} images in {benchmark.root}, digest {made['digest']}")
    return 0


def log(cfg: DictConfig) -> None:
    """Log what was found to W&B."""
    from seesr_pl.training import log_evaluation

    logger = instantiate(cfg.logger.wandb, _convert_="all")
    log_evaluation(logger, Path(cfg.paths.run), instantiate(cfg.benchmark, _convert_="all").pairs())
    if logger.sync_command:
        print(f"W&B was offline; to upload: {logger.sync_command}")


TASKS = {
    "restoration": evaluate_restoration,
    "tags": evaluate_tags,
    "semantics": evaluate_semantics,
    "make_benchmark": make_benchmark,
}


def needs_pipeline(cfg: DictConfig) -> bool:
    """Tell whether the method restores with the pipeline of `ckpt`: its constructor takes one as `pipeline`."""
    return "pipeline" in inspect.signature(get_object(cfg.method._target_)).parameters


def build_method(cfg: DictConfig, ckpt: str | None) -> Callable[[str], Any]:
    """Return what builds the method on a device, there or in another process."""
    used = ckpt if needs_pipeline(cfg) else None
    node, trust = config.plain(cfg.method), tuple(cfg.trust)
    return functools.partial(runs.build_method, node, ckpt=used, dtype=dtype(cfg), trust=trust)


def variants(cfg: DictConfig, ckpt: str | None) -> list[Any]:
    """Return the method under the other seeds, and with another tag, as far as it has seeds and tags."""
    from seesr_pl.evaluation.variants import Variant

    def variant(kind: Any, name: str, key: str, value: Any) -> Any:
        changed = copy.deepcopy(cfg)
        OmegaConf.update(changed, f"method.{key}", value, force_add=True)
        return Variant(kind, name, build_method(changed, ckpt), settings(changed, ckpt))

    missing, found = not_varied(config.plain(cfg), get_object(cfg.method._target_)), []
    if "seed_spread" not in missing:
        folders = list(enumerate(cfg.seeds, 1)) if isinstance(cfg.seeds, ListConfig) else []
        first = OmegaConf.select(cfg, "method.seed") or 0
        seeds = [] if folders else range(first + 1, first + cfg.seeds)
        found += [variant("seed", f"seed_{seed}", "seed", seed) for seed in seeds]
        found += [variant("seed", f"seed_{index}", "dir", folder) for index, folder in folders]
    if cfg.counterfactual and "tag_effect" not in missing:
        found.append(variant("tag", f"tag_{cfg.counterfactual}".replace("/", "_"), "tag_change", cfg.counterfactual))
    return found


def settings(cfg: DictConfig, ckpt: str | None) -> dict[str, Any]:
    """Return all that a restored image depends on besides its input."""
    method = method_settings(config.plain(cfg.method), get_object(cfg.method._target_))
    if not ckpt or not needs_pipeline(cfg):
        return {"method": method}
    file, sampler = Path(runs.checkpoint_file(ckpt)), runs.recorded_sampler(ckpt)
    return {"method": method, "ckpt": file, "sampler": sampler, "dtype": dtype(cfg)}


def possible(cfg: DictConfig, benchmark: Any) -> dict[str, Any]:
    """Return what decides which metrics can be computed, and how."""
    given = {name: cfg[name] for name in ("niqe_parameters", "crop_border", "luma_range")}
    path = cfg.tagger or next(iter(checkpoints(cfg.ckpt)), None)
    judge = functools.partial(runs.load_tagger, path, trust=tuple(cfg.trust)) if path else None
    given |= {"degradations": benchmark.degradations(), "tagger": judge, "folder": cfg.metric_folder}
    return {**given, "weights": config.plain(cfg.metric_weights), "has_reference": benchmark.has_reference}


def place(cfg: DictConfig) -> Any:
    """Return where images are restored and scored: on the devices of this machine, or on others."""
    from seesr_pl.jobs import pool

    devices = [cfg.device] if isinstance(cfg.device, str) else cfg.device
    return pool.place(cfg.on, ",".join(devices), folder=Path(cfg.paths.run), num_processes=cfg.processes)


def device(cfg: DictConfig) -> str:
    """Return the first device of this machine that `device` stands for; `auto` is the first GPU, or the CPU."""
    return str(place(cfg).devices[0]) if cfg.on == "local" else "cpu"


def dtype(cfg: DictConfig) -> str:
    """Return the precision that `dtype` stands for; `auto` depends on the device."""
    from seesr_pl.imaging.tensors import existing_dtype

    return existing_dtype(cfg.dtype, place(cfg).devices[0])


if __name__ == "__main__":
    with launch.user_errors():
        sys.argv[1:] = launch.overrides(sys.argv[1:], CONFIG_DIR, "evaluate")
    try:
        main()
    finally:
        if len(finished) > 1:
            sweeps.SweepTable.only_failed = True
            with launch.user_errors():
                show_all()
