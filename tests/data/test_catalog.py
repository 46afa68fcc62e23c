"""Sources name shards; indexing says what it left out, verifying which samples are damaged."""

from pathlib import Path

import pytest

from seesr_pl.data import ShardSource


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
