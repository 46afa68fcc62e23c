"""One image that fails never ends a batch; what is left out is said, and the exit code and the last line tell."""

import io
import os
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import seesr_pl.tiny
from seesr_pl.cli import commands
from seesr_pl.data.catalog import ShardSource, index_shard, read_index, verify_shard
from seesr_pl.data.shards import Member, SampleEntry, ShardIndex
from seesr_pl.files import find_images

RAM = Path(seesr_pl.tiny.__file__).parent / "assets" / "tiny_ram"


def save(path, size=(20, 16), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)


def run(*words):
    return CliRunner().invoke(commands, [str(word) for word in words], env={"COLUMNS": "300"})


@pytest.fixture
def restore(weights):
    quick = ["--steps", 1, "--guidance", 1, "--devices", "cpu", "--process-size", 16]
    return lambda *words: run("restore", *words, "--ckpt", weights, *quick)


@pytest.fixture
def folder(tmp_path):
    """Three sound images, and what lies in real folders beside them."""
    folder = tmp_path / "in"
    for name in ("a.png", "b.jpg/inside.png", "z.png"):
        save(folder / name)
    (folder / "._a.png").write_bytes(b"\x00\x05\x16\x07" + bytes(200))
    (folder / "dangling.png").symlink_to(folder / "nowhere.png")
    (folder / "text.png").write_text("no image")
    os.mkfifo(folder / "pipe.png")
    return folder


def test_restore_does_what_can_be_done(restore, folder, tmp_path):
    result = restore(folder, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.output.strip().splitlines()[-1] == "3 restored, 0 kept, 1 failed, 3 left out"
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.png")) == ["a.png", "inside.png", "z.png"]


def test_tag_does_what_can_be_done(folder, tmp_path):
    result = run("tag", folder, "--out", tmp_path / "out", "--ram", RAM, "--device", "cpu")
    assert result.exit_code == 1
    assert result.output.strip().splitlines()[-1].endswith("out, 1 failed, 3 left out")
    assert result.output.strip().splitlines()[-1].startswith("3 images tagged")
    assert "text.png: " in result.output
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.txt")) == ["a.txt", "inside.txt", "z.txt"]


def test_tagging_only_a_broken_file_fails(tmp_path):
    (tmp_path / "broken.png").write_text("no image")
    assert run("tag", tmp_path / "broken.png", "--out", tmp_path, "--ram", RAM, "--device", "cpu").exit_code == 1


def test_one_rule_says_which_images_are_meant(folder):
    reasons = {left.path.name: left.reason for left in find_images(folder).left_out}
    assert reasons == {
        "._a.png": "macOS metadata (AppleDouble), no image",
        "dangling.png": "a link to nothing",
        "pipe.png": "no ordinary file",
    }


def test_an_image_too_wide_for_webp_is_told_before_it_is_restored(restore, tmp_path):
    save(tmp_path / "in" / "a.png")
    save(tmp_path / "in" / "b.png", (4100, 16))
    save(tmp_path / "in" / "c.png")
    result = restore(tmp_path / "in", "--out", tmp_path / "out", "--format", "webp")
    assert result.exit_code == 1
    assert "16400x64 pixels; WEBP holds 16383 a side at most, use png" in " ".join(result.output.split())
    assert sorted(path.name for path in (tmp_path / "out").glob("*.webp")) == ["a.webp", "c.webp"]


def test_a_result_that_cannot_be_written_costs_itself_alone(restore, tmp_path):
    save(tmp_path / "in" / "a.png")
    save(tmp_path / "in" / "b.png")
    (tmp_path / "out" / "a.png" / "below").mkdir(parents=True)
    result = restore(tmp_path / "in", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "1 restored, 0 kept, 1 failed" in result.output
    assert (tmp_path / "out" / "b.png").is_file()


def test_the_folder_of_the_results_may_be_that_of_the_images(restore, tmp_path):
    save(tmp_path / "a.jpg")
    save(tmp_path / "b.jpg", seed=1)
    assert "2 restored" in restore(tmp_path, "--out", tmp_path).output
    again = restore(tmp_path, "--out", tmp_path)
    assert again.exit_code == 0, again.exception
    assert "0 restored, 2 kept, 0 failed" in again.output


def member(tar, name, data=b"", kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def image(tmp_path):
    save(tmp_path / "x.png")
    return (tmp_path / "x.png").read_bytes()


@pytest.fixture
def shard(tmp_path, image):
    """A tar of three samples, of which two have one key, and of what belongs to no sample."""
    path = tmp_path / "dup-000000.tar"
    with tarfile.open(path, "w") as tar:
        for key in ("a", "b", "a"):
            member(tar, f"{key}.png", image)
            member(tar, f"{key}.txt", b"\xef\xbb\xbfsky, sea," if key == "b" else b"caf\xe9,")
        member(tar, "far.txt", b"sky,")
        member(tar, "22.05.png", image)
        member(tar, "link.png", kind=tarfile.LNKTYPE, link="a.png")
    return path


def test_a_shard_is_tagged_whatever_its_keys_and_the_next_one_too(shard, tmp_path, image):
    with tarfile.open(tmp_path / "next-000000.tar", "w") as tar:
        member(tar, "n.png", image)
    (tmp_path / "out" / "cut").mkdir(parents=True)
    result = run(
        "tag", tmp_path / "dup-000000.tar", tmp_path / "next-000000.tar", "--out", tmp_path / "out", "--ram", RAM
    )
    assert result.exit_code == 0, result.output
    assert "4 images tagged" in result.output
    for name in ("far.txt", "22.05.png", "link.png", "a.txt"):
        assert f"dup-000000.tar: {name}" in result.output
    with (tmp_path / "out" / "dup-000000.tar").open("rb") as file:
        copy = ShardIndex.scan(file)
    assert [copy[position].key for position in range(3)] == ["a", "b", "a"]
    assert not list((tmp_path / "out").glob("*.tmp"))


def test_a_shard_that_cannot_be_written_leaves_nothing_and_the_next_is_tagged(shard, tmp_path, image):
    with tarfile.open(tmp_path / "next-000000.tar", "w") as tar:
        member(tar, "n.png", image)
    (tmp_path / "out" / "dup-000000.tar.tmp").mkdir(parents=True)
    result = run("tag", shard, tmp_path / "next-000000.tar", "--out", tmp_path / "out", "--ram", RAM)
    assert result.exit_code == 1, result.output
    assert "1 images tagged" in result.output
    assert "the shard is not tagged" in result.output
    assert (tmp_path / "out" / "next-000000.tar").is_file()


def test_a_file_that_is_no_tar_is_left_out(tmp_path, image):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(image)
    (tmp_path / "in" / "b.tar").write_bytes(b"no tar")
    (tmp_path / "in" / "b.tar.idx").write_bytes(b"no index")
    result = run("tag", tmp_path / "in", "--out", tmp_path / "out", "--ram", RAM)
    assert result.exit_code == 0, result.output
    assert "1 images tagged" in result.output
    assert "1 left out" in result.output


def test_tags_that_are_no_text_are_said_by_index_and_verify_alike(shard, tmp_path):
    source, left_out = ShardSource(str(shard)), []
    index_shard(str(shard), source, left_out=left_out)
    assert [str(left.path) for left in left_out].count("a.txt") == 2
    entries = read_index(str(shard), source)
    assert [entries[position].tags.size for position in range(3)] == [0, 12, 0]
    assert list(verify_shard(str(shard), source)) == [None, None, None]


def test_verify_knows_what_training_will_refuse(shard, tmp_path):
    """An index of an earlier version holds tags of any encoding."""
    data = shard.read_bytes()
    with tarfile.open(shard) as tar:
        image, tags = (_member_of(data, next(info for info in tar if info.name == name)) for name in ("a.png", "a.txt"))
    entry = SampleEntry("a.png", image, 20, 16, tags)
    Path(f"{shard}.idx").write_bytes(ShardIndex.from_entries([entry]).to_bytes())
    (damage,) = verify_shard(str(shard), ShardSource(str(shard)))
    assert "no UTF-8 text" in damage.reason


def _member_of(data, info):
    content = data[info.offset_data : info.offset_data + info.size]
    return Member(info.offset_data, info.size, zlib.crc32(content))
