"""Remote shards are read by ranges, from real web, S3 and Google Cloud Storage servers on this machine."""

import re
import socket
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from seesr_pl.data import ShardDataset, ShardSource
from seesr_pl.data.catalog import index_shard
from seesr_pl.data.storage import RangeCache
from seesr_pl.degradation import NoDegradation


class RangeHandler(SimpleHTTPRequestHandler):
    """Serves files with Range, which the standard library's server lacks; `faults` requests fail first."""

    faults = 0
    ranges_sent = 0

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not asked or not path.is_file():
            return super().do_GET()
        if RangeHandler.faults > 0:
            RangeHandler.faults -= 1
            return self.send_error(503)
        first, last = int(asked[1]), int(asked[2])
        data = path.read_bytes()[first : last + 1]
        RangeHandler.ranges_sent += 1
        self.send_response(206)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        return self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def website(tmp_path):
    RangeHandler.faults = RangeHandler.ranges_sent = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: RangeHandler(*args, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def s3_options():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {"endpoint_url": f"http://{host}:{port}", "key": "key", "secret": "secret", "skip_instance_cache": True}
    server.stop()


@pytest.fixture(scope="module")
def google_options():
    with pytest.MonkeyPatch.context() as patch:
        # By default gcsfs first asks Google by gRPC what kind of bucket it has, and waits a minute for an answer.
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        emulator = pytest.importorskip("gcp_storage_emulator.server", reason="pip install gcp-storage-emulator")
        pytest.importorskip("gcsfs", reason="pip install gcsfs")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
        server.start()
        yield {"endpoint_url": f"http://127.0.0.1:{port}", "token": "anon", "skip_instance_cache": True}
        server.stop()


def open_stream(source: ShardSource, **options) -> ShardDataset:
    options = {"num_retries": 2, "first_wait_seconds": 0.01, **options}
    return ShardDataset([source], seed=0, crop_size=32, degradation=NoDegradation(), **options)


def samples(stream: ShardDataset, num: int = 12) -> list[tuple[int, bytes]]:
    return [(raw.sample_id, raw.image) for raw in (stream.raw(position) for position in range(num))]


def test_http_gives_the_samples_of_the_local_files(write_shards, website):
    local = open_stream(ShardSource(write_shards("a", 12)))
    remote = open_stream(ShardSource(website + "/a/shard-{000000..000002}.tar"))
    assert samples(remote) == samples(local)
    assert remote.fingerprint() == local.fingerprint()


def test_a_web_server_that_fails_for_a_moment_is_asked_again(write_shards, website):
    local = open_stream(ShardSource(write_shards("a", 12)))
    remote = open_stream(ShardSource(website + "/a/shard-{000000..000002}.tar"))
    RangeHandler.faults = 2
    assert samples(remote) == samples(local)
    assert remote.damage.num_damaged == 0


def test_a_web_server_that_goes_on_failing_gives_replacements(write_shards, website):
    write_shards("a", 12)
    remote = open_stream(ShardSource(website + "/a/shard-{000000..000002}.tar"), max_bad_fraction=1.0)
    RangeHandler.faults = 3
    assert len(samples(remote)) == 12
    assert remote.damage.num_damaged == 1


def test_a_web_server_without_ranges_is_told_so(write_shards, website, monkeypatch, caplog):
    write_shards("a", 12)
    remote = open_stream(ShardSource(website + "/a/shard-{000000..000002}.tar"), max_bad_fraction=0.0)
    monkeypatch.setattr(RangeHandler, "do_GET", SimpleHTTPRequestHandler.do_GET)
    with pytest.raises(ValueError, match="samples are damaged"):
        remote.raw(0)
    assert "must support ranges" in caplog.text


def test_a_range_is_fetched_once_with_a_cache(write_shards, website, tmp_path):
    local = open_stream(ShardSource(write_shards("a", 12)))
    cache = RangeCache(tmp_path / "cache", max_bytes=10_000_000)
    for _ in range(2):
        remote = open_stream(ShardSource(website + "/a/shard-{000000..000002}.tar"), cache=cache)
        assert samples(remote, 24) == samples(local, 24)
    # Each image and its tags once, although read in four epochs.
    assert RangeHandler.ranges_sent == 24


def test_a_cached_range_that_rotted_is_fetched_again(write_shards, website, tmp_path):
    local = open_stream(ShardSource(write_shards("a", 12)))
    cache = RangeCache(tmp_path / "cache", max_bytes=10_000_000)
    source = ShardSource(website + "/a/shard-{000000..000002}.tar")
    samples(open_stream(source, cache=cache))
    for path in (tmp_path / "cache").glob("??/*"):
        path.write_bytes(b"?" * path.stat().st_size)
    again = open_stream(source, cache=cache)
    assert samples(again) == samples(local)
    assert again.damage.num_damaged == 0


@pytest.mark.slow
def test_s3_is_listed_indexed_and_read(write_shards, s3_options):
    import s3fs

    filesystem = s3fs.S3FileSystem(**s3_options)
    filesystem.mkdir("bucket")
    check_bucket(filesystem, ShardSource("s3://bucket/a/*.tar", storage_options=s3_options), write_shards("a", 12))


@pytest.mark.slow
def test_google_storage_is_listed_indexed_and_read(write_shards, google_options):
    import gcsfs

    filesystem = gcsfs.GCSFileSystem(**google_options)
    check_bucket(filesystem, ShardSource("gs://bucket/a/*.tar", storage_options=google_options), write_shards("a", 12))


def check_bucket(filesystem, source: ShardSource, pattern: str) -> None:
    """Copy the local shards into the bucket, index them there and read them back."""
    for shard in Path(pattern).parent.glob("*.tar"):
        filesystem.pipe_file(f"bucket/a/{shard.name}", shard.read_bytes())
    assert sum(len(index_shard(url, source)) for url in source.shard_urls()) == 12
    remote = open_stream(source)
    assert remote.catalog.shards[0].url == source.urls.replace("*", "shard-000000")
    assert samples(remote) == samples(open_stream(ShardSource(pattern)))
    assert remote[5].hq.shape == (32, 32, 3)
    assert remote.damage.num_damaged == 0
