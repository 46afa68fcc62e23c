"""The cache keeps within its bound, whoever writes, and lets the longest unread ranges go."""

import multiprocessing
import os

from seesr_pl.data.storage import RangeCache


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
