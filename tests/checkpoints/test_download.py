"""Published files are fetched from a server on this machine that breaks connections and serves a wrong file."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants
import pytest
from huggingface_hub.utils import close_session

from seesr_pl.checkpoints import download
from seesr_pl.checkpoints.published import Published

CONTENT = bytes(range(256)) * 400
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Hub(BaseHTTPRequestHandler):
    """Repositories of the hub: `good/one` breaks each connection after a while, `wrong/one` has another file."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, *, with_body):
        owner = self.path.split("/")[1]
        content = {"good": CONTENT, "whole": CONTENT, "wrong": CONTENT[::-1]}.get(owner)
        self.server.asked.append((self.command, owner, self.headers.get("Range", "")))
        if content is None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if first else 200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - first))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if with_body:
            breaks = owner == "good" and self.server.breaks > 0
            self.wfile.write(content[first : first + 40_000] if breaks else content[first:])
            if breaks:
                self.server.breaks -= 1
                self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked, server.breaks = [], 0
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(
        huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(
        huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 8_000
    )  # of whole chunks a download is resumed
    monkeypatch.setattr("time.sleep", lambda _: None)  # between two tries
    close_session()
    yield server
    server.shutdown()
    close_session()


def published(*owners, **facts):
    return Published("x", "file.bin", "here", addresses=tuple(f"{owner}/one" for owner in owners), **facts)


def fetch(folder, what):
    (file,) = download.wanted(what, folder / "file.bin")
    return download.fetch(file)


def test_a_broken_connection_is_taken_up_where_it_broke(hub, tmp_path):
    hub.breaks = 2
    fetch(tmp_path, published("good", size=len(CONTENT), sha256=SHA256))
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert [asked for asked in hub.asked if asked[:2] == ("GET", "good")] == [
        ("GET", "good", ""), ("GET", "good", "bytes=40000-"), ("GET", "good", "bytes=80000-")
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


def test_a_download_that_was_given_up_is_continued_by_the_next_command(hub, tmp_path):
    hub.breaks = 1
    what = published("good", size=len(CONTENT), sha256=SHA256)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch(tmp_path, what)
    assert not (tmp_path / "file.bin").exists()
    fetch(tmp_path, what)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert hub.asked[-1] == ("GET", "good", "bytes=40000-")


def test_a_file_without_a_known_hash_is_taken_as_it_comes_and_a_stale_part_is_not(hub, tmp_path):
    (tmp_path / ".file.bin.0.part").write_bytes(CONTENT * 2)
    fetch(tmp_path, published("whole"))
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def interrupt(_):
    raise KeyboardInterrupt


def test_a_moved_and_a_wrong_file_are_passed_over_for_the_next_address(hub, tmp_path):
    url = fetch(tmp_path, published("gone", "wrong", "whole", sha256=SHA256))
    assert url.endswith("/whole/one/resolve/main/file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_where_no_address_gives_the_file_each_is_told_with_its_reason(hub, tmp_path):
    with pytest.raises(OSError, match=r"no address gives it\n.*gone/one.*404(.|\n)*wrong/one.*: other content"):
        fetch(tmp_path, published("gone", "wrong", sha256=SHA256))
    assert not (tmp_path / "file.bin").exists()


def test_the_size_is_asked_before_anything_is_fetched(hub, tmp_path):
    (file,) = download.wanted(published("gone", "whole"), tmp_path / "file.bin")
    assert download.size_of(file) == len(CONTENT)
    assert {command for command, _, _ in hub.asked} == {"HEAD"}


def test_only_the_files_that_a_folder_lacks_are_wanted(tmp_path):
    what = Published("x", "folder", "here", parts=("a",), files=("a/one", "a/two"), addresses=("owner/repo/sub",))
    (tmp_path / "folder" / "a").mkdir(parents=True)
    (tmp_path / "folder" / "a" / "one").touch()
    (file,) = download.wanted(what, tmp_path / "folder")
    assert file.path == tmp_path / "folder" / "a" / "two"
    assert file.urls[0].endswith("/owner/repo/resolve/main/sub/a/two")
