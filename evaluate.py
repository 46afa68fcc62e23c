"""Restore a benchmark and score the result: `python evaluate.py ckpt=RUN benchmark=realsr benchmark.root=DIR`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import hydra
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig

from seesr_pl import command_line, config
from seesr_pl.annotations import hints_of

if TYPE_CHECKING:
    from seesr_pl.evaluation import FolderBenchmark, Metrics, Pair, Result

CONFIG_DIR = Path(__file__).resolve().parent / "conf"
KEYS = (
    "task", "ckpt", "seed", "run_name", "metrics", "niqe_parameters", "compare", "stages", "overwrite", "strict",
    "device", "dtype", "paths", "method", "benchmark",
)  # fmt: skip
CHOICES = {"task": ("restoration", "tags"), "stages": ("restore", "score", "report"),
           "dtype": ("float32", "bfloat16", "float16")}  # fmt: skip


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """Check the composed config, then run its task."""
    with command_line.user_errors():
        config.check(cfg, root_keys=KEYS)
        check_choices(cfg)
        config.preflight(cfg)
        {"restoration": evaluate_restoration, "tags": evaluate_tags}[cfg.task](cfg)


def check_choices(cfg: DictConfig) -> None:
    """Raise ConfigError for a choice that does not exist, or a checkpoint that is needed and not there."""
    problems = []
    for key, known in CHOICES.items():
        values = [cfg[key]] if isinstance(cfg[key], str) else cfg[key]
        problems += [f"{key} = {value!r}: expected one of {', '.join(known)}" for value in values if value not in known]
    if cfg.ckpt is None and (cfg.task == "tags" or cfg.method.get("_partial_")):
        problems.append("ckpt = null: give a run folder, a .ckpt file of it or a pipeline folder as ckpt=PATH")
    if cfg.ckpt is not None and not Path(cfg.ckpt).expanduser().exists():
        problems.append(f"ckpt = {cfg.ckpt}: does not exist; runs lie in {cfg.paths.outputs}/<run_name>")
    if problems:
        raise config.ConfigError(problems)


def evaluate_restoration(cfg: DictConfig) -> None:
    """Restore, score, report; each stage picks up what an earlier run left and still holds."""
    from seesr_pl import evaluation, terminal

    folder = Path(cfg.paths.run)
    benchmark = instantiate(cfg.benchmark, _convert_="all")
    pairs = benchmark.pairs()
    metrics = choose_metrics(cfg, pairs)
    restored = evaluation.restore(
        lambda: build_method(cfg), pairs, folder / "restored",
        settings=settings(cfg), scale=benchmark.scale, overwrite=cfg.overwrite, track=terminal.track,
    )  # fmt: skip
    if "score" not in cfg.stages:
        return
    judged = evaluation.score_all(
        cfg.method.name, restored, metrics.available, folder / "scores.jsonl", track=terminal.track
    )
    results = [judged, *(evaluation.load_result(other, judged.groups) for other in cfg.compare)]
    facts = summary(cfg, benchmark, pairs, metrics, seconds=[item.seconds for item in restored])
    evaluation.write_result(folder, judged, facts)
    terminal.show_scores(
        results, metrics.available, title=f"{benchmark.name}, {len(pairs)} images",
        published=published(benchmark, pairs), skipped=metrics.skipped,
    )  # fmt: skip
    for name, table in (("table.md", evaluation.markdown_table), ("table.tex", evaluation.latex_table)):
        (folder / name).write_text(table(results, metrics.available, published(benchmark, pairs)))
    if "report" in cfg.stages:
        write_report(folder / "report.html", benchmark, pairs, results, metrics, facts)
    terminal.show_files(
        [folder / name for name in ("report.html", "table.md", "summary.json", "scores.csv", "restored")]
    )


def evaluate_tags(cfg: DictConfig) -> None:
    """Compare what DAPE and plain RAM see on the LQ images with what RAM sees on the HQ ones."""
    from seesr_pl import loading, terminal
    from seesr_pl.evaluation.semantics import compare_tags, write_tags

    benchmark = instantiate(cfg.benchmark, _convert_="all")
    pairs = benchmark.pairs()
    ram = loading.ram_of(cfg.ckpt).to(loading.device(cfg.device))
    batches = benchmark.batches(terminal.track(pairs, "tags"))
    found = compare_tags(ram, batches, group=benchmark.group.pattern)
    write_tags(found, cfg.paths.run)
    terminal.show_tags(found.rows)
    terminal.show_files([Path(cfg.paths.run) / "tags.csv"])


def choose_metrics(cfg: DictConfig, pairs: Sequence["Pair"]) -> "Metrics":
    """The metrics that can be computed; raises ValueError for the others if `strict`."""
    from seesr_pl.evaluation import image_metrics
    from seesr_pl.loading import device

    names = [cfg.metrics] if isinstance(cfg.metrics, str) else list(cfg.metrics)
    has_reference = all(pair.hq is not None for pair in pairs)
    found = image_metrics(
        names, has_reference=has_reference, niqe_parameters=cfg.niqe_parameters, device=device(cfg.device)
    )
    if cfg.strict and found.skipped:
        raise ValueError("\n".join(f"metric {name}: {reason}" for name, reason in found.skipped.items()))
    return found


def build_method(cfg: DictConfig) -> Any:
    """The method; one that is partial gets the pipeline of `ckpt`."""
    if "restore" not in cfg.stages:
        raise ValueError(
            f"stages={list(cfg.stages)} leaves out restore, but images in {cfg.paths.run} are not restored"
        )
    method = instantiate(cfg.method, _convert_="all")
    if not cfg.method.get("_partial_"):
        return method
    from seesr_pl import loading

    return method(loading.pipeline_of(cfg.ckpt, device=loading.device(cfg.device), dtype=cfg.dtype))


def settings(cfg: DictConfig) -> dict[str, Any]:
    """All that a restored image depends on besides its input; files and folders as `Path`, to be known by content."""
    from seesr_pl.loading import checkpoint_file

    hints = hints_of(get_object(cfg.method._target_))
    method = {
        name: Path(value).expanduser() if value is not None and Path in get_args(hints.get(name)) else value
        for name, value in config.plain(cfg.method).items()
        if name != "name"
    }
    used = {"ckpt": Path(checkpoint_file(cfg.ckpt)), "dtype": cfg.dtype} if cfg.method.get("_partial_") else {}
    return {"method": method, **used}


def summary(
    cfg: DictConfig, benchmark: "FolderBenchmark", pairs: Sequence["Pair"], metrics: "Metrics", *, seconds: list[float]
) -> dict[str, Any]:
    """What `summary.json` says besides the metrics."""
    return {
        "benchmark": benchmark.name,
        "images": len(pairs),
        "published_pixels": benchmark.matches_published(pairs),
        "skipped": metrics.skipped,
        "seconds_per_image": sum(seconds) / len(seconds),
        "settings": settings(cfg),
    }


def published(benchmark: "FolderBenchmark", pairs: Sequence["Pair"]) -> dict[str, dict[str, float]]:
    """The published rows, which hold for the whole set only."""
    return benchmark.published if len(pairs) == benchmark.count else {}


def write_report(
    path: Path, benchmark: "FolderBenchmark", pairs: Sequence["Pair"], results: Sequence["Result"],
    metrics: "Metrics", facts: dict[str, Any],
) -> None:  # fmt: skip
    """The page to look at."""
    from seesr_pl import evaluation

    pixels = {True: "the published ones", False: "NOT the published ones", None: "not checked (no digest is known)"}
    shown = {
        "images": f"{benchmark.root}; pixels: {pixels[facts['published_pixels']]}",
        "seconds per image": evaluation.format_number(facts["seconds_per_image"]),
        **{f"skipped: {name}": reason for name, reason in metrics.skipped.items()},
        "settings": json.dumps(facts["settings"], default=str),
        "command": " ".join(sys.argv),
    }
    evaluation.write_report(
        path, title=f"{results[0].name} on {benchmark.name}", pairs=pairs, results=results, metrics=metrics.available,
        facts=shown, published=published(benchmark, pairs),
    )  # fmt: skip


if __name__ == "__main__":
    with command_line.user_errors():
        sys.argv[1:] = command_line.overrides(sys.argv[1:], CONFIG_DIR, "evaluate")
    main()
