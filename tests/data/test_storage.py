"""Ranges of open files are read again after a failure; the cache keeps within its bound, whoever writes."""

import io
import multiprocessing
import os

import pytest

from seesr_pl.data.storage import RangeCache, read_from, read_small, write_small


def kept_bytes(folder) -> int:
    return sum(path.stat().st_size for path in folder.glob("??/*"))


def test_the_bound_holds_and_the_longest_unread_go_first(tmp_path):
    cache = RangeCache(tmp_path, max_bytes=1000)
    for offset in range(10):
        cache.put("u", b"x" * 100, offset=offset)
        for path in tmp_path.glob("??/*"):
            os.utime(path, (path.stat().st_mtime - 10,) * 2)
    assert kept_bytes(tmp_path) == 1000
    assert cache.get("u", offset=0, size=100) == b"x" * 100
    cache.put("u", b"y" * 100, offset=10)
    assert kept_bytes(tmp_path) <= 1000
    assert cache.get("u", offset=10, size=100) == b"y" * 100
    assert cache.get("u", offset=0, size=100) is not None
    assert cache.get("u", offset=1, size=100) is None


def test_what_is_larger_than_the_bound_is_not_kept(tmp_path):
    cache = RangeCache(tmp_path, max_bytes=50)
    cache.put("u", b"x" * 51, offset=0)
    assert kept_bytes(tmp_path) == 0


def test_a_range_of_another_url_or_place_is_another(tmp_path):
    cache = RangeCache(tmp_path, max_bytes=1000)
    cache.put("u", b"abc", offset=5)
    assert cache.get("u", offset=5, size=3) == b"abc"
    assert cache.get("u", offset=6, size=3) is None
    assert cache.get("v", offset=5, size=3) is None
    cache.drop("u", offset=5, size=3)
    assert cache.get("u", offset=5, size=3) is None


def _fill(folder, name):
    cache = RangeCache(folder, max_bytes=5000)
    for offset in range(100):
        cache.put(name, b"z" * 100, offset=offset)


def test_the_bound_holds_for_several_processes(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_fill, args=(tmp_path, str(number))) for number in range(3)]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        assert kept_bytes_now(tmp_path) <= 5000
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert kept_bytes(tmp_path) <= 5000


def kept_bytes_now(folder) -> int:
    total = 0
    for path in list(folder.glob("??/*")):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


class Failing(io.BytesIO):
    """A file whose first reads fail with an error that is no OSError, as some client libraries raise."""

    faults = 0

    def read(self, size=-1):
        if self.faults > 0:
            self.faults -= 1
            raise RuntimeError("lost")
        return super().read(size)


def test_a_range_of_an_open_file_is_read_once_more_after_a_failure(monkeypatch):
    monkeypatch.setattr("seesr_pl.data.storage.time.sleep", lambda seconds: None)
    file = Failing(b"0123456789")
    file.faults = 1
    assert read_from(file, offset=3, size=4) == b"3456"
    file.faults = 2
    with pytest.raises(OSError, match="RuntimeError: lost"):
        read_from(file, offset=3, size=4)
    with pytest.raises(ValueError, match="ends 2 bytes before"):
        read_from(file, offset=8, size=4)


def test_a_small_file_is_written_whole_here_and_elsewhere(tmp_path):
    for url in (str(tmp_path / "a.idx"), f"file://{tmp_path}/b.idx", "memory://c/d.idx"):
        write_small(url, b"index", storage_options={})
        assert read_small(url, storage_options={}) == b"index"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.idx", "b.idx"]
