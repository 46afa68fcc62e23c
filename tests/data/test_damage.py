"""Too many damaged samples of those that were seen stop a run, and a few at its start do not."""

import pytest

from seesr_pl.data.damage import DamageLedger


def record(ledger: DamageLedger, samples: range) -> None:
    for sample in samples:
        ledger.record_damaged(sample, reason="torn", name=str)


def test_the_first_thousand_samples_count_as_seen_from_the_start():
    ledger = DamageLedger(5000, max_bad_fraction=0.01)
    record(ledger, range(10))
    with pytest.raises(ValueError, match="11 of 1000 samples are damaged"):
        record(ledger, range(10, 11))


def test_later_the_share_is_that_of_the_samples_seen():
    ledger = DamageLedger(5000, max_bad_fraction=0.01)
    for sample in range(100, 2100):
        ledger.record_sound(sample)
    record(ledger, range(20))
    with pytest.raises(ValueError, match="21 of 2021 samples"):
        record(ledger, range(20, 30))


def test_a_sample_met_again_counts_once():
    ledger = DamageLedger(100, max_bad_fraction=0.01)
    record(ledger, range(1))
    record(ledger, range(1))
    assert ledger.num_damaged == 1
