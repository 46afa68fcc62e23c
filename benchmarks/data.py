"""CPU time of each part of the input pipeline, one thread, and of the order and the index.

    OMP_NUM_THREADS=1 python benchmarks/data.py --images IMAGES --out DIR_benchmark

Sources are mosaics of 1500x1000 of the given images, as PNG and as JPEG at quality 95 (4:2:0 and 4:4:4). Times are
process CPU time (user + system) in ms a sample, mean and median, files in the page cache.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from seesr_pl.data import ShardDataset, ShardIndex, ShardSource, ShardWriter
from seesr_pl.data.decode import decode_rgb
from seesr_pl.data.order import EpochOrder
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
    parser.add_argument("--samples", type=int, default=200, help="measured for each row")
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
    """Pictures of 1500x1000, each of six of the folder's, cut to 500x500."""
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


if __name__ == "__main__":
    main()
