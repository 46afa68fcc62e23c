"""Files are written whole or not at all, known again, found by one rule and required by one message."""

import os
import threading
from pathlib import Path

import pytest

from seesr_pl.files import MissingFile, Record, find_images, fingerprint, read_lines, require, versions, write_whole


def _listed(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.bin", b"old")

    def fail(draft: Path) -> None:
        draft.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "a.bin", fail)
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert _listed(tmp_path) == ["a.bin"]


def test_a_line_that_a_kill_cut_is_left_out_and_removed_by_the_writer_of_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    assert read_lines(path, repair=True) == []
    path.write_text('{"a": 1}\n{"a"')
    assert read_lines(path, repair=False) == [{"a": 1}]
    assert path.read_text() == '{"a": 1}\n{"a"'
    assert read_lines(path, repair=True) == [{"a": 1}]
    assert path.read_text() == '{"a": 1}\n'


def test_a_failed_folder_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    def fill(draft: Path) -> None:
        draft.mkdir()
        (draft / "one").write_text("1")

    def fail(draft: Path) -> None:
        fill(draft)
        raise ValueError("no")

    write_whole(tmp_path / "out", fill)
    with pytest.raises(ValueError, match="no"):
        write_whole(tmp_path / "out", fail)
    assert _listed(tmp_path) == ["out", "out/one"]


def test_a_file_that_need_not_be_durable_is_whole_or_absent_too_and_waits_for_no_disk(tmp_path, monkeypatch) -> None:
    waits: list[int] = []
    monkeypatch.setattr("seesr_pl.files.os.fsync", waits.append)
    write_whole(tmp_path / "kept.bin", b"x")
    assert len(waits) == 2

    def fail(draft: Path) -> None:
        draft.write_bytes(b"half")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write_whole(tmp_path / "cached.bin", fail, durable=False)
    write_whole(tmp_path / "cached.bin", b"whole", durable=False)
    assert len(waits) == 2
    assert (tmp_path / "cached.bin").read_bytes() == b"whole"
    assert _listed(tmp_path) == ["cached.bin", "kept.bin"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_whole(tmp_path / "out", lambda draft, name=name: (draft.mkdir(), (draft / name).touch()))
    assert _listed(tmp_path) == ["out", "out/second"]


def test_the_final_name_never_shows_half_a_file_to_a_reader(tmp_path: Path) -> None:
    path, sizes, stop = tmp_path / "a.bin", set(), threading.Event()
    write_whole(path, b"x" * 100_000)

    def read() -> None:
        while not stop.is_set():
            sizes.add(len(path.read_bytes()))

    reader = threading.Thread(target=read)
    reader.start()
    writers = [threading.Thread(target=write_whole, args=(path, bytes([65 + i]) * 100_000)) for i in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    stop.set()
    reader.join()
    assert sizes == {100_000}
    assert len(set(path.read_bytes())) == 1


def test_two_threads_that_write_one_file_have_a_draft_each(tmp_path: Path) -> None:
    drafts, both_wait = set(), threading.Barrier(2)

    def fill(draft: Path) -> None:
        drafts.add(draft)
        draft.write_bytes(b"x")
        both_wait.wait(timeout=60)

    writers = [threading.Thread(target=write_whole, args=(tmp_path / "a.bin", fill)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(drafts) == 2


def test_a_long_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("\u00fc" * 120 + ".txt")
    write_whole(path, "text")
    assert path.read_text() == "text"


def test_a_fingerprint_depends_on_each_fact_and_not_on_the_order_of_keys(tmp_path: Path) -> None:
    base = fingerprint({"a": 1, "b": [1.5, "x"]}, b"bytes")
    assert base == fingerprint({"b": [1.5, "x"], "a": 1}, b"bytes")
    others = [fingerprint({"a": 2, "b": [1.5, "x"]}, b"bytes"), fingerprint({"a": 1, "b": [1.5, "x"]}, b"byteS")]
    assert len({base, *others}) == 3


def test_a_path_counts_by_what_lies_there(tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    file.write_bytes(b"1")
    before = fingerprint(tmp_path), fingerprint(file)
    assert before == (fingerprint(tmp_path), fingerprint(file))
    file.write_bytes(b"12")
    assert fingerprint(tmp_path) != before[0]
    assert fingerprint(file) != before[1]
    assert fingerprint(str(file)) == fingerprint(str(file))


def test_a_record_holds_only_for_its_fingerprint(tmp_path: Path) -> None:
    record = Record.beside(tmp_path / "result.png")
    assert not record.holds("abc")
    record.write("abc", seed=3)
    assert record.path.name == "result.json"
    assert record.holds("abc")
    assert not record.holds("abd")
    assert record.read()["seed"] == 3
    for damaged in (b"{", b"[1]", b"\xff\xfe"):
        record.path.write_bytes(damaged)
        assert not record.holds("abc")


def test_a_folder_is_searched_through_links_once_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    (root / "sub.d").mkdir(parents=True)
    elsewhere.mkdir()
    for path in (root / "b.PNG", root / "sub.d" / "a.jpeg", elsewhere / "c.gif", root / "notes.txt"):
        path.write_bytes(b"x")
    (root / "._b.png").write_bytes(b"x")
    (root / "d.heic").write_bytes(b"x")
    (root / "gone.jpg").symlink_to(tmp_path / "nothing")
    (root / "link").symlink_to(elsewhere)
    (elsewhere / "loop").symlink_to(root)
    (root / "folder.jpg").mkdir()
    found = find_images(root)
    assert [str(image.place) for image in found.images] == ["b.PNG", "link/c.gif", "sub.d/a.jpeg"]
    reasons = {left.path.name: left.reason for left in found.left_out}
    assert set(reasons) == {"._b.png", "d.heic", "gone.jpg", "loop"}
    assert "AppleDouble" in reasons["._b.png"]
    assert "HEIC" in reasons["d.heic"].upper()
    assert reasons["gone.jpg"] == "a link to nothing"


def test_a_search_that_is_not_recursive_lists_the_folders_that_it_leaves_out(tmp_path: Path) -> None:
    for folder in (tmp_path / "more", tmp_path / "out"):
        folder.mkdir()
        (folder / "a.png").write_bytes(b"x")
    (tmp_path / "b.png").write_bytes(b"x")
    found = find_images(tmp_path, recursive=False, outside=tmp_path / "out")
    assert [str(image.place) for image in found.images] == ["b.png"]
    assert [(left.path.name, left.reason) for left in found.left_out] == [
        ("more", "a folder; only the files beside it are searched")
    ]


def test_results_below_the_folder_are_no_input(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for path in (tmp_path / "a.png", tmp_path / "out" / "a.png"):
        path.write_bytes(b"x")
    assert len(find_images(tmp_path).images) == 2
    assert [str(image.place) for image in find_images(tmp_path, outside=tmp_path / "out").images] == ["a.png"]


@pytest.mark.parametrize("name", ["a[1].png", "b*.png", "c?.png", "RealSR(V3).png", "d, e=f.png"])
def test_a_name_that_exists_is_meant_literally(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    (tmp_path / "a1.png").write_bytes(b"x")
    assert [image.path.name for image in find_images(tmp_path / name).images] == [name]


def test_a_pattern_finds_files_and_a_name_of_nothing_is_an_error(tmp_path: Path) -> None:
    for name in ("1.png", "2.png"):
        (tmp_path / name).write_bytes(b"x")
    assert len(find_images(f"{tmp_path}/*.png").images) == 2
    for nothing in ("none.png", "*.webp"):
        with pytest.raises(FileNotFoundError, match="does not exist"):
            find_images(tmp_path / nothing)


def test_the_home_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.png").write_bytes(b"x")
    assert len(find_images("~/a.png").images) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every folder")
def test_a_folder_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0)
    assert "cannot be opened" in find_images(tmp_path).left_out[0].reason


def test_one_message_names_all_that_is_missing() -> None:
    require([])
    files = [MissingFile("weights/a", "the hub", "seesr weights a"), MissingFile("weights/b", "a disk", "copy it")]
    with pytest.raises(FileNotFoundError) as raised:
        require([*files, files[0]], hint="copy the whole folder")
    message = str(raised.value)
    assert message.startswith("2 needed and not there")
    assert message.endswith("\ncopy the whole folder")
    for file in files:
        assert all(part in message for part in file)


def test_a_library_that_is_not_installed_has_no_version():
    assert list(versions(["torch", "no-such-library"])) == ["torch"]
