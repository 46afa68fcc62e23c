"""`seesr shards`: what build, index, verify and show leave on the disk and say."""

import io
import json
import re
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from seesr_pl.cli.shards import app
from seesr_pl.data import ShardDataset, ShardIndex, ShardSource
from seesr_pl.degradation import BicubicDegradation, RealESRGANDegradation

CONF = Path(__file__).resolve().parents[2] / "conf" / "degradation"


@pytest.fixture
def folder(tmp_path) -> Path:
    """Nine images of three formats, a copy of one, one that is too small and a text called png."""
    random = np.random.default_rng(0)
    (tmp_path / "in" / "below").mkdir(parents=True)
    for number in range(9):
        image = cv2.resize(random.integers(0, 256, (6, 8, 3), dtype=np.uint8), (90, 70 + number))
        kind = ("png", "jpg", "webp")[number % 3]
        target = tmp_path / "in" / ("below" if number % 2 else "") / f"{number}.{kind}"
        target.write_bytes(cv2.imencode(f".{kind}", image)[1].tobytes())
    (tmp_path / "in" / "again.png").write_bytes((tmp_path / "in" / "0.png").read_bytes())
    (tmp_path / "in" / "small.png").write_bytes(cv2.imencode(".png", image[:30])[1].tobytes())
    (tmp_path / "in" / "text.png").write_text("no image")
    return tmp_path / "in"


@pytest.fixture
def shards(folder, tmp_path) -> Path:
    run("build", folder, tmp_path / "out", "--shard-size", 4, "--min-side", 64)
    return tmp_path / "out"


def run(*words, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def members(shards: Path) -> dict[str, bytes]:
    found = {}
    for shard in sorted(shards.glob("*.tar")):
        with tarfile.open(shard) as tar:
            found |= {member.name: tar.extractfile(member).read() for member in tar}
    return found


def contents(shards: Path, suffix: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in shards.glob(f"*{suffix}")}


def test_build_keeps_the_files_bytes_and_reports_what_it_left_out(folder, shards):
    files = {path.read_bytes() for path in folder.rglob("*.*") if path.stem.isdecimal()}
    assert set(members(shards).values()) == files
    assert len(files) == 9
    assert len(contents(shards, ".tar")) == len(contents(shards, ".tar.idx")) == 3
    report = json.loads((shards / "report.json").read_text())
    left_out = {Path(item["name"]).name: item["reason"].split(":")[0] for item in report["left_out"]}
    assert left_out == {"again.png": "duplicate of 0.png", "small.png": "too small", "text.png": "unreadable"}
    assert (report["images"], report["samples"], report["shards"], report["skipped"]) == (9, 9, 3, 3)


def test_build_again_changes_nothing_and_says_the_same(folder, shards):
    before = contents(shards, "")
    said = run("build", folder, shards, "--shard-size", 4, "--min-side", 64)
    assert "9 images in 9 samples in 3 shards, 3 left out" in said
    assert contents(shards, "") == before


def test_build_cuts_encodes_and_limits(folder, tmp_path):
    run("build", folder, tmp_path / "out", "--tile", 32, "--encode", "webp", "--quality", 100, "--limit", 2)
    images = {name: Image.open(io.BytesIO(data)) for name, data in members(tmp_path / "out").items()}
    assert all(image.format == "WEBP" and min(image.size) >= 32 for image in images.values())
    assert sum(np.prod(image.size) for image in images.values()) == 90 * 70 + 90 * 72


def test_build_wants_a_source_and_a_folder(folder):
    with pytest.raises(ValueError, match="at least one SOURCE"):
        run("build", folder)


def test_index_makes_the_indices_that_build_made(shards):
    before = contents(shards, ".idx")
    for path in shards.glob("*.idx"):
        path.unlink()
    assert "9 samples in 3 shards" in run("index", shards / "*.tar")
    assert contents(shards, ".idx") == before


def test_index_lists_the_images_that_no_sample_holds(tmp_path, folder):
    with tarfile.open(tmp_path / "own.tar", "w") as tar:
        tar.add(folder / "0.png", "sound.png")
        tar.add(folder / "0.png", "holiday.2019.png")
    said = run("index", tmp_path / "own.tar")
    assert "own.tar: holiday.2019.png is left out: webdataset ends the key at the first dot" in said
    assert "1 samples in 1 shards" in said


def test_verify_passes_sound_shards_and_names_damaged_samples(shards):
    assert "9 of 9 samples in 3 shards are sound" in run("verify", shards / "*.tar")
    shard = shards / "out-000001.tar"
    entry = ShardIndex.from_bytes(shard.with_suffix(".tar.idx").read_bytes())[2]
    data = bytearray(shard.read_bytes())
    data[entry.image.offset + 30 : entry.image.offset + 40] = bytes(10)
    shard.write_bytes(data)
    said = run("verify", shards / "*.tar", code=1)
    assert re.search(rf"out-000001\.tar: {entry.key}: its bytes differ", said)
    assert "8 of 9 samples in 3 shards are sound" in said


def test_show_draws_the_pairs_of_training(shards, tmp_path):
    options = ["--num", 5, "--seed", 3, "--epoch", 2, "--first", 1, "--crop-size", 64]
    run("show", shards / "*.tar", "--out", tmp_path / "sheet.png", *options)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    stream = ShardDataset(
        [ShardSource(str(shards / "*.tar"))], seed=3, crop_size=64, degradation=RealESRGANDegradation()
    )
    for number in range(5):
        sample = stream[2 * len(stream) + 1 + number]
        assert holds(sheet, sample.hq)
        assert holds(sheet, sample.lq.repeat(4, 0).repeat(4, 1))


def test_show_takes_the_crop_and_the_degradation_of_the_run(shards, tmp_path):
    options = ["--num", 1, "--crop", "resize", "--crop-size", 48, "--degradation", CONF / "bicubic.yaml"]
    run("show", shards / "*.tar", "--out", tmp_path / "sheet.png", *options)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    source = [ShardSource(str(shards / "*.tar"))]
    sample = ShardDataset(source, seed=0, crop="resize", crop_size=48, degradation=BicubicDegradation())[0]
    assert holds(sheet, sample.hq)
    assert holds(sheet, sample.lq.repeat(4, 0).repeat(4, 1))


def holds(sheet: np.ndarray, image: np.ndarray) -> bool:
    """Whether the image stands somewhere on the sheet, to the last bit."""
    height, width = image.shape[:2]
    corners = np.argwhere((sheet == image[0, 0]).all(2))
    return any(np.array_equal(sheet[y : y + height, x : x + width], image) for y, x in corners)
