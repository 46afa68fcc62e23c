"""What is at a position of the stream depends on nothing but the shards, the seed and the arguments."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from seesr_pl.data import ShardDataset, ShardIndex, ShardSource, ShardWriter
from seesr_pl.data.stream import collate
from seesr_pl.degradation import NoDegradation, RealESRGANDegradation


def dataset(*urls: str, seed=0, **options) -> ShardDataset:
    options = {"crop_size": 32, "degradation": NoDegradation(), "num_retries": 1, "first_wait_seconds": 0.01, **options}
    return ShardDataset([ShardSource(pattern) for pattern in urls], seed=seed, **options)


def damage(pattern: str, keys: dict[str, bytes | None]) -> None:
    """Overwrite the image bytes of samples, the shard keeping its length."""
    for shard in sorted(Path(pattern).parent.glob("*.tar")):
        index = ShardIndex.from_bytes(shard.with_suffix(".tar.idx").read_bytes())
        data = bytearray(shard.read_bytes())
        for entry in (index[n] for n in range(len(index))):
            if entry.key in keys:
                data[entry.image.offset + 20 : entry.image.offset + 40] = b"?" * 20
        shard.write_bytes(data)


def equal(first, second) -> bool:
    images = np.array_equal(first.hq, second.hq) and np.array_equal(first.lq, second.lq)
    return images and first[2:] == second[2:]


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


def test_a_sample_without_tags_or_with_empty_ones_is_sound(tmp_path, encoded):
    with ShardWriter(tmp_path) as writer:
        writer.write("none", encoded(0), extension="png")
        writer.write("empty", encoded(1), extension="png", tags="")
    stream = dataset(str(tmp_path / "*.tar"), max_bad_fraction=0.0)
    assert {(stream[position].key, stream[position].tags) for position in range(2)} == {("none", ""), ("empty", "")}


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


def test_a_shard_without_index_names_the_command(write_shards):
    urls = write_shards("a", 3)
    (Path(urls).parent / "shard-000000.tar.idx").unlink()
    with pytest.raises(ValueError, match="seesr shards index"):
        dataset(urls)


def test_braces_and_globs_expand(write_shards):
    folder = Path(write_shards("a", 20)).parent
    assert len(ShardSource(str(folder / "shard-{000000..000002}.tar")).shard_urls()) == 3
    assert len(ShardSource([str(folder / "shard-00000[01].tar"), str(folder / "*3.tar")]).shard_urls()) == 3
    with pytest.raises(ValueError, match="no shard matches"):
        ShardSource(str(folder / "none-*.tar")).shard_urls()
    with pytest.raises(ValueError, match="listed twice"):
        ShardSource([str(folder / "*.tar"), str(folder / "*0.tar")]).shard_urls()


def test_missing_shards_are_named_with_the_way_to_make_them(write_shards, tmp_path):
    there = write_shards("a", 3)
    assert ShardSource.missing_files(there) == []
    (missing,) = ShardSource.missing_files([there, str(tmp_path / "lsdir/*.tar"), "s3://far/*.tar"], name="lsdir")
    assert missing.path.endswith("lsdir/*.tar")
    assert missing.origin == "data/lsdir.yaml"
    assert "seesr shards build" in missing.fix
