"""What an evaluation found, as files, as a page and in the terminal."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seesr_pl.evaluation import tables
from seesr_pl.evaluation.benchmark import FolderBenchmark, Pair, pixel_digest
from seesr_pl.evaluation.metrics import Metrics
from seesr_pl.evaluation.of_set import size_notes, with_set_metrics
from seesr_pl.evaluation.results import Comparison, Result, distinct_name, load_result, write_result
from seesr_pl.evaluation.results import compare as compared_with
from seesr_pl.evaluation.severity import SeverityRow, by_kind, by_severity, in_lines, write_by_severity
from seesr_pl.evaluation.variants import CloseUp
from seesr_pl.files import write_whole

FILES = (
    "report.html", "table.md", "summary.json", "scores.csv", "comparisons.csv", "by_severity.csv",
    "by_kind.csv", "restored"
)  # fmt: skip
"""What an evaluation leaves in its folder, where there is something to write."""


class Findings(NamedTuple):
    """The scores of a method, the first of `results`, beside those that it is compared with."""

    benchmark: FolderBenchmark
    pairs: Sequence[Pair]
    results: list[Result]
    metrics: Metrics
    comparisons: list[Comparison]
    ranges: list[SeverityRow]
    kinds: list[SeverityRow]
    facts: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the method."""
        return self.results[0].name

    @property
    def notes(self) -> list[str]:
        """What was left out of the means, and what limits the comparison."""
        return [*self.results[0].gaps(), *size_notes(self.results, self.metrics.of_set)]

    def write_numbers(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Write scores, summary, comparisons and tables into `folder`; `about` are further facts of the summary."""
        self.facts.update(about)
        degraded = {"by_degradation": in_lines([*self.ranges, *self.kinds])}
        write_result(folder, self.results[0], {**self.facts, **degraded}, self.comparisons)
        write_by_severity(folder / "by_severity.csv", self.ranges)
        write_by_severity(folder / "by_kind.csv", self.kinds)
        table = self._table()
        write_whole(folder / "table.md", tables.markdown(table))
        write_whole(folder / "table.tex", tables.latex(table))

    def write_page(self, folder: Path, close_ups: Sequence[CloseUp], *, command: str) -> None:
        """Write `report.html` into `folder`, which has the numbers already."""
        # Here, because it imports matplotlib.
        from seesr_pl.evaluation.report import Section, Table, degradation_section, write_report

        degraded = [*self.ranges, *self.kinds]
        settings = Table(("setting", "value"), list(_named(self.facts["settings"])))
        write_report(
            folder / "report.html",
            title=f"{self.name} on {self.benchmark.name}{_checkpoint(self.facts)}",
            pairs=[pair for pair in self.pairs if pair.name not in self.facts["not_restored"]],
            results=self.results,
            notes=self.notes,
            comparisons=self.comparisons,
            metrics=self.metrics.columns,
            facts=_in_words(self.facts, self.benchmark.root, command),
            published=self.benchmark.published_for(self.pairs),
            close_ups=close_ups,
            sections=[
                *([degradation_section(degraded, self.metrics.available)] if degraded else []),
                Section("Settings", tables=[settings]),
            ],
        )

    def shown(self, folder: Path) -> tables.Shown:
        """Return what the terminal shows, with the files that were written into `folder`."""
        title = f"{self.benchmark.name}, {len(self.pairs)} images"
        shown, degraded = tables.terminal(self._table(), title=title), [*self.ranges, *self.kinds]
        if degraded:
            shown = tables.stacked([shown, tables.by_degradation(degraded, self.metrics.available)])
        words = [*(comparison.sentence(self.name) for comparison in self.comparisons), *self.notes]
        files = [folder / file for file in FILES if (folder / file).exists()]
        return tables.Shown(shown, self.facts["skipped"], files, words)

    def _table(self) -> tables.ScoreTable:
        return tables.score_table(self.results, self.metrics.columns, self.benchmark.published_for(self.pairs))


def findings(
    benchmark: FolderBenchmark,
    pairs: Sequence[Pair],
    result: Result,
    metrics: Metrics,
    *,
    folder: Path,
    compare: Sequence[str | Path] = (),
) -> Findings:
    """Complete `result` by the metrics of sets, kept in `folder`, and compare it with the evaluations in `compare`.

    Raises ValueError for a folder to compare with that holds no evaluation of the same reference pixels.
    """
    references = {pair.name: pair.hq for pair in pairs if pair.hq}
    result, reasons = with_set_metrics(result, references, metrics.of_set, folder)
    facts: dict[str, Any] = {
        "benchmark": benchmark.name,
        "images": len(pairs),
        "published_pixels": benchmark.matches_published(pairs),
        "reference_pixels": pixel_digest([pair._replace(lq=pair.hq) for pair in pairs if pair.hq]),
        "skipped": {**metrics.skipped, **reasons},
        "seconds_per_image": sum(result.seconds.values()) / len(result.seconds),
    }
    results, severities = [result], benchmark.severities()
    for other in compare:
        loaded = load_result(other, result.groups, pixels=facts["reference_pixels"])
        results.append(loaded._replace(name=distinct_name(loaded.name, other, [each.name for each in results])))
    return Findings(
        benchmark,
        pairs,
        results,
        metrics,
        compared_with(result, results[1:]),
        by_severity(results, severities),
        by_kind(results, severities, benchmark.kinds()),
        facts,
    )


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
