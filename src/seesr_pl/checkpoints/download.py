"""Fetch published files: several addresses in turn, continued where a download broke, compared with their hash."""

import os
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import constants, get_hf_file_metadata, get_token, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.file_download import http_get

from seesr_pl.checkpoints.published import Published

# The bases are OSError and the errors of the HTTP client that this version of the hub's library uses.
_NOT_REACHED: tuple[Any, ...] = (*HfHubHTTPError.__bases__, HTTPException)


class Wanted(NamedTuple):
    """A file that is not there: what it is part of, its place, and its urls in the order in which they are tried."""

    published: Published
    path: Path
    urls: tuple[str, ...]


def wanted(published: Published, place: str | Path) -> list[Wanted]:
    """Return the files of `published` that are not at `place`, the path of its file or folder."""
    place = Path(place)
    files = {name: place / name for name in published.files} or {Path(published.name).name: place}
    return [
        Wanted(published, path, tuple(_url(address, name) for address in published.addresses))
        for name, path in files.items()
        if not path.is_file()
    ]


def page(address: str) -> str:
    """Return the page of an address of `Published`, for a person to look at."""
    return address if address.startswith("https://") else f"{constants.ENDPOINT}/{address}"


def size_of(file: Wanted) -> int | None:
    """Return the size in bytes: the published one, or what the first url that answers says; None if none does."""
    if file.published.size is not None:
        return file.published.size
    for url in file.urls:
        try:
            return _size(url)
        except _NOT_REACHED:
            continue
    return None


def fetch(file: Wanted) -> str:
    """Download `file` to its place, whole and compared with what is published, and return the url that gave it.

    A download that broke, or was stopped, leaves `.NAME.NUMBER.part` beside the place, from which it is continued.
    Raises OSError, with each url and what came of it, if none gives the file.
    """
    file.path.parent.mkdir(parents=True, exist_ok=True)
    parts = [file.path.with_name(f".{file.path.name}.{number}.part") for number in range(len(file.urls))]
    reasons = []
    for url, part in zip(file.urls, parts, strict=True):
        try:
            _download(url, part)
        except _NOT_REACHED as error:
            reasons.append(f"{url}: {' '.join(str(error).split())[:200]}")
            continue
        if difference := "" if file.published.files else file.published.difference(part):
            part.unlink()  # a wrong file is of no use to continue from
            reasons.append(f"{url}: {difference}")
            continue
        os.replace(part, file.path)
        for other in parts:
            other.unlink(missing_ok=True)
        return url
    raise OSError("\n  ".join([f"{file.path}: no address gives it", *reasons]))


def _url(address: str, name: str) -> str:
    if address.startswith("https://"):
        return f"{address}/{name}"
    kind = "space" if address.startswith("spaces/") else "model"
    owner, repository, *folder = address.removeprefix("spaces/").split("/")
    return hf_hub_url(f"{owner}/{repository}", "/".join([*folder, name]), repo_type=kind)


def _token(url: str) -> bool | None:
    """Return None, which stands for the user's token, for urls of the hub, and False for all others."""
    return None if url.startswith(constants.ENDPOINT) else False


def _size(url: str) -> int | None:
    return get_hf_file_metadata(url, token=_token(url)).size


def _download(url: str, part: Path) -> None:
    size = _size(url)
    if size is not None and part.is_file() and part.stat().st_size > size:
        part.unlink()  # of another version of the file
    token = get_token() if _token(url) is None else None
    with part.open("ab") as file:
        http_get(
            url,
            file,
            resume_size=file.tell(),
            headers={"Authorization": f"Bearer {token}"} if token else {},
            expected_size=size,
            displayed_filename=part.name.removeprefix(".").rsplit(".", 2)[0],
        )
