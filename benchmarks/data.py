"""CPU time of each part of the input pipeline, one thread, and of the order, the index and the tar's writer and reader.

    OMP_NUM_THREADS=1 python benchmarks/data.py --images IMAGES --out DIR_benchmark

Sources are mosaics of 1500x1000 of the given images, as PNG and as JPEG at quality 95 (4:2:0 and 4:4:4). Times are
process CPU time (user + system) in ms per sample, mean and median, files in the page cache. The readers of whole shards
are compared on the same shard, sound and with one tar header overwritten in the middle, here and behind a web server
that answers each request after 20 ms.
"""

import argparse
import io
import re
import statistics
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import fsspec
import numpy as np
import torch
from webdataset.tariterators import group_by_keys, tar_file_expander

from seesr_pl.data import ShardDataset, ShardIndex, ShardSource, ShardWriter
from seesr_pl.data.catalog import read_index, verify_shard
from seesr_pl.data.decode import decode_rgb
from seesr_pl.data.order import EpochOrder
from seesr_pl.data.storage import RangeReader
from seesr_pl.degradation import NoDegradation, RealESRGANDegradation

SIDE = 500
FORMATS = {
    "jpeg 4:2:0": ("jpg", [cv2.IMWRITE_JPEG_QUALITY, 95]),
    "jpeg 4:4:4": (
        "jpg",
        [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
    ),
    "png": ("png", []),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of at least six images of 500x500")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=200, help="samples measured for each row")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    images = mosaics(options.images)
    print("| source | KB | read | + decode | + crop | + degrade | of these with sharpening |\n|" + " --- |" * 7)
    for name, (extension, parameters) in FORMATS.items():
        urls = write(options.out / name.replace(" ", "_").replace(":", ""), images, extension, parameters)
        print(f"| {name} | " + " | ".join(row(urls, options.samples)) + " |")
    sizes = [[100] * 850, [100] * 100]
    order = EpochOrder(sizes, [1.0, 1.0], seed=0)
    whole = milliseconds(lambda _: [order.slot(1, position) for position in range(len(order))], 1)
    print(f"\norder of {len(order)} samples in 950 shards, each position asked: {whole[0]:.0f} ms")
    shard = next((options.out / "png").glob("*.tar"))
    with shard.open("rb") as file:
        scan = milliseconds(lambda _: (file.seek(0), ShardIndex.scan(file)), 3)
    print(f"index of a tar of {shard.stat().st_size / 1e6:.0f} MB (reads and checks all bytes): {scan[0]:.0f} ms")
    compare_writers(options.out)
    compare_readers(options.out / "readers")


def row(urls: str, num_samples: int) -> list[str]:
    plain, sharp = (stream(urls, RealESRGANDegradation(sharpen=sharpen)) for sharpen in (False, True))
    nothing = stream(urls, NoDegradation())
    size = sum(len(nothing.raw(position).image) for position in range(len(nothing))) / len(nothing) / 1e3
    encoded = [nothing.raw(position).image for position in range(len(nothing))]
    times = [
        milliseconds(plain.raw, num_samples),
        milliseconds(lambda position: decode_rgb(encoded[position % len(encoded)]), num_samples),
        milliseconds(nothing.__getitem__, num_samples),
        milliseconds(plain.__getitem__, num_samples),
        milliseconds(sharp.__getitem__, num_samples),
    ]
    times[1] = times[0] + times[1]
    return [f"{size:.0f}", *(f"{time.mean():.1f} ({statistics.median(time):.1f})" for time in times)]


def stream(urls: str, degradation) -> ShardDataset:
    return ShardDataset([ShardSource(urls)], degradation=degradation, seed=0)


def milliseconds(work: Callable[[int], object], times: int) -> np.ndarray:
    work(0)
    found = []
    for position in range(times):
        began = time.process_time()
        work(position)
        found.append((time.process_time() - began) * 1e3)
    return np.array(found)


def mosaics(folder: Path) -> list[np.ndarray]:
    """Make images of 1500x1000, each of six images of the folder cut to 500x500."""
    images = []
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in (".png", ".jpg")):
        image = cv2.imread(str(path))
        if image is None or min(image.shape[:2]) < SIDE:
            print(f"{path.name} is left out: " + ("unreadable" if image is None else f"smaller than {SIDE}x{SIDE}"))
        else:
            images.append(image[:SIDE, :SIDE])
    if len(images) < 6:
        raise SystemExit(f"{folder} holds {len(images)} images of at least {SIDE}x{SIDE}; give a folder of six")
    groups = [images[first : first + 6] for first in range(0, len(images) - 5, 6)]
    return [np.vstack([np.hstack(group[:3]), np.hstack(group[3:])]) for group in groups]


def write(folder: Path, images: list[np.ndarray], extension: str, parameters: list[int]) -> str:
    with ShardWriter(folder) as writer:
        for number, image in enumerate(images):
            encoded = cv2.imencode(f".{extension}", image, parameters)[1].tobytes()
            writer.write(f"{number:04d}", encoded, extension=extension)
    return str(folder / "*.tar")


def compare_writers(folder: Path, num: int = 3000) -> None:
    """Time a shard of `num` samples of 20 kB and tags by `ShardWriter`, and by the standard library alone."""
    image, tags = np.random.default_rng(0).bytes(20_000), "cat, dog"

    def standard(_: int) -> None:
        with tarfile.open(folder / "standard.tar", "w") as tar:
            for number in range(num):
                for extension, data in (("jpg", image), ("txt", tags.encode())):
                    info = tarfile.TarInfo(f"{number:04d}.{extension}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))

    def ours(_: int) -> None:
        with ShardWriter(folder / "writer", max_samples=num) as writer:
            for number in range(num):
                writer.write(f"{number:04d}", image, extension="jpg", tags=tags)

    times = [milliseconds(work, 3).mean() / num for work in (standard, ours)]
    same = (folder / "standard.tar").read_bytes() == (folder / "writer" / "shard-000000.tar").read_bytes()
    print(f"\nwriting a sample: tarfile alone {times[0]:.3f} ms, ShardWriter (TarWriter, index) {times[1]:.3f} ms")
    print(f"the tars are {'equal' if same else 'different'}")


def compare_readers(folder: Path, num: int = 300) -> None:
    """Print the samples found and the seconds taken by each way to read a whole shard, images decoded."""
    ways: dict[str, Callable[[str], int]] = {
        "index, one open file (verify)": lambda url: sum(not damage for damage in verify_shard(url, ShardSource(url))),
        "index, a range for each member": by_ranges,
        "webdataset's reader": by_webdataset,
    }
    with ShardWriter(folder, max_samples=num) as writer:
        for number in range(num):
            coarse = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            image = cv2.imencode(".jpg", cv2.resize(coarse, (256, 256)))[1].tobytes()
            writer.write(f"{number:04d}", image, extension="jpg", tags="cat, dog")
    sound, damaged = folder / "shard-000000.tar", folder / "damaged.tar"
    index = ShardIndex.from_bytes(sound.with_suffix(".tar.idx").read_bytes())
    header = index[num // 2].image.offset - tarfile.BLOCKSIZE
    data = sound.read_bytes()
    damaged.write_bytes(data[:header] + b"?" * tarfile.BLOCKSIZE + data[header + tarfile.BLOCKSIZE :])
    damaged.with_suffix(".tar.idx").write_bytes(index.to_bytes())
    print(f"\n| reader of {num} samples | disk | with a damaged header | web server |\n|" + " --- |" * 4)
    with slow_server(folder) as server:
        for name, way in ways.items():
            cells = [f"{found} in {seconds:.2f} s" for found, seconds in map(way_timed(way), (sound, damaged))]
            found, seconds = way_timed(way)(f"{server}/{sound.name}")
            print(f"| {name} | {' | '.join(cells)} | {found} in {seconds:.2f} s |")


def by_ranges(url: str) -> int:
    reader, index, num_sound = RangeReader(), read_index(url, ShardSource(url)), 0
    for entry in (index[position] for position in range(len(index))):
        for member in (entry.tags, entry.image):
            data = reader.read(url, offset=member.offset, size=member.size, storage_options={})
        num_sound += decode_rgb(data).size > 0
    return num_sound


def by_webdataset(url: str) -> int:
    num_sound = 0
    with fsspec.open(url, "rb") as file:
        try:
            for sample in group_by_keys(tar_file_expander([{"url": url, "stream": file}])):
                num_sound += decode_rgb(sample["jpg"]).size > 0
        except (tarfile.ReadError, ValueError):
            pass  # it cannot continue after a damaged header
    return num_sound


def way_timed(way: Callable[[str], int]) -> Callable[[object], tuple[int, float]]:
    def timed(url: object) -> tuple[int, float]:
        began = time.perf_counter()
        return way(str(url)), time.perf_counter() - began

    return timed


@contextmanager
def slow_server(folder: Path) -> Iterator[str]:
    """Serve files with ranges, each request answered after 20 ms."""

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(0.02)
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            data = Path(self.translate_path(self.path)).read_bytes()
            first, last = (int(asked[1]), int(asked[2])) if asked else (0, len(data) - 1)
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(data[first : last + 1])))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            self.end_headers()
            self.wfile.write(data[first : last + 1])

        def log_message(self, *args) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: Handler(*args, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    main()
