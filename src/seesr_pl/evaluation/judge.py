"""Judge a method on a benchmark: restore every image, score the results, compare them, and write all of it down.

Each step keeps what an earlier run left, where it still holds.
"""

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from seesr_pl.evaluation import tables
from seesr_pl.evaluation.benchmark import FolderBenchmark, Pair, pixel_digest
from seesr_pl.evaluation.methods import Method
from seesr_pl.evaluation.metrics import Metrics
from seesr_pl.evaluation.of_set import size_notes, with_set_metrics
from seesr_pl.evaluation.options import STAGES, Stage
from seesr_pl.evaluation.restoring import Track, restore, silently
from seesr_pl.evaluation.results import Result, load_result, write_result
from seesr_pl.evaluation.results import compare as compared_with
from seesr_pl.evaluation.scoring import score_all
from seesr_pl.evaluation.severity import by_kind, by_severity, in_lines, write_by_severity
from seesr_pl.evaluation.variants import Variant, close_ups, restore_variants, variant_metrics, with_variants
from seesr_pl.files import write_whole
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

    `build`, `settings`, `place`, `together`, `overwrite` and `track` are those of `restore`.

    Args:
        benchmark: the images.
        build: makes the method.
        folder: of this evaluation.
        name: of the method in tables.
        settings: all that the method's results depend on.
        metrics: those to score with, and those skipped.
        build_metrics: makes the same, given `device=`; needed where `place` has several devices, and picklable then.
        stages: without restore, all images must be there already; score writes numbers and tables, report the page.
        compare: folders of finished evaluations on the same benchmark.
        command: what the page says of how it was made.
        about: further facts for `summary.json`: checkpoint, versions.
        variants: the method under other seeds, or with another tag, for metrics of what differs between results.

    Raises ValueError for a benchmark, a result or a folder to compare with that is not what it must be.
    """
    pairs, images = benchmark.pairs(), folder / "restored"
    make = build if "restore" in stages else _refused(stages, folder)
    shared: dict[str, Any] = {"place": place, "track": track}
    given: dict[str, Any] = {"scale": benchmark.scale, "together": together, "overwrite": overwrite, **shared}
    restored = restore(make, pairs, images, settings=settings, **given)
    failed = {item.pair.name: item.failure for item in restored if item.failure}
    if "score" not in stages:
        return tables.Shown(None, {}, [images], failed=failed)
    again = functools.partial(restore, **given)
    varied = restore_variants(variants, pairs, folder, again, may_build="restore" in stages)
    metrics = metrics._replace(available=[*metrics.available, *variant_metrics(varied)])
    make_metrics = build_metrics and functools.partial(with_variants, build_metrics, varied)
    store = folder / "scores.jsonl"
    result = score_all(name, restored, metrics.available, store, build=make_metrics, **shared)
    references = {pair.name: pair.hq for pair in pairs if pair.hq}
    result, reasons = with_set_metrics(result, references, metrics.of_set, folder)
    skipped = {**metrics.skipped, **reasons}
    facts = {**_facts(benchmark, pairs, result, settings, skipped), "not_restored": failed, **about}
    pixels = facts["reference_pixels"]
    results = [result, *(load_result(other, result.groups, pixels=pixels) for other in compare)]
    published = benchmark.published_for(pairs)
    table = tables.score_table(results, metrics.columns, published)
    notes = [*result.gaps(), *size_notes(results, metrics.of_set)]
    comparisons = compared_with(result, results[1:])
    ranges = by_severity(results, benchmark.severities())
    kinds = by_kind(results, benchmark.severities(), benchmark.kinds())
    write_result(folder, result, {**facts, "by_degradation": in_lines([*ranges, *kinds])}, comparisons)
    write_by_severity(folder / "by_severity.csv", ranges)
    write_by_severity(folder / "by_kind.csv", kinds)
    write_whole(folder / "table.md", tables.markdown(table))
    write_whole(folder / "table.tex", tables.latex(table))
    if "report" in stages:
        # Here, because it imports matplotlib.
        from seesr_pl.evaluation.report import Section, Table, degradation_section, write_report

        write_report(
            folder / "report.html",
            title=f"{name} on {benchmark.name}{_checkpoint(about)}",
            pairs=[pair for pair in pairs if pair.name not in failed],
            results=results,
            notes=notes,
            comparisons=comparisons,
            metrics=metrics.columns,
            facts=_in_words(facts, benchmark.root, command),
            published=published,
            close_ups=close_ups(varied, result),
            sections=[
                *([degradation_section([*ranges, *kinds], metrics.available)] if ranges or kinds else []),
                Section("Settings", tables=[Table(("setting", "value"), list(_named(settings)))]),
            ],
        )
    names = "report.html table.md summary.json scores.csv comparisons.csv by_severity.csv by_kind.csv restored"
    files = [folder / file for file in names.split()]
    title = f"{benchmark.name}, {len(pairs)} images"
    shown, words = tables.terminal(table, title=title), [comparison.sentence(name) for comparison in comparisons]
    words += notes
    if ranges or kinds:
        shown = tables.stacked([shown, tables.by_degradation([*ranges, *kinds], metrics.available)])
    return tables.Shown(shown, skipped, [file for file in files if file.exists()], words, failed)


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


def _refused(stages: Collection[Stage], folder: Path) -> Callable[[str], NoReturn]:
    def build(device: str) -> NoReturn:
        raise ValueError(f"stages={list(stages)} leaves out restore, but images in {folder} are not restored")

    return build


def _facts(
    benchmark: FolderBenchmark,
    pairs: Sequence[Pair],
    result: Result,
    settings: Mapping[str, Any],
    skipped: Mapping[str, str],
) -> dict[str, Any]:
    return {
        "benchmark": benchmark.name,
        "images": len(pairs),
        "published_pixels": benchmark.matches_published(pairs),
        "reference_pixels": pixel_digest([pair._replace(lq=pair.hq) for pair in pairs if pair.hq]),
        "skipped": skipped,
        "seconds_per_image": sum(result.seconds.values()) / len(result.seconds),
        "settings": settings,
    }


def _in_words(facts: Mapping[str, Any], root: Path, command: str) -> dict[str, str]:
    """Say how it was measured, for the report."""
    pixels = {True: "the published ones", False: "NOT the published ones", None: "not checked (no digest is known)"}
    return {
        "images": f"{root}; pixels: {pixels[facts['published_pixels']]}",
        "seconds per image": f"{facts['seconds_per_image']:.4g}",
        **{f"skipped: {name}": reason for name, reason in facts["skipped"].items()},
        "checkpoint": "".join(f"{name} {value}  " for name, value in (facts.get("checkpoint") or {}).items()),
        "code": f"commit {facts['commit']}" if facts.get("commit") else "",
        "versions": ", ".join(f"{name} {value}" for name, value in facts.get("versions", {}).items()),
        "command": command,
    }


def _checkpoint(about: Mapping[str, Any]) -> str:
    """Name the run, or pipeline, that a result is of, and its step, for the title."""
    found = about.get("checkpoint")
    if not found:
        return ""
    file, step = Path(found["file"]), found.get("step")
    return f": {file.name}" if step is None else f": {file.parents[1].name}/{file.name}, step {step}"


def _named(settings: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    """Yield each setting under the names that lead to it, and its value."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _named(value, f"{within}{name}.")
        else:
            yield f"{within}{name}", str(value)
