"""Restore a benchmark and score the result: `python evaluate.py ckpt=RUN benchmark=realsr benchmark.root=DIR`."""

import inspect
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_type_hints

import hydra
import rich
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig

from seesr_pl import config, launch
from seesr_pl.annotations import accepts, hints_of, in_words
from seesr_pl.files import write_whole
from seesr_pl.progress import bar

CONFIG_DIR = Path(__file__).resolve().parent / "conf"
Stage = Literal["restore", "score", "report"]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The keys of conf/evaluate.yaml that name no class, and the values that each may have."""

    task: Literal["restoration", "tags"]
    ckpt: str | None
    seed: int
    run_name: str
    metrics: str | list[str]
    niqe_parameters: str | None
    compare: list[str]
    stages: Stage | list[Stage]
    overwrite: bool
    strict: bool
    device: str
    dtype: Literal["float32", "bfloat16", "float16"]


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """Check the composed config, then run its task."""
    with launch.user_errors():
        check(cfg)
        config.preflight(cfg)
        {"restoration": evaluate_restoration, "tags": evaluate_tags}[cfg.task](cfg)


def check(cfg: DictConfig) -> None:
    """Raise ConfigError for a value that does not fit, or a checkpoint that is needed and not there."""
    hints = get_type_hints(Options)
    config.check(cfg)
    values = config.plain(cfg)
    problems = [
        f"{name} = {values[name]!r}: expected {in_words(hint)}"
        for name, hint in hints.items()
        if not accepts(values[name], hint)
    ]
    if cfg.ckpt is None and (cfg.task == "tags" or needs_pipeline(cfg)):
        problems.append("ckpt = null: give a run folder, a .ckpt file of it or a pipeline folder as ckpt=PATH")
    if cfg.ckpt is not None and not Path(cfg.ckpt).expanduser().exists():
        problems.append(f"ckpt = {cfg.ckpt}: does not exist; runs lie in {cfg.paths.outputs}/<run_name>")
    if problems:
        raise config.ConfigError(problems)


def evaluate_restoration(cfg: DictConfig) -> None:
    """Restore, score, report; each stage picks up what an earlier run left and still holds."""
    from seesr_pl import evaluation
    from seesr_pl.jobs.pool import existing_device

    folder, benchmark = Path(cfg.paths.run), instantiate(cfg.benchmark, _convert_="all")
    pairs = benchmark.pairs()
    metrics = evaluation.image_metrics(
        cfg.metrics,
        has_reference=all(pair.hq is not None for pair in pairs),
        niqe_parameters=cfg.niqe_parameters,
        device=existing_device(cfg.device),
        strict=cfg.strict,
    )
    restored = evaluation.restore(
        lambda: build_method(cfg),
        pairs,
        folder / "restored",
        settings=settings(cfg),
        scale=benchmark.scale,
        overwrite=cfg.overwrite,
        track=track,
    )
    if "score" not in cfg.stages:
        return
    result = evaluation.score_all(cfg.method.name, restored, metrics.available, folder / "scores.jsonl", track=track)
    results = [result, *(evaluation.load_result(other, result.groups) for other in cfg.compare)]
    facts = {
        "benchmark": benchmark.name,
        "images": len(pairs),
        "published_pixels": benchmark.matches_published(pairs),
        "skipped": metrics.skipped,
        "seconds_per_image": sum(result.seconds.values()) / len(pairs),
        "settings": settings(cfg),
    }
    evaluation.write_result(folder, result, facts)
    table = evaluation.score_table(results, metrics.available, benchmark.published_for(pairs))
    for name, view in (("table.md", evaluation.markdown), ("table.tex", evaluation.latex)):
        write_whole(folder / name, view(table))
    if "report" in cfg.stages:
        evaluation.write_report(
            folder / "report.html",
            title=f"{result.name} on {benchmark.name}",
            pairs=pairs,
            results=results,
            metrics=metrics.available,
            facts=as_text(facts, benchmark.root),
            published=benchmark.published_for(pairs),
        )
    rich.print(evaluation.terminal(table, title=f"{benchmark.name}, {len(pairs)} images"))
    for name, reason in metrics.skipped.items():
        rich.print(f"[yellow]skipped[/] {name}: {reason}")
    show_files(folder / name for name in ("report.html", "table.md", "summary.json", "scores.csv", "restored"))


def evaluate_tags(cfg: DictConfig) -> None:
    """Compare what DAPE and plain RAM see on the LQ images with what RAM sees on the HQ ones."""
    from seesr_pl.evaluation.semantics import compare_tags, write_tags
    from seesr_pl.evaluation.tables import tags
    from seesr_pl.jobs.pool import existing_device
    from seesr_pl.runs import load_ram

    benchmark = instantiate(cfg.benchmark, _convert_="all")
    ram = load_ram(cfg.ckpt).to(existing_device(cfg.device))
    batches = benchmark.batches(track(benchmark.pairs(), "tags"))
    found = compare_tags(ram, batches, group=benchmark.group.pattern)
    write_tags(found, cfg.paths.run)
    rich.print(tags(found.rows))
    show_files([Path(cfg.paths.run) / "tags.csv"])


def needs_pipeline(cfg: DictConfig) -> bool:
    """Whether the method restores with the pipeline of `ckpt`: its constructor takes one as `pipeline`."""
    return "pipeline" in inspect.signature(get_object(cfg.method._target_)).parameters


def build_method(cfg: DictConfig) -> Any:
    """The method, with the pipeline of `ckpt` where it needs one."""
    if "restore" not in cfg.stages:
        raise ValueError(
            f"stages={list(cfg.stages)} leaves out restore, but images in {cfg.paths.run} are not restored"
        )
    if not needs_pipeline(cfg):
        return instantiate(cfg.method, _convert_="all")
    from seesr_pl.jobs.pool import existing_device
    from seesr_pl.runs import load_pipeline

    pipeline = load_pipeline(cfg.ckpt, device=existing_device(cfg.device), dtype=cfg.dtype)
    # By position: Hydra copies what it is given by name, which for a pipeline is gigabytes.
    return instantiate(cfg.method, pipeline, _convert_="all")


def settings(cfg: DictConfig) -> dict[str, Any]:
    """All that a restored image depends on besides its input; files and folders as `Path`, to be known by content."""
    from seesr_pl.runs import checkpoint_file, recorded_sampler

    hints = hints_of(get_object(cfg.method._target_))
    method = {
        name: Path(value).expanduser() if value is not None and Path in get_args(hints.get(name)) else value
        for name, value in config.plain(cfg.method).items()
        if name != "name"
    }
    if not needs_pipeline(cfg):
        return {"method": method}
    used = {"ckpt": Path(checkpoint_file(cfg.ckpt)), "sampler": recorded_sampler(cfg.ckpt), "dtype": cfg.dtype}
    return {"method": method, **used}


def as_text(facts: dict[str, Any], root: Path) -> dict[str, str]:
    """What the page says of how it was measured."""
    pixels = {True: "the published ones", False: "NOT the published ones", None: "not checked (no digest is known)"}
    return {
        "images": f"{root}; pixels: {pixels[facts['published_pixels']]}",
        "seconds per image": f"{facts['seconds_per_image']:.4g}",
        **{f"skipped: {name}": reason for name, reason in facts["skipped"].items()},
        "settings": json.dumps(facts["settings"], default=str),
        "command": " ".join(sys.argv),
    }


def track(items: Sequence[T], description: str) -> Iterable[T]:
    """Go through `items` with a bar and the time left."""
    with bar(description, len(items), unit="images") as progress:
        for item in items:
            yield item
            progress.advance(1)


def show_files(paths: Iterable[Path]) -> None:
    """Print where the results lie."""
    for path in paths:
        if path.exists():
            print(path)


if __name__ == "__main__":
    with launch.user_errors():
        sys.argv[1:] = launch.overrides(sys.argv[1:], CONFIG_DIR, "evaluate")
    main()
