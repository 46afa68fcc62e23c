"""Reading the published RAM and DAPE files and the tag lists beside them."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from seesr_pl.files import MissingFile

TAG_LIST, THRESHOLDS = "ram_tag_list.txt", "ram_tag_list_threshold.txt"
_LISTS_ORIGIN = "folder ram/data of the RAM repository (github.com/xinyu1205/recognize-anything)"


def missing_ram_files(
    ram_path: str | Path,
    dape_path: str | Path | None = None,
    *,
    tag_list: str | Path | None = None,
    thresholds: str | Path | None = None,
) -> list[MissingFile]:
    """Which of the files that `RAM.from_official` would read do not exist, and where each is published."""
    ram_path = Path(ram_path)
    published = [
        (ram_path, "ram_swin_large_14m.pth, 5.6 GB, of xinyu1205/recognize-anything on Hugging Face", "ram_path"),
        (Path(tag_list or ram_path.parent / TAG_LIST), f"{TAG_LIST}, {_LISTS_ORIGIN}", "tag_list"),
        (Path(thresholds or ram_path.parent / THRESHOLDS), f"{THRESHOLDS}, {_LISTS_ORIGIN}", "thresholds"),
    ]
    if dape_path is not None:
        published.append((Path(dape_path), "DAPE.pth, 7 MB, published with the SeeSR weights", "dape_path"))
    return [
        MissingFile(str(path), origin, f"put it there or set {argument} to where it is")
        for path, origin, argument in published
        if not path.is_file()
    ]


def read_published(path: str | Path, *, trust: bool = False) -> dict[str, Tensor]:
    """The tensors of `ram_swin_large_14m.pth` or `DAPE.pth`, or of a safetensors file made of it, memory-mapped.

    RAM's file is a dict whose `model` is wanted; the optimizer state beside it is never read from the disk. DAPE's is
    flat. `trust` allows any pickle, which can run code: only for a file whose origin is sure.
    """
    content = _read(Path(path), trust=trust)
    state = content.get("model", content)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: no state dict in it, found {', '.join(map(str, list(content)[:5]))}")
    return dict(state)


def read_tags(path: str | Path) -> list[str]:
    """The tag names, one a line. Raises ValueError when one is empty or double."""
    tags = _lines(Path(path))
    if not all(tags) or len(set(tags)) != len(tags):
        raise ValueError(
            f"{path}: {len(tags)} lines, {len(set(tags))} different: a tag list has one tag a line, each once"
        )
    return tags


def read_thresholds(path: str | Path) -> list[float]:
    """The probability above which each tag is on, one a line, in the order of the tag list."""
    lines = _lines(Path(path))
    try:
        return [float(line) for line in lines]
    except ValueError as error:
        raise ValueError(f"{path}: {error}; a threshold list has one number a line") from error


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; it is published in the {_LISTS_ORIGIN}")
    return [line.strip() for line in path.read_text(encoding="utf-8").strip().split("\n")]


def _read(path: Path, *, trust: bool) -> Mapping[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # Files older than torch 1.6 are no zip archives and cannot be memory-mapped.
        content = torch.load(path, map_location="cpu", weights_only=not trust, mmap=zipfile.is_zipfile(path))
    except (RuntimeError, ValueError, KeyError, EOFError, OSError, pickle.UnpicklingError, SafetensorError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path}: {_unreadable(path)}; {reason}") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a dict of tensors")
    return content


def _unreadable(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(64)
    size = f"{path.stat().st_size:,} bytes"
    if start.startswith(b"version https://git-lfs"):
        return f"{size}, a Git LFS pointer instead of the weights: fetch the file itself"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return f"{size}, a web page instead of the weights: download the file itself"
    if start.startswith(b"PK") and not zipfile.is_zipfile(path):
        return f"{size}, a torch file that ends too early: download it again"
    if zipfile.is_zipfile(path):
        return f"{size}, holds more than tensors; if you are sure of its origin, convert it with --trust"
    return f"{size}, not a readable weights file"
