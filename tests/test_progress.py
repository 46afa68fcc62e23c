"""The progress bar says how much is done of what, how fast, and what else is to be known."""

import re

import pytest

from seesr_pl.progress import bar, track


@pytest.mark.parametrize("unit", ["samples", "steps", "images"])
def test_a_bar_counts_units_with_a_rate_and_a_note(capsys, unit):
    with bar("working", 4, unit=unit) as shown:
        for number in range(4):
            shown.advance()
            shown.note(f"[{number}] damaged")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.search(rf"working .*4/4 {unit}, [\d.]+(/s| s each) ETA.*\[3\] damaged", printed.err.replace("\n", " "))


def test_items_are_gone_through_under_a_bar(capsys):
    assert list(track("abc", "reading", unit="samples")) == ["a", "b", "c"]
    assert "3/3 samples" in capsys.readouterr().err


def test_a_bar_of_bytes_learns_its_total_on_the_way(capsys):
    with bar("building", None, unit="bytes") as shown:
        shown.reach(1_500_000, 3_000_000)
    assert "1.5/3.0 MB" in capsys.readouterr().err


def test_a_bar_of_which_nothing_was_done_does_not_stand_above_the_refusal(capsys):
    def refused(done):
        with bar("working", 4, unit="images") as shown:
            shown.advance(done)
            raise ValueError("no")

    for done, expected in ((0, False), (1, True)):
        with pytest.raises(ValueError, match="no"):
            refused(done)
        assert ("working" in capsys.readouterr().err) == expected
