"""Judge a method on a benchmark: restore every image, score the results, compare them, and write all of it down.

Each step keeps what an earlier run left, where it still holds.
"""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from seesr_pl.evaluation import tables
from seesr_pl.evaluation.benchmark import FolderBenchmark
from seesr_pl.evaluation.findings import findings
from seesr_pl.evaluation.methods import Method
from seesr_pl.evaluation.metrics import Metrics
from seesr_pl.evaluation.options import STAGES, Stage
from seesr_pl.evaluation.restoring import Track, restore, silently
from seesr_pl.evaluation.scoring import score_all
from seesr_pl.evaluation.variants import Variant, close_ups, restore_variants, variant_metrics, with_variants
from seesr_pl.jobs import pool
from seesr_pl.jobs.pool import Place

if TYPE_CHECKING:
    from seesr_pl.models.ram import RAM


def judge_method(
    benchmark: FolderBenchmark,
    build: Callable[[str], Method],
    folder: Path,
    *,
    name: str,
    settings: Mapping[str, Any],
    metrics: Metrics,
    build_metrics: Callable[..., Metrics] | None = None,
    place: Place = pool.HERE,
    together: int = 1,
    stages: Collection[Stage] = STAGES,
    compare: Sequence[str | Path] = (),
    overwrite: bool = False,
    track: Track[Any] = silently,
    command: str = "",
    about: Mapping[str, Any] = MappingProxyType({}),
    variants: Sequence[Variant] = (),
) -> tables.Shown:
    """Restore and score `benchmark`, write everything into `folder`, and return what is to be shown of it.

    `build`, `place`, `together`, `overwrite` and `track` are those of `restore`; `settings` is all that the method's
    results depend on, and `name` what tables call it.

    Args:
        metrics: those to score with, and those skipped.
        build_metrics: makes the same, given `device=`; needed where `place` has several devices, and picklable then.
        stages: without restore, all images must be there already; score writes numbers and tables, report the page.
        compare: folders of finished evaluations on the same benchmark.
        command: what the page says of how it was made.
        about: further facts for `summary.json`: checkpoint, versions.
        variants: the method under other seeds, or with another tag, for metrics of what differs between results.

    Raises ValueError for a benchmark, a result or a folder to compare with that is not what it must be.
    """
    pairs, may_build = benchmark.pairs(), "restore" in stages
    shared: dict[str, Any] = {"place": place, "track": track}
    given: dict[str, Any] = {"scale": benchmark.scale, "together": together, "overwrite": overwrite, **shared}
    make = build if may_build else functools.partial(_refuse, tuple(stages), folder)
    restored = restore(make, pairs, folder / "restored", settings=settings, **given)
    failed = {item.pair.name: item.failure for item in restored if item.failure}
    if "score" not in stages:
        return tables.Shown(None, {}, [folder / "restored"], failed=failed)
    again = functools.partial(restore, **given)
    varied = restore_variants(variants, pairs, folder, again, may_build=may_build)
    metrics = metrics._replace(available=[*metrics.available, *variant_metrics(varied)])
    make_metrics = build_metrics and functools.partial(with_variants, build_metrics, varied)
    result = score_all(name, restored, metrics.available, folder / "scores.jsonl", build=make_metrics, **shared)
    found = findings(benchmark, pairs, result, metrics, folder=folder, compare=compare)
    found.write_numbers(folder, {"settings": settings, "not_restored": failed, **about})
    if "report" in stages:
        found.write_page(folder, close_ups(varied, result), command=command)
    return found.shown(folder)._replace(failed=failed)


def judge_tags(
    ram: "RAM", benchmark: FolderBenchmark, folder: Path, *, track: Track[Any] = silently, command: str = ""
) -> tables.Shown:
    """Compare what DAPE and plain RAM see on the LQ images with what RAM sees on the HQ ones, as `semantics` does.

    Writes `tags.csv`, `summary.json`, `report.html` and `example_<i>.png` into `folder`. Raises ValueError if `ram` has
    no LoRA or the benchmark has no reference images.
    """
    # Here, because they import the networks and matplotlib.
    from seesr_pl.evaluation.report import write_report
    from seesr_pl.evaluation.semantics import compare_tags
    from seesr_pl.evaluation.tag_report import tags_section, write_tags

    pairs = benchmark.pairs()
    found = compare_tags(ram, benchmark.batches(track(pairs, "tags")), group=benchmark.group.pattern)
    write_tags(found, folder)
    title, facts = f"Tags of LQ images, {benchmark.name}", {"images": str(benchmark.root), "command": command}
    write_report(
        folder / "report.html", title=title, pairs=pairs, results=[], metrics=[], facts=facts,
        sections=[tags_section(found)],
    )  # fmt: skip
    files = [folder / name for name in ("report.html", "summary.json", "tags.csv")]
    return tables.Shown(tables.tags(found.rows), {}, files)


def _refuse(stages: Sequence[Stage], folder: Path, device: str) -> NoReturn:
    raise ValueError(f"stages={list(stages)} leaves out restore, but images in {folder} are not restored")
