"""What a training command needs, and whether this machine gives it, found out before anything starts."""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from seesr_pl import config, launch
from seesr_pl.cli.doctor import Finding, free_gib, weights_at
from seesr_pl.files import MissingFile

if TYPE_CHECKING:
    from lightning import LightningModule

    from seesr_pl.training.estimate import Plan

_MEASURED = 24  # samples of the stream
_READ_BYTES = 64 * 2**20
_STACK, _RAM = "seesr_pl.checkpoints.load_stack", "seesr_pl.checkpoints.official_ram"


def examine(words: Sequence[str]) -> Iterator[Finding]:
    """Yield the findings about `python train.py WORDS`; raises ConfigError where that command is refused."""
    cfg = config.composed("train", launch.overrides(words, config.CONF, "train"))
    config.check(cfg)
    missing = config.missing_files(cfg)
    for file in missing:
        yield Finding(file.path, "broken: not there", " ".join(f"{file.fix}; {file.origin}".split()), broken=True)
    yield from _weights(cfg, missing)
    yield from _run(cfg, missing)


def _weights(cfg: DictConfig, missing: Sequence[MissingFile]) -> Iterator[Finding]:
    from seesr_pl.checkpoints.published import PUBLISHED

    lacking = {file.path for file in missing}
    for path in {Path(value) for _, value in config.leaves(config.plain(cfg.module)) if isinstance(value, str)}:
        known = [file for file in PUBLISHED.values() if file.name == path.name]
        if known and str(path) not in lacking and path.exists():
            yield weights_at(known[0], path)


def _run(cfg: DictConfig, missing: Sequence[MissingFile]) -> Iterator[Finding]:
    import torch
    from hydra.utils import instantiate

    from seesr_pl.training import notice
    from seesr_pl.training.estimate import plan

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module, data = _networks(cfg, absent=bool(missing)), instantiate(cfg.data, _convert_="all")
    devices = _devices(cfg)
    try:
        expected = plan(
            module,
            data,
            num_devices=devices,
            max_steps=cfg.trainer.max_steps,
            precision=str(cfg.trainer.get("precision", "32-true")),
            device=device,
        )
    except ValueError as error:
        keys = "trainer.precision" if "precision" in str(error) else "data.global_batch_size or trainer.devices"
        yield Finding("a step", f"broken: {error}", f"change {keys}", broken=True)
        return
    yield Finding("parameters", notice.parameters(module))
    yield Finding("a step", notice.step(expected))
    yield _memory(expected)
    yield Finding("speed", notice.speed(expected))
    yield _disk(cfg, expected)
    if not any("shards" in file.fix for file in missing):
        yield from _shards(data)
        yield _pipeline(data, expected)


def _networks(cfg: DictConfig, *, absent: bool) -> "LightningModule":
    """Return the module; where weights are absent, networks of the same sizes without data."""
    import torch
    from hydra.utils import instantiate

    from seesr_pl.checkpoints import random_stack

    node: Any = config.plain(cfg.module)
    node.pop("loss", None)
    if not absent:
        return instantiate(OmegaConf.create(node), _convert_="all")
    with torch.device("meta"):
        given: dict[str, Any] = {}
        if node.get("stack", {}).get("_target_") == _STACK:
            given["stack"] = random_stack()
        if node.get("ram", {}).get("_target_") == _RAM:
            given["ram"] = random_stack().ram
        rest = {name: value for name, value in node.items() if name not in given}
        return instantiate(OmegaConf.create({**rest, "_partial_": True}), _convert_="all")(**given)


def _devices(cfg: DictConfig) -> int:
    import torch

    named = cfg.trainer.devices
    present = max(1, torch.cuda.device_count())
    count = present if named in ("auto", -1) else len(named) if not isinstance(named, int | str) else int(named)
    return count * int(cfg.trainer.num_nodes)


def _memory(expected: "Plan") -> Finding:
    from seesr_pl.training import notice

    found = notice.memory_of(expected)
    if expected.available is not None and expected.memory.peak > expected.available:
        fix = (
            "module.gradient_checkpointing=true, a smaller data.max_micro_batch_size, or "
            "module.optimizer._target_=bitsandbytes.optim.AdamW8bit module.optimizer._partial_=true"
        )
        return Finding("memory of a device", f"broken: {found}", fix, broken=True)
    return Finding("memory of a device", found)


def _disk(cfg: DictConfig, expected: "Plan") -> Finding:
    """Compare the checkpoints that the run will keep with the free space."""
    from hydra.utils import instantiate

    held, kept = expected.memory, cfg.callbacks.get("kept")
    one = held.trainable + held.optimizer
    number = 3 + (instantiate(kept).most(expected.max_steps) if kept else 0)  # the last two, and a draft
    folder = Path(cfg.paths.outputs)
    free = free_gib(folder)
    found = f"{number} checkpoints of {one:.1f} GiB, {free:.0f} GiB free for {folder}/"
    if number * one > free:
        fix = "paths.outputs=DIR on a larger disk, or callbacks.kept.num_kept=N"
        return Finding("disk", f"broken: {found}", fix, broken=True)
    return Finding("disk", found)


def _shards(data: Any) -> Iterator[Finding]:
    """Count the samples of each source and measure how fast its first shard is read."""
    from fsspec.core import url_to_fs

    from seesr_pl.data.catalog import read_index

    for source in (*data.sources, *data.validation_sources):
        urls = source.shard_urls()
        files, path = url_to_fs(urls[0], **source.storage_options)
        begin = time.perf_counter()
        with files.open(path, "rb") as file:
            size = len(file.read(_READ_BYTES))
        speed = size / (time.perf_counter() - begin) / 1e6
        num_samples = sum(len(read_index(url, source)) for url in urls)
        yield Finding(source.label, f"{num_samples:,} samples in {len(urls)} shards, read at {speed:,.0f} MB/s")


def _pipeline(data: Any, expected: "Plan") -> Finding:
    """Compare what the loaders of one machine give, by a measurement on one core, with what its devices take."""
    dataset = data.train_dataset
    dataset[0]
    begin = time.perf_counter()
    for position in range(1, _MEASURED + 1):
        dataset[position % len(dataset)]
    each = _MEASURED / (time.perf_counter() - begin)
    cores = os.cpu_count() or 1
    workers = max(1, data.num_workers) * expected.num_devices
    given = each * min(workers, cores)
    found = f"{each:.1f} images/s a core, {given:.0f} with {workers} workers on {cores} cores"
    needed = expected.images_per_second
    if needed is None:
        return Finding("input pipeline", found)
    if given < needed:
        fix = "data.num_workers=N up to the cores of a device; smaller or tiled images (seesr shards build --tile)"
        return Finding("input pipeline", f"broken: {found}; {needed:.0f} are needed", fix, broken=True)
    return Finding("input pipeline", f"{found}; {needed:.0f} are needed")
