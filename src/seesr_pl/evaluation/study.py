"""A blind user study (section 4.2 of the paper): a page that asks which result is best, and the count of its votes."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from seesr_pl import keyed
from seesr_pl.evaluation.pairing import images_by_stem, require_names
from seesr_pl.evaluation.report import data_uri
from seesr_pl.evaluation.statistics import Interval, mean_interval
from seesr_pl.files import fingerprint, write_whole
from seesr_pl.imaging.io import read_rgb
from seesr_pl.limits import read_json
from seesr_pl.types import RGB

TEMPLATES = Path(__file__).parent / "templates"
NUM_CHECKS = 4
CHECK = "check"
"""Marks the option of an attention check that an attentive rater never chooses."""


class Trial(NamedTuple):
    """One question: the input, its set, and the methods in the order in which they are shown."""

    name: str
    kind: str
    order: list[str]


class Tally(NamedTuple):
    """`shares[kind][method]` of the votes, Fleiss' kappa, and the raters that count and that failed a check."""

    shares: dict[str, dict[str, Interval]]
    kappa: float
    raters: list[str]
    failed: list[str]


def make_study(
    folder: str | Path,
    inputs: Mapping[str, str | Path],
    methods: Mapping[str, str | Path],
    *,
    count: int = 16,
    seed: int = 0,
) -> list[Trial]:
    """Write `study.html`, which names no method, and `key.json`, which does, into `folder`.

    Args:
        folder: where to write; give raters the page alone.
        inputs: kind ("synthetic", "real") -> folder of LQ images.
        methods: name -> folder of results, named as the inputs are.
        count: images of each kind, drawn by `seed`.
        seed: of images, order and sides.

    Raises ValueError for fewer than two methods, for too few images, and where a method lacks one of a folder.
    """
    if len(methods) < 2:
        raise ValueError(f"a study compares at least two methods, got {len(methods)}")
    results = {name: images_by_stem(Path(path).expanduser(), key=f"method {name}") for name, path in methods.items()}
    trials: list[Trial] = []
    shown: list[tuple[Path, list[RGB]]] = []
    generator = keyed.numpy_generator(seed, "study")
    for kind, path in inputs.items():
        images = images_by_stem(Path(path).expanduser(), key=kind).paths
        if len(images) < count:
            raise ValueError(f"{kind}: {path} holds {len(images)} images, the study needs {count}")
        names = sorted(generator.choice(sorted(images), count, replace=False).tolist())
        matched = {method: require_names(images, found, f"method {method}") for method, found in results.items()}
        for name in names:
            order = generator.permutation(list(methods)).tolist()
            trials.append(Trial(name, kind, order))
            shown.append((images[name], [read_rgb(matched[method][name]) for method in order]))
    _add_checks(trials, shown, generator)
    order = generator.permutation(len(trials)).tolist()
    trials, shown = [trials[index] for index in order], [shown[index] for index in order]
    study = fingerprint([trial._asdict() for trial in trials])
    write_whole(Path(folder) / "study.html", _page(study, shown))
    key = {"study": study, "trials": [trial._asdict() for trial in trials]}
    write_whole(Path(folder) / "key.json", json.dumps(key, indent=2) + "\n")
    return trials


def tally(key: str | Path, votes: Sequence[str | Path]) -> Tally:
    """Count the vote files of raters with the study's `key.json`.

    A rater who chose the ruined image of an attention check, or left one out, does not count. Intervals draw images:
    votes on one image are not independent. Raises ValueError for votes of another study, or if no rater counts.
    """
    content = read_json(key, "study", "trials")
    trials = [Trial(**trial) for trial in content["trials"]]
    chosen: dict[str, dict[int, str]] = {}
    failed = []
    for path in votes:
        given = read_json(path, "study", "votes")
        if given.get("study") != content["study"]:
            raise ValueError(f"{path} holds votes of another study than {key}")
        answers = {vote["trial"]: trials[vote["trial"]].order[vote["choice"]] for vote in given["votes"]}
        checks = [index for index, trial in enumerate(trials) if trial.kind == CHECK]
        attentive = all(answers.get(index, CHECK) != CHECK for index in checks)
        name = str(given.get("rater") or Path(path).stem)
        if name in chosen or name in failed:
            raise ValueError(f"{path}: the rater {name!r} has another file of votes; keep one of them")
        if not attentive:
            failed.append(name)
            continue
        chosen[name] = {index: choice for index, choice in answers.items() if index not in checks}
    if not chosen:
        raise ValueError(f"no rater of {len(votes)} passed the attention checks")
    methods = sorted({method for trial in trials for method in trial.order} - {CHECK})
    kinds = {kind: [kind] for kind in dict.fromkeys(trial.kind for trial in trials) if kind != CHECK}
    shares = {
        kind: _shares(chosen, [i for i, trial in enumerate(trials) if trial.kind in which], methods, trials)
        for kind, which in {**kinds, "all": list(kinds)}.items()
    }
    return Tally(shares, _fleiss_kappa(list(chosen.values())), list(chosen), failed)


def _add_checks(trials: list[Trial], shown: list[tuple[Path, list[RGB]]], generator: np.random.Generator) -> None:
    """Ask some questions once more, with one option ruined."""
    for index in generator.choice(len(trials), min(NUM_CHECKS, len(trials)), replace=False).tolist():
        lq, options = shown[index]
        side = int(generator.integers(len(options)))
        trial = trials[index]
        trials.append(Trial(trial.name, CHECK, [CHECK if place == side else m for place, m in enumerate(trial.order)]))
        shown.append((lq, [_ruined(image) if place == side else image for place, image in enumerate(options)]))


def _shares(
    chosen: Mapping[str, Mapping[int, str]], indices: Sequence[int], methods: Sequence[str], trials: Sequence[Trial]
) -> dict[str, Interval]:
    votes = [(trials[i].name, answers[i]) for answers in chosen.values() for i in indices if i in answers]
    images = [image for image, _ in votes]
    return {m: mean_interval([float(choice == m) for _, choice in votes], images) for m in methods} if votes else {}


def _fleiss_kappa(raters: Sequence[Mapping[int, str]]) -> float:
    """Compute Fleiss' kappa over the questions that at least two raters answered; not a number without any."""
    counts = [
        Counter(rater[i] for rater in raters if i in rater) for i in sorted({i for rater in raters for i in rater})
    ]
    counts = [count for count in counts if count.total() > 1]
    if not counts:
        return float("nan")
    agreement = [sum(n * (n - 1) for n in c.values()) / (c.total() * (c.total() - 1)) for c in counts]
    total = sum(counts, Counter[str]())
    chance = sum((n / total.total()) ** 2 for n in total.values())
    return float((np.mean(agreement) - chance) / (1 - chance)) if chance < 1 else 1.0


def _ruined(image: RGB) -> RGB:
    """Blur an image so that nobody who looks takes it for the best."""
    return cv2.GaussianBlur(image, (0, 0), max(image.shape) / 25)


def _page(study: str, shown: Sequence[tuple[Path, list[RGB]]]) -> str:
    data: dict[str, Any] = {"study": study, "trials": []}
    for path, options in shown:
        uris = [data_uri(option) for option in options]
        data["trials"].append({"lq": data_uri(read_rgb(path), lossless=True), "options": uris})
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True)
    return environment.get_template("study.html.jinja").render(
        data=Markup(json.dumps(data)), style=Markup((TEMPLATES / "report.css").read_text()), count=len(shown)
    )
