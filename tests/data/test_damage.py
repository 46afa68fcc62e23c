"""A damaged sample is replaced, the same way everywhere; too many of them stop the run, a few at its start do not."""

import logging
from pathlib import Path

import pytest
from stream_cases import dataset, equal

from seesr_pl.data import ShardDataset, ShardIndex, ShardWriter
from seesr_pl.data.damage import DamageLedger


def damage(pattern: str, keys: dict[str, bytes | None]) -> None:
    """Overwrite the image bytes of samples, the shard keeping its length."""
    for shard in sorted(Path(pattern).parent.glob("*.tar")):
        index = ShardIndex.from_bytes(shard.with_suffix(".tar.idx").read_bytes())
        data = bytearray(shard.read_bytes())
        for entry in (index[n] for n in range(len(index))):
            if entry.key in keys:
                data[entry.image.offset + 20 : entry.image.offset + 40] = b"?" * 20
        shard.write_bytes(data)


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


def test_a_damaged_sample_is_replaced_the_same_way_everywhere_and_logged_once(write_shards, caplog):
    urls, other = write_shards("a", 20), write_shards("b", 20)
    whole = dataset(urls, other)
    expected = [whole[position] for position in range(80)]
    damage(urls, {"a0003": None})
    with caplog.at_level(logging.WARNING):
        first, second = dataset(urls, other, max_bad_fraction=0.1), dataset(urls, other, max_bad_fraction=0.1)
        found = [first[position] for position in range(80)]
    assert [record.getMessage() for record in caplog.records if "a0003" in record.getMessage()].__len__() == 1
    assert "shard-000000.tar: a0003" in caplog.text
    assert first.damage.num_damaged == 1
    for position, (sample, sound) in enumerate(zip(found, expected, strict=True)):
        assert (sample.epoch, sample.sample_id) == (sound.epoch, sound.sample_id)
        if sound.key == "a0003":
            assert sample.key != "a0003"
            assert sample.key.startswith("a")
            assert equal(sample, second[position])
        else:
            assert equal(sample, sound)


def replacements(stream: ShardDataset, *, epochs: int) -> dict[tuple[int, int], int]:
    """The stored sample that fills each (epoch, slot) whose own one is damaged."""
    raws = [stream.raw(position) for position in range(epochs * len(stream))]
    return {(raw.epoch, raw.sample_id): raw.sample for raw in raws if raw.sample != raw.sample_id % len(stream.catalog)}


def test_replacements_come_from_the_samples_own_source_and_from_all_of_it(write_shards):
    a, b, c = (write_shards(name, 10) for name in "abc")
    damage(b, dict.fromkeys([f"b{number:04d}" for number in (0, 2, 5, 7)]))
    found = replacements(dataset(a, b, c, max_bad_fraction=1.0), epochs=20)
    assert len(found) == 4 * 20
    assert set(found.values()) == {11, 13, 14, 16, 18, 19}


def test_seed_epoch_and_slot_each_change_the_replacement(write_shards):
    urls = write_shards("a", 20)
    damage(urls, dict.fromkeys([f"a{number:04d}" for number in range(0, 20, 2)]))
    found, other = (replacements(dataset(urls, seed=seed, max_bad_fraction=1.0), epochs=2) for seed in (0, 1))
    slots = range(0, 20, 2)
    assert len({found[0, slot] for slot in slots}) > 3
    assert sum(found[0, slot] != found[1, slot] for slot in slots) > 5
    assert sum(found[0, slot] != other[0, slot] for slot in slots) > 5


def test_bytes_that_changed_since_they_were_indexed_are_not_given(write_shards):
    urls = write_shards("a", 6)
    damage(urls, {"a0002": None})
    stream = dataset(urls, max_bad_fraction=1.0)
    assert {stream.raw(position).key for position in range(6)} == {f"a{number:04d}" for number in (0, 1, 3, 4, 5)}


def test_an_empty_image_is_damaged(tmp_path, encoded, caplog):
    with ShardWriter(tmp_path) as writer:
        writer.write("empty", b"", extension="png")
        writer.write("sound", encoded(1), extension="png", tags="")
    stream = dataset(str(tmp_path / "*.tar"), max_bad_fraction=1.0)
    assert {stream[position].key for position in range(4)} == {"sound"}
    assert "it is empty" in caplog.text


def test_too_many_damaged_samples_stop_the_run_with_their_list(write_shards):
    urls = write_shards("a", 20)
    damage(urls, dict.fromkeys(["a0001", "a0007", "a0013"]))
    stream = dataset(urls, max_bad_fraction=0.1)
    with pytest.raises(ValueError, match=r"3 of 20 samples are damaged.*max_bad_fraction=0.1") as error:
        [stream[position] for position in range(20)]
    assert all(f": {key}" in str(error.value) for key in ("a0001", "a0007", "a0013"))


def test_a_shard_cut_short_gives_replacements(write_shards):
    urls = write_shards("a", 10)
    shard = Path(urls).parent / "shard-000001.tar"
    shard.write_bytes(shard.read_bytes()[:3000])
    stream = dataset(urls, max_bad_fraction=0.5)
    keys = {stream[position].key for position in range(10)}
    assert keys == {f"a{number:04d}" for number in range(5)}


def test_a_vanished_shard_is_waited_for_once_and_then_replaced(write_shards):
    urls = write_shards("a", 10)
    stream = dataset(urls, max_bad_fraction=0.5)
    (Path(urls).parent / "shard-000001.tar").unlink()
    assert {stream[position].key for position in range(10)} == {f"a{number:04d}" for number in range(5)}
    assert stream.damage.damaged() == [5, 6, 7, 8, 9]


def test_only_the_first_sample_of_a_vanished_shard_waits(write_shards, monkeypatch):
    urls = write_shards("a", 10)
    stream = dataset(urls, max_bad_fraction=0.5, num_retries=3)
    (Path(urls).parent / "shard-000001.tar").unlink()
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    assert len([stream.raw(position) for position in range(10)]) == 10
    assert waits == [0.01, 0.02, 0.04]


def test_a_shard_that_comes_back_in_time_is_read(write_shards, monkeypatch):
    urls = write_shards("a", 10)
    stream = dataset(urls, num_retries=3)
    shard = Path(urls).parent / "shard-000001.tar"
    shard.rename(shard.with_suffix(".away"))
    waits = []

    def come_back(seconds):
        waits.append(seconds)
        if len(waits) == 2:
            shard.with_suffix(".away").rename(shard)

    monkeypatch.setattr("seesr_pl.data.storage.time.sleep", come_back)
    assert len({stream[position].key for position in range(10)}) == 10
    assert waits == [0.01, 0.02]
