"""The lists of mutants still fit: each has its one place, changes it to Python, and names tests that exist."""

import importlib.util
import re
import sys

import pytest
from places import ROOT

_spec = importlib.util.spec_from_file_location("mutants", ROOT / "scripts" / "mutants.py")
mutants = importlib.util.module_from_spec(_spec)
sys.modules["mutants"] = mutants
_spec.loader.exec_module(mutants)

LISTED = mutants.read_lists(mutants.LISTS)
SOURCES = mutants.read_sources(ROOT / "src")


@pytest.mark.parametrize("mutant", LISTED, ids=lambda mutant: mutant.label)
def test_a_listed_mutant_has_one_place_and_is_python(mutant):
    path, text = mutants.mutated(mutant, SOURCES)
    compile(text, str(path), "exec")


@pytest.mark.parametrize("mutant", LISTED, ids=lambda mutant: mutant.label)
def test_a_listed_mutant_names_tests_that_exist(mutant):
    assert mutant.tests
    for test in mutant.tests:
        file, *names = re.sub(r"\[.*", "", test).split("::")
        assert (ROOT / file).is_file()
        assert all(re.search(rf"^\s*(def|class) {name}\b", (ROOT / file).read_text(), re.MULTILINE) for name in names)
