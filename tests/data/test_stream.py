"""What is at a position of the stream depends on nothing but the shards, the seed and the arguments."""

from pathlib import Path

import numpy as np
import pytest
import torch
from stream_cases import dataset, equal

from seesr_pl.data import ShardDataset, ShardSource, ShardWriter
from seesr_pl.data.stream import collate
from seesr_pl.degradation import NoDegradation, RealESRGANDegradation


class Recorder(NoDegradation):
    """Draws nothing, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked = []

    def sample(self, seed, epoch, index):
        self.asked.append((seed, epoch, index))
        return super().sample(seed, epoch, index)


@pytest.fixture
def alike(tmp_path, encoded) -> str:
    """Eight samples of one image, so that only chance tells their crops apart."""
    with ShardWriter(tmp_path / "alike", max_samples=3) as writer:
        for number in range(8):
            writer.write(f"a{number}", encoded(0), extension="png")
    return str(tmp_path / "alike" / "*.tar")


def test_a_sample_is_the_same_in_any_reader_and_order(write_shards):
    urls = write_shards("a", 12)
    forwards = dataset(urls, degradation=RealESRGANDegradation())
    backwards = dataset(urls, degradation=RealESRGANDegradation())
    late = {position: backwards[position] for position in reversed(range(30))}
    assert all(equal(forwards[position], late[position]) for position in range(30))


def test_epochs_draw_crops_and_degradations_anew(write_shards):
    stream = dataset(write_shards("a", 4), degradation=RealESRGANDegradation())
    first, second = ({s.sample_id: s for s in (stream[p] for p in range(e * 4, e * 4 + 4))} for e in (0, 1))
    assert {s.epoch for s in first.values()} == {0}
    assert {s.epoch for s in second.values()} == {1}
    assert not any(np.array_equal(first[name].lq, second[name].lq) for name in first)


def crops(urls: str, *, epochs=1, seed=0, weight=1.0) -> dict[tuple[int, int], bytes]:
    """The pixels of each (epoch, slot), cropped and nothing else drawn."""
    source = ShardSource(urls, weight=weight)
    stream = ShardDataset([source], seed=seed, crop_size=32, degradation=NoDegradation())
    samples = [stream[position] for position in range(epochs * len(stream))]
    return {(sample.epoch, sample.sample_id): sample.hq.tobytes() for sample in samples}


def test_seed_epoch_and_slot_each_change_the_crop_where_the_degradation_is_fixed(alike):
    found, other = crops(alike, epochs=2), crops(alike, seed=1)
    assert len({found[0, slot] for slot in range(8)}) > 4
    assert sum(found[0, slot] != found[1, slot] for slot in range(8)) > 4
    assert sum(found[0, slot] != other[0, slot] for slot in range(8)) > 4


def test_a_second_visit_in_an_epoch_is_cropped_anew(alike):
    found = crops(alike, weight=2.0)
    assert sum(found[0, slot] != found[0, slot + 8] for slot in range(8)) > 4


def test_the_degradation_is_asked_for_seed_epoch_and_slot_whatever_the_crop(alike):
    degradation = Recorder()
    source = ShardSource(alike, weight=2.0)
    stream = ShardDataset([source], seed=7, crop_size=32, crop="resize", degradation=degradation)
    samples = [stream[position] for position in range(32)]
    assert degradation.asked == [(7, sample.epoch, sample.sample_id) for sample in samples]
    assert {(epoch, slot) for _, epoch, slot in degradation.asked} == {(e, slot) for e in (0, 1) for slot in range(16)}


def test_seed_epoch_and_slot_each_change_the_degradation_where_the_crop_is_fixed(alike):
    def degraded(seed: int) -> dict[tuple[int, int], bytes]:
        stream = dataset(alike, seed=seed, crop="resize", degradation=RealESRGANDegradation())
        return {(s.epoch, s.sample_id): s.lq.tobytes() for s in (stream[position] for position in range(16))}

    found, other = degraded(0), degraded(1)
    assert len(set(found.values())) == 16
    assert not any(found[0, slot] == other[0, slot] for slot in range(8))


def test_an_epoch_comes_in_another_order_than_the_one_before(write_shards):
    stream = dataset(write_shards("a", 12))
    first, second = ([stream.slot(position)[1] for position in range(e * 12, e * 12 + 12)] for e in (0, 1))
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second


def test_a_sample_visited_twice_an_epoch_is_drawn_twice(write_shards):
    urls = write_shards("a", 3)
    stream = ShardDataset([ShardSource(urls, weight=2)], seed=0, crop_size=32, degradation=RealESRGANDegradation())
    samples = [stream[position] for position in range(6)]
    assert len({sample.sample_id for sample in samples}) == 6
    twins = [sample for sample in samples if sample.key == samples[0].key]
    assert len(twins) == 2
    assert not np.array_equal(twins[0].lq, twins[1].lq)


def test_images_leave_as_uint8_with_tags_and_severity(write_shards):
    stream = dataset(write_shards("a", 4), degradation=RealESRGANDegradation())
    batch = collate([stream[0], stream[1]])
    assert batch["hq"].dtype == batch["lq"].dtype == torch.uint8
    assert batch["hq"].shape == (2, 32, 32, 3)
    assert batch["lq"].shape == (2, 8, 8, 3)
    assert batch["tags"] == [f"tag {int(key[1:])}" for key in batch["key"]]
    assert batch["sample_id"].dtype == batch["epoch"].dtype == torch.int64
    assert ((batch["severity"] > 0) & (batch["severity"] <= 1)).all()


def test_validation_reads_in_stored_order_with_one_draw_for_good(write_shards):
    stream = dataset(write_shards("a", 7), shuffle=False)
    assert [stream[position].key for position in range(7)] == [f"a{number:04d}" for number in range(7)]
    assert equal(stream[3], dataset(write_shards("a", 7), shuffle=False)[3])


def test_a_limit_takes_the_first_samples(write_shards):
    urls = write_shards("a", 12)
    stream = ShardDataset([ShardSource(urls, limit=7)], seed=0, degradation=NoDegradation(), crop_size=32)
    assert {stream[position].key for position in range(7)} == {f"a{number:04d}" for number in range(7)}
    assert len(stream) == 7


def test_the_fingerprint_changes_with_weights_limits_and_samples(write_shards):
    a, b = write_shards("a", 9), write_shards("b", 9)
    sources = [ShardSource(a), ShardSource(a, weight=2), ShardSource(a, limit=8), ShardSource(b)]
    options = {"seed": 0, "crop_size": 32, "degradation": NoDegradation()}
    assert len({ShardDataset([source], **options).fingerprint() for source in sources}) == 4
    assert 0 <= dataset(a).fingerprint() < 2**63


def test_a_sample_without_tags_or_with_empty_ones_is_sound(tmp_path, encoded):
    with ShardWriter(tmp_path) as writer:
        writer.write("none", encoded(0), extension="png")
        writer.write("empty", encoded(1), extension="png", tags="")
    stream = dataset(str(tmp_path / "*.tar"), max_bad_fraction=0.0)
    assert {(stream[position].key, stream[position].tags) for position in range(2)} == {("none", ""), ("empty", "")}


def test_a_shard_without_index_names_the_command(write_shards):
    urls = write_shards("a", 3)
    (Path(urls).parent / "shard-000000.tar.idx").unlink()
    with pytest.raises(ValueError, match="seesr shards index"):
        dataset(urls)
