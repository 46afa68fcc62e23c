"""Sources name shards; indexing says what it left out, verifying which samples are damaged."""

from pathlib import Path

import pytest

from seesr_pl.data import ShardIndex, ShardSource
from seesr_pl.data.catalog import verify_shard


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


def test_verifying_goes_by_the_index_past_a_damaged_tar_header(write_shards):
    url = write_shards("a", 5).replace("*", "shard-000000")
    entry = ShardIndex.from_bytes(Path(url + ".idx").read_bytes())[2]
    data = bytearray(Path(url).read_bytes())
    data[entry.image.offset - 512 : entry.image.offset] = b"?" * 512
    Path(url).write_bytes(data)
    assert list(verify_shard(url, ShardSource(url))) == [None] * 5


def test_verifying_names_what_a_cut_shard_lacks_and_which_tags_changed(write_shards):
    url = write_shards("a", 5).replace("*", "shard-000000")
    index, data = ShardIndex.from_bytes(Path(url + ".idx").read_bytes()), bytearray(Path(url).read_bytes())
    data[index[1].tags.offset] ^= 1
    Path(url).write_bytes(data[: index[3].image.offset + 10])
    reasons = [damage and damage.reason for damage in verify_shard(url, ShardSource(url))]
    assert reasons[0] is reasons[2] is None
    assert "its bytes differ" in reasons[1]
    assert "truncated" in reasons[3]
    assert "truncated" in reasons[4]
