"""Stream many samples through kills and changing layouts, and check that none is lost, repeated or changed.

    python benchmarks/soak.py --samples 200000 --decode-every 10 --out DIR

Three sources of JPEG shards (one at weight 2), one in a hundred samples damaged. Ranks are processes with loader
workers of their own; all of them are killed with SIGKILL every few thousand samples and started again in another
layout from the last step that every rank had completed, as a training run is from its checkpoint. Of each position
the slot, the CRC-32 of the stored bytes and, of every n-th global batch, the CRC-32 of the degraded pair are
recorded. Samples that a killed attempt read after its checkpoint must be read again identically.
"""

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from torch.utils.data import DataLoader, Dataset

from seesr_pl.data import ShardDataset, ShardIndex, ShardSource, ShardWriter
from seesr_pl.keyed import numpy_generator

GLOBAL_BATCH = 24
SOURCES = {"many": (0.6, 1.0), "some": (0.3, 1.0), "few": (0.1, 2.0)}
LAYOUTS = [(1, 2, 24), (2, 1, 6), (3, 2, 8), (2, 3, 12), (1, 0, 12), (3, 1, 4), (1, 4, 8)]  # ranks, workers, micro
RECORD = np.dtype(
    [(name, "<i8") for name in ("position", "epoch", "sample_id", "sample", "bytes", "pixels", "memory", "reader")]
)
SEED = 11


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=200_000)
    parser.add_argument("--stored", type=int, default=10_000, help="samples in the shards")
    parser.add_argument("--decode-every", type=int, default=10, help="degrade one in so many global batches")
    parser.add_argument("--kill-every", type=int, default=5000, help="samples between kills, on average")
    parser.add_argument("--crop-size", type=int, default=512)
    parser.add_argument("--rank", type=json.loads, help="internal: run as one rank of an attempt")
    options = parser.parse_args()
    options.rank = options.rank and argparse.Namespace(**options.rank)
    if options.rank:
        run_rank(options)
        return
    began = time.time()
    damaged = write_sources(options.out, options.stored, options.crop_size)
    num_steps = -(-options.samples // GLOBAL_BATCH)
    table, attempts, replayed = run_attempts(options, num_steps)
    report = verify(options, table, damaged)
    report |= {"attempts": attempts, "replayed": replayed, "memory": memory(options.out, attempts)}
    report["seconds"] = round(time.time() - began)
    print(json.dumps(report, indent=2))


def write_sources(out: Path, num_stored: int, crop_size: int) -> set[str]:
    """Write the shards and damage one sample in a hundred; returns the damaged keys."""
    keys: set[str] = set()
    for name, (share, _) in SOURCES.items():
        folder = out / name
        if not folder.exists():
            with ShardWriter(folder, max_samples=200) as writer:
                for number in range(int(num_stored * share)):
                    writer.write(
                        f"{name}{number:06d}", unique_jpeg(name, number, crop_size), extension="jpg", tags=name
                    )
            for shard in sorted(folder.glob("*.tar")):
                damage(shard)
        keys |= set(json.loads((folder / "damaged.json").read_text()))
    return keys


def unique_jpeg(name: str, number: int, side: int) -> bytes:
    """One of 32 images, with a comment that makes the file unique."""
    coarse = numpy_generator(name, number % 32).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (side + 64, side + 32), interpolation=cv2.INTER_CUBIC)
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    comment = f"{name} {number}".encode()
    return data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[2:]


def damage(shard: Path) -> None:
    """Overwrite bytes of some samples, or cut off the last sample of the shard."""
    index = ShardIndex.from_bytes(shard.with_suffix(".tar.idx").read_bytes())
    data = bytearray(shard.read_bytes())
    generator = numpy_generator(shard.parent.name, shard.name, "damage")
    chosen = np.flatnonzero(generator.random(len(index)) < 0.01)
    keys = [index[int(number)].key for number in chosen]
    for number in chosen:
        entry = index[int(number)]
        data[entry.image.offset + 100 : entry.image.offset + 200] = bytes(100)
    if generator.random() < 0.2:
        last = index[len(index) - 1]
        data = data[: last.image.offset + 100]
        keys.append(last.key)
    shard.write_bytes(data)
    known = shard.parent / "damaged.json"
    before = json.loads(known.read_text()) if known.exists() else []
    known.write_text(json.dumps(sorted({*before, *keys})))


def module(options: argparse.Namespace, micro_batch_size: int | None = None, num_workers: int = 0):
    # Not at the top: each loader worker imports this file, and has no use for Lightning.
    from seesr_pl.data import ShardDataModule

    sources = [ShardSource(str(options.out / name / "*.tar"), weight=weight) for name, (_, weight) in SOURCES.items()]
    return ShardDataModule(
        sources,
        global_batch_size=GLOBAL_BATCH,
        micro_batch_size=micro_batch_size,
        num_workers=num_workers,
        seed=SEED,
        crop_size=options.crop_size,
        max_bad_fraction=0.05,
        num_retries=1,
        first_wait_seconds=0.01,
    )


class Recorded(Dataset):
    """Records instead of images: what is at a position, its checksums, and the memory of who read it."""

    def __init__(self, stream: ShardDataset, decode_every: int) -> None:
        self.stream = stream
        self.decode_every = decode_every

    def __getitem__(self, position: int) -> np.ndarray:
        raw = self.stream.raw(position)
        pixels = -1
        if position // GLOBAL_BATCH % self.decode_every == 0:
            sample = self.stream[position]
            pixels = zlib.crc32(sample.lq, zlib.crc32(sample.hq))
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        row = (position, raw.epoch, raw.sample_id, raw.sample, zlib.crc32(raw.image), pixels, resident, os.getpid())
        return np.array(row, dtype=RECORD)


def run_rank(options: argparse.Namespace) -> None:
    """Read this rank's share and append a record for each sample, a micro batch at a time."""
    rank = options.rank
    data = module(options, rank.micro, rank.workers)
    data.load_state_dict({**data.state_dict(), "samples_consumed": rank.start * GLOBAL_BATCH})
    loader = data.train_loader(rank=rank.number, world_size=rank.world_size, steps=(rank.start, rank.stop))
    recorded = DataLoader(
        Recorded(data.train_dataset, options.decode_every),
        batch_sampler=loader.batch_sampler,
        num_workers=rank.workers,
        collate_fn=np.stack,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
    )
    path = options.out / f"attempt{rank.attempt}-rank{rank.number}.bin"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for records in recorded:
        os.write(descriptor, records.tobytes())


def run_attempts(options: argparse.Namespace, num_steps: int) -> tuple[np.ndarray, int, int]:
    """Start, kill and start again until every step is done; returns the table of records by position."""
    table = np.full(num_steps * GLOBAL_BATCH, -2, dtype=RECORD)
    step, replayed = 0, 0
    for attempt, (world_size, workers, micro) in enumerate(itertools.cycle(LAYOUTS)):
        # The last quarter runs without a kill, for a long look at the memory.
        kills = step * GLOBAL_BATCH < 0.75 * options.samples
        after = numpy_generator("kill", attempt).integers(options.kill_every // 2, options.kill_every * 3 // 2)
        goal = min(num_steps, step + max(1, int(after) // GLOBAL_BATCH)) if kills else num_steps
        shared = {"attempt": attempt, "world_size": world_size, "workers": workers, "micro": micro}
        records = attempt_once(options, {**shared, "start": step, "stop": num_steps}, goal)
        read = np.concatenate(records)
        again = table["position"][read["position"]] >= 0
        compared = [name for name in RECORD.names if name not in ("memory", "reader")]
        same = all((table[name][read["position"][again]] == read[name][again]).all() for name in compared)
        assert same, f"attempt {attempt} read other samples than an earlier one at the same positions"
        replayed += int(again.sum())
        table[read["position"]] = read
        step += min(len(part) for part in records) // (GLOBAL_BATCH // world_size)
        print(f"attempt {attempt}: {world_size} ranks x {workers} workers, step {step} of {num_steps}", file=sys.stderr)
        if step >= num_steps:
            return table, attempt + 1, replayed
    raise AssertionError


def attempt_once(options: argparse.Namespace, shared: dict[str, int], goal: int) -> list[np.ndarray]:
    """Run the ranks until each has completed the step `goal`, kill them all, and read what they wrote."""
    arguments = [f"--out={options.out}", f"--decode-every={options.decode_every}", f"--crop-size={options.crop_size}"]
    paths = [options.out / f"attempt{shared['attempt']}-rank{n}.bin" for n in range(shared["world_size"])]
    ranks = []
    for number, path in enumerate(paths):
        path.unlink(missing_ok=True)
        rank = json.dumps({**shared, "number": number})
        ranks.append(subprocess.Popen([sys.executable, __file__, *arguments, f"--rank={rank}"]))
    enough = (goal - shared["start"]) * GLOBAL_BATCH // shared["world_size"] * RECORD.itemsize
    while any((path.stat().st_size if path.exists() else 0) < enough for path in paths):
        assert all(rank.poll() in (None, 0) for rank in ranks), "a rank failed"
        time.sleep(0.02)
    for rank in ranks:
        rank.send_signal(signal.SIGKILL)
        rank.wait()
    records = [whole_records(path) for path in paths]
    assert_gone({int(reader) for part in records for reader in np.unique(part["reader"])})
    return records


def assert_gone(readers: set[int]) -> None:
    """Check that the loader workers of killed ranks end by themselves."""
    give_up = time.time() + 120
    while alive := [reader for reader in readers if is_running(reader)]:
        assert time.time() < give_up, f"loader workers outlived their killed rank: {alive}"
        time.sleep(0.1)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def whole_records(path: Path) -> np.ndarray:
    data = path.read_bytes()
    return np.frombuffer(data[: len(data) // RECORD.itemsize * RECORD.itemsize], dtype=RECORD)


def verify(options: argparse.Namespace, table: np.ndarray, damaged: set[str]) -> dict[str, object]:
    """Compare every position with the order and the index, computed here, without loaders, once more."""
    stream = module(options).train_dataset
    length = len(stream)
    replaced = 0
    expected_crc = np.concatenate([shard.contents.records["image_crc32"] for shard in stream.catalog.shards])
    is_damaged = np.array([stream.catalog.find(n).entry.key in damaged for n in range(len(stream.catalog))])
    assert (table["position"] == np.arange(len(table))).all(), "a position was never read"
    for epoch in range(-(-len(table) // length)):
        part = table[epoch * length : (epoch + 1) * length]
        assert (part["epoch"] == epoch).all()
        counts = Counter(part["sample_id"].tolist())
        assert max(counts.values()) == 1, "a sample was given twice in an epoch"
        assert len(part) < length or len(counts) == length, "a sample was lost"
    own = table["sample_id"] % len(stream.catalog)
    replaced = table["sample"] != own
    assert (replaced == is_damaged[own]).all(), "not exactly the damaged samples were replaced"
    assert (table["bytes"] == expected_crc[table["sample"]]).all(), "bytes differ from those that were written"
    return {
        "samples": len(table),
        "epochs": round(len(table) / length, 2),
        "degraded": int((table["pixels"] >= 0).sum()),
        "damaged_stored": int(is_damaged.sum()),
        "replaced": int(replaced.sum()),
        "lost": 0,
        "twice": 0,
    }


def memory(out: Path, attempts: int) -> dict[str, float]:
    """Return the resident MB of the readers in the last, longest attempt: in its second tenth and in its last."""
    values = whole_records(out / f"attempt{attempts - 1}-rank0.bin")["memory"] / 1e6
    tenth = max(1, len(values) // 10)
    return {"second_tenth": round(float(values[tenth : 2 * tenth].max())), "last": round(float(values[-tenth:].max()))}


if __name__ == "__main__":
    main()
