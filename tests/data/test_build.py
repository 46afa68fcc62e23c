"""Folders and archives become shards; what is left out is reported; a killed build goes on."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from seesr_pl.data import ShardIndex
from seesr_pl.data import build as build_module
from seesr_pl.data.build import build_shards
from seesr_pl.data.decode import decode_rgb
from seesr_pl.data.prepare import BuildOptions
from seesr_pl.imaging.io import write_image


@pytest.fixture
def folder(tmp_path, encoded) -> Path:
    root = tmp_path / "in"
    for number in range(14):
        kind = ("png", "jpg", "webp")[number % 3]
        path = root / ("deep/er" if number % 2 else "flat") / f"{number:02d}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(number, kind, size=(60 + number, 50)))
    return root


def samples(out: Path) -> list[tuple[str, bytes]]:
    found = []
    for shard in sorted(out.glob("*.tar")):
        index, data = ShardIndex.from_bytes(shard.with_suffix(".tar.idx").read_bytes()), shard.read_bytes()
        entries = [index[number] for number in range(len(index))]
        found += [(entry.name, data[entry.image.offset :][: entry.image.size]) for entry in entries]
    return found


def test_files_keep_their_own_bytes_in_sorted_order(folder, tmp_path):
    report = build_shards([folder], tmp_path / "out", options=BuildOptions(shard_size=4))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert [data for _, data in samples(tmp_path / "out")] == [path.read_bytes() for path in files]
    assert (report["images"], report["samples"], report["shards"], report["skipped"]) == (14, 14, 4, 0)
    assert samples(tmp_path / "out")[0][0] == "00000000-deep_er_01.jpg"


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tgz", "zip"])
def test_an_archive_gives_what_its_folder_gives(folder, tmp_path, kind):
    archive = tmp_path / f"set.{kind}"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as target:
            for path in files:
                target.write(path, path.relative_to(folder))
    else:
        with tarfile.open(archive, "w" if kind == "tar" else "w:gz") as target:
            for path in files:
                target.add(path, path.relative_to(folder))
    build_shards([archive], tmp_path / "out", options=BuildOptions())
    assert [data for _, data in samples(tmp_path / "out")] == [path.read_bytes() for path in files]


def test_unreadable_small_and_repeated_files_are_reported(folder, tmp_path, encoded):
    (folder / "flat/90.jpg").write_bytes(encoded(90, "jpg")[:500])
    (folder / "flat/91.png").write_bytes(encoded(91, size=(49, 500)))
    (folder / "flat/92.png").write_bytes((folder / "flat/00.png").read_bytes())
    (folder / "flat/93.png").write_bytes(b"")
    (folder / "flat/notes.json").write_text("{}")
    report = build_shards([folder], tmp_path / "out", options=BuildOptions(min_side=50))
    reasons = {entry["name"]: entry["reason"] for entry in report["left_out"]}
    assert set(reasons) == {"flat/90.jpg", "flat/91.png", "flat/92.png", "flat/93.png"}
    assert reasons["flat/90.jpg"].startswith("unreadable")
    assert reasons["flat/91.png"] == "too small: 49x500"
    assert reasons["flat/92.png"] == "duplicate of flat/00.png"
    assert json.loads((tmp_path / "out/report.json").read_text()) == report


def test_a_damaged_archive_gives_what_precedes_the_damage(folder, tmp_path):
    archive = tmp_path / "set.tar"
    with tarfile.open(archive, "w") as target:
        for path in sorted(folder.glob("flat/*")):
            target.add(path, path.name)
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    report = build_shards([archive], tmp_path / "out", options=BuildOptions())
    assert 0 < report["images"] < 7
    assert "damaged" in report["left_out"][0]["reason"]


def test_large_images_become_tiles_that_cover_them(tmp_path, encoded):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/large.png").write_bytes(encoded(1, size=(130, 75)))
    (tmp_path / "in/small.png").write_bytes(encoded(2, size=(70, 70)))
    report = build_shards([tmp_path / "in"], tmp_path / "out", options=BuildOptions(tile=36))
    tiles = {name: decode_rgb(data) for name, data in samples(tmp_path / "out")}
    whole = decode_rgb(encoded(1, size=(130, 75)))
    rows = [np.hstack([tiles[f"00000000-large_{row}_{column}.png"] for column in range(3)]) for row in range(2)]
    np.testing.assert_array_equal(np.vstack(rows), whole)
    assert min(min(tile.shape[:2]) for tile in tiles.values()) >= 36
    assert (report["images"], report["samples"]) == (2, 7)


def test_a_limit_takes_the_first_images(folder, tmp_path):
    report = build_shards([folder], tmp_path / "out", options=BuildOptions(limit=5))
    assert report["images"] == len(samples(tmp_path / "out")) == 5


@pytest.mark.parametrize("encode", ["jpg", "png", "webp"])
def test_encoding_anew_keeps_the_picture(folder, tmp_path, encode):
    build_shards([folder], tmp_path / "out", options=BuildOptions(encode=encode, quality=100))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for (name, data), path in zip(samples(tmp_path / "out"), files, strict=True):
        assert name.endswith(f".{encode}")
        np.testing.assert_allclose(decode_rgb(data).astype(int), decode_rgb(path.read_bytes()).astype(int), atol=4)


def test_jpeg_encoded_anew_keeps_its_chroma_whole(folder, tmp_path):
    build_shards([folder], tmp_path / "out", options=BuildOptions(encode="jpg"))
    assert {simplejpeg.decode_jpeg_header(data)[3] for _, data in samples(tmp_path / "out")} == {"444"}


def test_webp_of_quality_100_is_lossless(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "noise.png", noise)
    build_shards([tmp_path / "in"], tmp_path / "out", options=BuildOptions(encode="webp", quality=100))
    ((name, data),) = samples(tmp_path / "out")
    assert name.endswith(".webp")
    np.testing.assert_array_equal(decode_rgb(data), noise)


@pytest.mark.parametrize("killed_after", range(0, 20, 3))
def test_a_killed_build_goes_on_and_ends_the_same(folder, tmp_path, monkeypatch, killed_after, encoded):
    (folder / "flat/92.png").write_bytes((folder / "flat/00.png").read_bytes())
    (folder / "deep/bad.png").write_bytes(encoded(1)[:100])
    options = BuildOptions(shard_size=4)
    whole = build_shards([folder], tmp_path / "whole" / "out", options=options)
    calls = []
    take = build_module._take

    def die(*arguments):
        calls.append(1)
        if len(calls) > killed_after:
            raise KeyboardInterrupt
        take(*arguments)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(build_module, "_take", die)
        try:
            build_shards([folder], out, options=options)
        except KeyboardInterrupt:
            with (out / "build.jsonl").open("a") as journal:
                journal.write('{"inputs": 99, "ima')
    assert build_shards([folder], out, options=options) == whole
    assert samples(out) == samples(tmp_path / "whole" / "out")
    assert not list(out.glob("*.tmp"))
    assert build_shards([folder], out, options=options) == whole


def test_another_build_in_the_same_folder_is_refused(folder, tmp_path):
    build_shards([folder], tmp_path / "out", options=BuildOptions(shard_size=4))
    with pytest.raises(ValueError, match="other sources or options"):
        build_shards([folder], tmp_path / "out", options=BuildOptions(shard_size=5))


def test_a_source_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        build_shards([tmp_path / "nowhere"], tmp_path / "out", options=BuildOptions())


@pytest.mark.parametrize("change", ["added", "removed", "resized"])
def test_a_build_whose_inputs_changed_is_refused_and_loses_nothing(folder, tmp_path, change, encoded):
    build_shards([folder], tmp_path / "out", options=BuildOptions())
    before = samples(tmp_path / "out")
    first = min(path for path in folder.rglob("*") if path.is_file())
    if change == "added":
        (folder / "aaa.png").write_bytes(encoded(99, "png", size=(60, 50)))
    elif change == "removed":
        first.unlink()
    else:
        first.write_bytes(first.read_bytes() + b"0")
    with pytest.raises(ValueError, match="their files have changed"):
        build_shards([folder], tmp_path / "out", options=BuildOptions())
    assert samples(tmp_path / "out") == before


def test_shards_inside_their_own_source_are_refused(folder):
    with pytest.raises(ValueError, match="lies in the source"):
        build_shards([folder], folder / "out", options=BuildOptions())


def test_a_damaged_member_of_a_zip_is_left_out_alone(tmp_path, encoded):
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for number in range(3):
            target.writestr(f"{number}.png", encoded(number, "png", size=(60, 50)))
    with zipfile.ZipFile(archive) as source:
        start = source.getinfo("1.png").header_offset + 60
    data = bytearray(archive.read_bytes())
    data[start : start + 100] = np.random.default_rng(0).bytes(100)
    archive.write_bytes(data)
    report = build_shards([archive], tmp_path / "out", options=BuildOptions())
    assert report["images"] == 2
    assert [entry["name"] for entry in report["left_out"]] == ["set/1.png"]


def test_a_build_follows_links_and_reports_what_its_search_left_out(folder, tmp_path, encoded):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "far.png").write_bytes(encoded(50))
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    (folder / "gone.png").symlink_to(tmp_path / "nothing.png")
    (folder / "._00.png").write_bytes(b"metadata")
    (folder / "phone.HEIC").write_bytes(b"heic")
    report = build_shards([folder], tmp_path / "out", options=BuildOptions())
    assert any(name == "00000014-linked_far.png" for name, _ in samples(tmp_path / "out"))
    reasons = {entry["name"]: entry["reason"] for entry in report["left_out"]}
    assert set(reasons) == {"loop", "gone.png", "._00.png", "phone.HEIC"}
    assert reasons["gone.png"] == "a link to nothing"
    assert (report["images"], report["skipped"]) == (15, 4)
    assert "searched already" in reasons["loop"]
    assert "AppleDouble" in reasons["._00.png"]
    assert build_shards([folder], tmp_path / "out", options=BuildOptions()) == report


def test_a_source_may_be_a_pattern(folder, tmp_path):
    report = build_shards([folder / "flat" / "*.png"], tmp_path / "out", options=BuildOptions())
    assert report["images"] == len(list((folder / "flat").glob("*.png"))) > 0


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_a_link_within_an_archive_is_reported(folder, tmp_path, kind):
    archive = tmp_path / "set.tar"
    with tarfile.open(archive, "w") as target:
        target.add(folder / "flat/00.png", "a.png")
        link = tarfile.TarInfo("b.png")
        link.type, link.linkname = kind, "a.png"
        target.addfile(link)
    report = build_shards([archive], tmp_path / "out", options=BuildOptions())
    assert report["images"] == 1
    (entry,) = report["left_out"]
    assert entry["name"] == "set/b.png"
    assert "a link to a.png within the archive" in entry["reason"]


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_what_an_archive_holds_and_is_no_readable_image_is_reported(tmp_path, encoded, kind):
    members = {"a.png": encoded(0), "__MACOSX/._a.png": b"metadata", "b.heic": b"heic", "notes.txt": b"text"}
    archive = tmp_path / f"set.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as target:
            for name, data in members.items():
                target.writestr(name, data)
    else:
        with tarfile.open(archive, "w") as target:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                target.addfile(info, io.BytesIO(data))
    report = build_shards([archive], tmp_path / "out", options=BuildOptions())
    reasons = {entry["name"]: entry["reason"] for entry in report["left_out"]}
    assert report["images"] == 1
    assert set(reasons) == {"set/__MACOSX/._a.png", "set/b.heic"}
    assert "AppleDouble" in reasons["set/__MACOSX/._a.png"]
    assert ".heic is not read here" in reasons["set/b.heic"]
