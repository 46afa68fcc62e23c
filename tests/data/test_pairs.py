"""Stored pairs: what a build stores, what the stream cuts, and what is refused."""

import itertools
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from seesr_pl.cli.shards import app
from seesr_pl.data import ShardDataModule, ShardDataset, ShardIndex, ShardSource, ShardWriter
from seesr_pl.data.decode import decode_rgb
from seesr_pl.data.pairs import ImagePair, crop_pair, matched
from seesr_pl.degradation import BicubicDegradation, NoDegradation, RealESRGANDegradation

SCALE = 4


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def lq_image(seed: int, height: int = 16, width: int = 20) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def enlarged(lq: np.ndarray, scale: int = SCALE) -> np.ndarray:
    """Each pixel as a square: whatever is cut out of the pair, the hq is the enlarged lq."""
    return lq.repeat(scale, 0).repeat(scale, 1)


@pytest.fixture
def folders(tmp_path) -> Path:
    """Six pairs below hq/ and lq/; the last HQ image has pixels beyond its LQ image."""
    for number in range(6):
        lq = lq_image(number)
        hq = enlarged(lq)
        hq = np.pad(hq, ((0, 3), (0, 1), (0, 0))) if number == 5 else hq
        for kind, image in (("hq", hq), ("lq", lq)):
            path = tmp_path / kind / "below" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(image))
    return tmp_path


def build(folders: Path, *options: object) -> tuple[ShardSource, str]:
    words = ["build", folders / "hq", folders / "out", "--lq", folders / "lq", "--shard-size", 4, *options]
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    return ShardSource(str(folders / "out" / "*.tar"), pairs="stored"), result.output


def stream(*sources: ShardSource, seed=0, **options) -> ShardDataset:
    return ShardDataset(sources, **{"seed": seed, "crop_size": 32, "degradation": NoDegradation(), **options})


def test_stored_pairs_are_cut_at_one_place_and_not_degraded(folders):
    source, _ = build(folders)
    samples = [stream(source, degradation=RealESRGANDegradation())[position] for position in range(24)]
    for sample in samples:
        assert sample.hq.shape == (32, 32, 3)
        np.testing.assert_array_equal(sample.hq, enlarged(sample.lq))
    assert len({sample.lq.tobytes() for sample in samples}) > 12
    assert {sample.severity for sample in samples} == {0.0}


@pytest.mark.parametrize(("scale", "size"), itertools.product((1, 2, 4), (8, 48)))
def test_a_pair_stays_a_pair_whether_cropped_or_padded(scale, size):
    lq = lq_image(0, 9, 7)
    for seed in range(20):
        pair = crop_pair(matched(enlarged(lq, scale), lq, scale), size, np.random.default_rng(seed))
        assert pair.hq.shape == (size, size, 3)
        np.testing.assert_array_equal(pair.hq, enlarged(pair.lq, scale))


def test_crops_reach_every_corner_and_both_directions():
    lq = np.zeros((2, 2, 3), np.uint8)
    lq[0, 0], lq[0, 1], lq[1, 0], lq[1, 1] = 10, 20, 30, 40
    pair = ImagePair(enlarged(lq, 2), lq)
    found = {crop_pair(pair, 2, np.random.default_rng(seed)).lq.tobytes() for seed in range(60)}
    assert len(found) == 4
    whole = {crop_pair(pair, 4, np.random.default_rng(seed)).lq[0].tobytes() for seed in range(20)}
    assert len(whole) == 2


def test_a_build_with_lq_is_a_webdataset_that_index_finds_again(folders):
    build(folders)
    for shard in sorted((folders / "out").glob("*.tar")):
        with shard.open("rb") as file:
            assert ShardIndex.scan(file).to_bytes() == Path(f"{shard}.idx").read_bytes()
        with tarfile.open(shard) as tar:
            names = tar.getnames()
        assert [name.split(".", 1)[1] for name in names] == ["png", "lq.png"] * (len(names) // 2)


def test_images_without_a_partner_or_of_another_shape_are_left_out_with_the_reason(folders):
    (folders / "lq" / "below" / "2.png").unlink()
    (folders / "lq" / "below" / "3.png").write_bytes(png(lq_image(3, 16, 19)))
    _, said = build(folders)
    assert "4 images in 4 samples" in said
    report = (folders / "out" / "report.json").read_text()
    assert "no image of this name in" in report
    assert "its LQ image is 19x16 beside 80x64" in report


def test_tiles_of_a_pair_are_pairs(folders):
    source, _ = build(folders, "--tile", 32)
    samples = stream(source, crop="resize", shuffle=False)
    assert len(samples) == 6 * 2 * 2
    for shard in samples.catalog.shards:
        data = Path(shard.url).read_bytes()
        for entry in (shard.contents[position] for position in range(shard.num_samples)):
            hq, lq = (decode_rgb(data[m.offset : m.offset + m.size]) for m in (entry.image, entry.lq))
            np.testing.assert_array_equal(hq, enlarged(lq))


def test_sources_mix_by_weight_and_a_stored_one_keeps_its_own(folders):
    source, _ = build(folders)
    synthetic = ShardSource(source.urls, weight=0.5)
    mixed = stream(source, synthetic, degradation=BicubicDegradation())
    samples = [mixed[position] for position in range(len(mixed))]
    stored = [sample for sample in samples if np.array_equal(sample.hq, enlarged(sample.lq))]
    assert (len(samples), len(stored)) == (9, 6)


def test_a_resumed_run_goes_on_with_the_same_stored_pairs(folders):
    source, _ = build(folders)

    def module(pairs="stored"):
        sources = [ShardSource(source.urls, pairs=pairs), ShardSource(source.urls, weight=0.5)]
        options = {"num_workers": 0, "crop_size": 32, "degradation": NoDegradation()}
        return ShardDataModule(sources, global_batch_size=3, **options)

    def batches(data, steps):
        return [batch["lq"].numpy().tobytes() for batch in data.train_loader(rank=0, world_size=1, steps=steps)]

    whole, second = module(), module()
    second.load_state_dict({**whole.state_dict(), "samples_consumed": 6})
    assert batches(second, (2, 5)) == batches(whole, (0, 5))[2:]
    with pytest.raises(ValueError, match="cannot be continued"):
        module("synthetic").load_state_dict(whole.state_dict())


def test_stored_pairs_of_another_scale_or_without_lq_are_refused_at_once(folders, tmp_path):
    source, _ = build(folders)
    with pytest.raises(ValueError, match=r"no LQ image of scale 2, the first \S+ \(20x16 beside 80x64\)"):
        stream(source, degradation=NoDegradation(scale=2))
    with ShardWriter(tmp_path / "plain") as writer:
        writer.write("a", png(lq_image(0)), extension="png")
    with pytest.raises(ValueError, match="no LQ image"):
        stream(ShardSource(str(tmp_path / "plain" / "*.tar"), pairs="stored"))
    with pytest.raises(ValueError, match="synthetic or stored"):
        ShardSource("a", pairs="paired")


def test_a_damaged_lq_image_is_damage(folders):
    source, _ = build(folders)
    shard = next((folders / "out").glob("*.tar"))
    entry = ShardIndex.from_bytes(Path(f"{shard}.idx").read_bytes())[1]
    data = bytearray(shard.read_bytes())
    data[entry.lq.offset + 40] ^= 255
    shard.write_bytes(data)
    samples = stream(source, max_bad_fraction=1.0)
    assert entry.key not in {samples[position].key for position in range(6)}
    assert samples.damage.num_damaged == 1


@pytest.mark.parametrize("chain", [RealESRGANDegradation, BicubicDegradation, NoDegradation])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_degradation_makes_lq_of_its_scale(chain, scale):
    degradation = chain(scale=scale)
    image = enlarged(lq_image(1, 16, 16))
    hq, lq = degradation.apply(image, degradation.sample(0, 0, 0))
    assert hq.shape[:2] == (lq.shape[0] * scale, lq.shape[1] * scale)


def test_another_scale_is_refused():
    with pytest.raises(ValueError, match="scale=3 must be one of 1, 2, 4"):
        RealESRGANDegradation(scale=3)


def test_max_side_shrinks_and_large_images_are_counted(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(png(np.zeros((2100, 2000, 3), np.uint8)))
    for name, options, large in (("as_is", [], 1), ("small", ["--max-side", 210], 0)):
        words = ["build", tmp_path / "in", tmp_path / name, *options]
        said = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False).output
        assert ("more than 4 megapixels" in said) == bool(large)
    entry = ShardIndex.from_bytes((tmp_path / "small" / "small-000000.tar.idx").read_bytes())[0]
    assert (entry.width, entry.height) == (200, 210)
