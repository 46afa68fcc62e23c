"""Shards are webdataset's tars; the index says where each sample's bytes lie."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset

from seesr_pl.data import ShardIndex, ShardWriter


@pytest.fixture
def shard(tmp_path, encoded) -> Path:
    with ShardWriter(tmp_path) as writer:
        for number in range(5):
            extension = ("png", "jpg", "webp")[number % 3]
            tags = "cat, dog," if number % 2 else None
            representation = np.full((2, 3), number, np.float16) if number > 2 else None
            writer.write(
                f"k{number}", encoded(number, extension), extension=extension, tags=tags, representation=representation
            )
        writer.write("long/" + "n" * 200, encoded(9), extension="png")
    return tmp_path / "shard-000000.tar"


def read_index(shard: Path) -> ShardIndex:
    return ShardIndex.from_bytes(shard.with_suffix(".tar.idx").read_bytes())


def test_the_index_points_at_the_bytes_of_each_sample(shard, encoded):
    index, data = read_index(shard), shard.read_bytes()
    assert len(index) == 6
    for number, extension in enumerate(["png", "jpg", "webp", "png", "jpg"]):
        entry = index[number]
        assert (entry.key, entry.extension, entry.width, entry.height) == (f"k{number}", extension, 48, 40)
        assert data[entry.image.offset :][: entry.image.size] == encoded(number, extension)
    assert data[index[1].tags.offset :][: index[1].tags.size] == b"cat, dog,"
    assert index[0].tags.offset == 0
    representation = data[index[3].representation.offset :][: index[3].representation.size]
    np.testing.assert_array_equal(np.load(io.BytesIO(representation)), np.full((2, 3), 3, np.float16))


def test_scanning_a_tar_gives_the_index_that_was_written_with_it(shard):
    with shard.open("rb") as file:
        assert ShardIndex.scan(file).to_bytes() == shard.with_suffix(".tar.idx").read_bytes()


def test_webdataset_reads_what_we_write(shard, encoded):
    samples = list(webdataset.WebDataset(str(shard), shardshuffle=False))
    assert [sample["__key__"] for sample in samples][:2] == ["k0", "k1"]
    assert samples[1]["jpg"] == encoded(1, "jpg")
    assert samples[1]["txt"] == b"cat, dog,"
    assert np.load(io.BytesIO(samples[4]["rep.npy"]))[0, 0] == 4


def test_we_index_what_webdataset_writes(tmp_path, encoded):
    path = tmp_path / "other.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for number in range(4):
            writer.write({"__key__": f"s/{number}", "cls": number, "png": encoded(number), "json": {"a": 1}})
        writer.write({"__key__": "no_image", "cls": 7})
    with path.open("rb") as file:
        index = ShardIndex.scan(file)
    data = path.read_bytes()
    assert [index[n].key for n in range(len(index))] == [f"s/{n}" for n in range(4)]
    assert data[index[2].image.offset :][: index[2].image.size] == encoded(2)


def test_scanning_a_truncated_tar_finds_what_is_whole(shard, tmp_path):
    index = read_index(shard)
    cut = tmp_path / "cut.tar"
    cut.write_bytes(shard.read_bytes()[: index[3].image.offset + 10])
    with cut.open("rb") as file:
        assert [entry.key for entry in ShardIndex.scan(file)] == ["k0", "k1", "k2"]


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: b"x" + d[1:], lambda d: d[:50] + b"?" + d[51:]])
def test_a_damaged_index_is_refused_with_the_way_to_mend_it(shard, damage):
    data = shard.with_suffix(".tar.idx").read_bytes()
    with pytest.raises(ValueError, match=r"seesr shards index a\.tar"):
        ShardIndex.from_bytes(damage(data), source="a.tar.idx")


def test_an_unfinished_shard_has_no_final_name(tmp_path, encoded):
    def fail_within() -> None:
        with ShardWriter(tmp_path, max_samples=2) as writer:
            for number in range(3):
                writer.write(f"k{number}", encoded(number), extension="png")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_within()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "shard-000000.tar",
        "shard-000000.tar.idx",
        "shard-000001.tar.tmp",
    ]


@pytest.mark.parametrize(("key", "extension"), [("a.b", "png"), ("", "png"), ("k0", "gif"), ("taken", "png")])
def test_keys_that_webdataset_would_misread_are_refused(tmp_path, encoded, key, extension):
    with ShardWriter(tmp_path) as writer:
        writer.write("taken", encoded(0), extension="png")
        with pytest.raises(ValueError, match=r"key=|extension="):
            writer.write(key, encoded(1), extension=extension)


def test_a_member_without_bytes_is_kept_as_a_sample(tmp_path):
    path = tmp_path / "empty.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"))
    with path.open("rb") as file:
        index = ShardIndex.scan(file)
    assert len(index) == 1
    assert index[0].image.size == 0
    assert index[0].image.offset == 512


def test_equal_samples_give_equal_files(tmp_path, encoded):
    for folder in ("one", "two"):
        with ShardWriter(tmp_path / folder) as writer:
            writer.write("k", encoded(0), extension="png", tags="cat", representation=np.ones((2, 3), np.float16))
    for name in ("shard-000000.tar", "shard-000000.tar.idx"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    with tarfile.open(tmp_path / "one" / "shard-000000.tar") as tar:
        assert {(info.mtime, info.uid, info.gid, info.uname, info.gname) for info in tar} == {(0, 0, 0, "", "")}


def test_scanning_says_which_members_no_sample_holds(tmp_path, encoded):
    path = tmp_path / "other.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("a.png", "a.txt", "a.seg.png", "b.v2.png", "c.png", "c.PNG", "d.png", ".e.png", "d.txt", "f.json"):
            info, data = tarfile.TarInfo(name), b"sky," if name.endswith(".txt") else encoded(0)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, kind in (("g.png", tarfile.LNKTYPE), ("h.jpg", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "a.png"
            tar.addfile(info)
    left_out = []
    with path.open("rb") as file:
        index = ShardIndex.scan(file, left_out=left_out)
    assert [index[number].name for number in range(len(index))] == ["a.png", "c.PNG", "d.png"]
    reasons = {str(name): reason for name, reason in left_out}
    assert set(reasons) == {"b.v2.png", "c.png", ".e.png", "d.txt", "g.png", "h.jpg"}
    assert "its extension is v2.png" in reasons["b.v2.png"]
    assert "must be neighbors" in reasons["d.txt"]
    assert "begins with a dot" in reasons[".e.png"]
    assert "has the same key and extension" in reasons["c.png"]
    assert all("a link to a.png" in reasons[name] for name in ("g.png", "h.jpg"))
