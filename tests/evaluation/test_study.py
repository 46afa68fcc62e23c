"""A study is blind and repeatable; its count follows votes, checks and a textbook's kappa."""

import json
import re
import shutil

import pytest

from seesr_pl.evaluation import make_study, tally
from seesr_pl.evaluation.study import CHECK, _fleiss_kappa


@pytest.fixture
def study(root, tmp_path):
    for name in ("alpha", "beta"):
        shutil.copytree(root / "hq", tmp_path / name)
    methods = {name: tmp_path / name for name in ("alpha", "beta")}
    return tmp_path / "study", make_study(tmp_path / "study", {"synthetic": root / "lq"}, methods, count=4)


def _votes(folder, trials, rater, prefer, *, attentive=True):
    choices = [t.order.index(prefer) if prefer in t.order else 0 for t in trials]
    for index, trial in enumerate(trials):
        if trial.kind == CHECK:
            choices[index] = next(i for i, m in enumerate(trial.order) if (m == CHECK) != attentive)
    study = json.loads((folder / "key.json").read_text())["study"]
    votes = [{"trial": index, "choice": choice, "seconds": 1} for index, choice in enumerate(choices)]
    (folder / f"{rater}.json").write_text(json.dumps({"study": study, "rater": rater, "votes": votes}))
    return folder / f"{rater}.json"


def test_the_page_is_self_contained_and_names_neither_methods_nor_images(study, root):
    folder, trials = study
    page = (folder / "study.html").read_text()
    text = re.sub(r"data:image/\w+;base64,[\w+/=]+", "", page)
    assert not re.search(r"alpha|beta|lake|street|https?://", text)
    assert page.count("data:image/") == 3 * len(trials) == 3 * 8


def test_a_study_made_again_is_the_same_and_another_seed_gives_another(study, root, tmp_path):
    methods = {name: tmp_path / name for name in ("alpha", "beta")}
    assert make_study(tmp_path / "again", {"synthetic": root / "lq"}, methods, count=4) == study[1]
    assert make_study(tmp_path / "other", {"synthetic": root / "lq"}, methods, count=4, seed=1) != study[1]


def test_shares_follow_the_votes_and_a_rater_who_fails_a_check_does_not_count(study):
    folder, trials = study
    files = [_votes(folder, trials, name, "alpha") for name in ("ann", "bob", "cy")]
    files += [_votes(folder, trials, "dan", "beta"), _votes(folder, trials, "eve", "beta", attentive=False)]
    found = tally(folder / "key.json", files)
    assert found.shares["all"]["alpha"].mean == 0.75
    assert found.shares["synthetic"]["beta"].mean == 0.25
    assert (found.raters, found.failed) == (["ann", "bob", "cy", "dan"], ["eve"])


def test_kappa_is_that_of_a_computed_case():
    # Two questions, three raters: agreement (1 + 1/3) / 2, chance (5/6)^2 + (1/6)^2.
    raters = [{0: "a", 1: "a"}, {0: "a", 1: "a"}, {0: "a", 1: "b"}]
    assert _fleiss_kappa(raters) == pytest.approx((2 / 3 - 26 / 36) / (1 - 26 / 36))
    assert _fleiss_kappa([{0: "a", 1: "b"}] * 2) == 1.0


def test_votes_of_another_study_and_two_files_of_one_rater_are_refused(study):
    folder, trials = study
    mine = _votes(folder, trials, "ann", "alpha")
    shutil.copy(mine, folder / "twice.json")
    with pytest.raises(ValueError, match="'ann' has another file"):
        tally(folder / "key.json", [mine, folder / "twice.json"])
    mine.write_text(mine.read_text().replace('"study": "', '"study": "x'))
    with pytest.raises(ValueError, match="votes of another study"):
        tally(folder / "key.json", [mine])


def test_a_method_that_lacks_an_image_is_named(study, root, tmp_path):
    (tmp_path / "beta" / "lake_0.png").unlink()
    methods = {name: tmp_path / name for name in ("alpha", "beta")}
    with pytest.raises(ValueError, match=r"method beta: 1 of 4 missing: lake_0"):
        make_study(tmp_path / "again", {"synthetic": root / "lq"}, methods, count=4)
