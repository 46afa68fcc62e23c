"""Test sets that are made here: the same bytes whenever and however often, crops by photograph, whole images."""

import json

import pytest

from seesr_pl.degradation import BicubicDegradation, RealESRGANDegradation
from seesr_pl.evaluation import MadeBenchmark
from seesr_pl.evaluation.benchmark import pixel_digest
from seesr_pl.imaging.io import image_size, read_rgb, write_image


@pytest.fixture
def images(tmp_path, make_image):
    """Three photographs, one in a folder below and one not square."""
    (tmp_path / "hq" / "more").mkdir(parents=True)
    for seed, name in enumerate(("a", "b", "more/c")):
        write_image(tmp_path / "hq" / f"{name}.png", make_image(seed, 96)[: 96 - 16 * seed])
    return tmp_path / "hq"


def _set(root, images, **options):
    degradation = options.pop("degradation", RealESRGANDegradation(sharpen=False))
    return MadeBenchmark(str(root), images=str(images), degradation=degradation, **{"size": 48, "crops": 7} | options)


def _bytes(root):
    """The files but for the record, which holds the times of the sources."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and path.name != "made.json"]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_making_twice_gives_equal_bytes_also_after_an_interruption(images, tmp_path):
    pairs = _set(tmp_path / "one", images).pairs()
    assert len(pairs) == 7

    def interrupted(parts, description):
        yield from parts[:3]
        raise KeyboardInterrupt

    other = _set(tmp_path / "other", images)
    with pytest.raises(KeyboardInterrupt):
        other.make(track=interrupted)
    other.make()
    assert _bytes(tmp_path / "one") == _bytes(tmp_path / "other")


def test_a_pair_depends_on_its_own_image_alone(images, tmp_path):
    all_of_them = {pair.name: pair.lq.read_bytes() for pair in _set(tmp_path / "three", images, crops=9).pairs()}
    (images / "b.png").unlink()
    two = {pair.name: pair.lq.read_bytes() for pair in _set(tmp_path / "two", images, crops=6).pairs()}
    assert set(two) < set(all_of_them)
    assert {name: all_of_them[name] for name in two} == two


def test_equal_images_of_two_names_are_degraded_differently(images, tmp_path):
    (images / "b.png").write_bytes((images / "a.png").read_bytes())
    first, second, _ = _set(tmp_path / "set", images, crops=None).pairs()
    assert first.hq.read_bytes() == second.hq.read_bytes()
    assert first.lq.read_bytes() != second.lq.read_bytes()


def test_crops_are_shared_out_cut_from_their_photograph_and_drawn_with_it(images, tmp_path):
    pairs = _set(tmp_path / "set", images, degradation=BicubicDegradation()).pairs()
    assert [pair.name for pair in pairs] == ["a_00", "a_01", "a_02", "b_00", "b_01", "c_00", "c_01"]
    assert [pair.group for pair in pairs] == list("aaabbcc")
    photograph = read_rgb(images / "b.png")
    for pair in pairs[3:5]:
        crop = read_rgb(pair.hq)
        assert crop.shape == (48, 48, 3)
        places = ((y, x) for y in range(80 - 48 + 1) for x in range(96 - 48 + 1))
        assert any((photograph[y : y + 48, x : x + 48] == crop).all() for y, x in places)


def test_whole_images_keep_their_shape(images, tmp_path):
    pairs = _set(tmp_path / "set", images, crops=None, size=64, degradation=BicubicDegradation()).pairs()
    assert {pair.name: image_size(pair.hq) for pair in pairs} == {"a": (64, 64), "b": (64, 52), "c": (64, 44)}
    assert [pair.group for pair in pairs] == ["a", "b", "c"]


def test_the_record_says_what_the_set_is_and_its_digest_is_that_of_the_pairs(images, tmp_path):
    made = _set(tmp_path / "set", images, seed=3)
    _set(tmp_path / "set", images, seed=3, max_images=2).make()
    pairs = made.pairs()
    record = json.loads((tmp_path / "set" / "made.json").read_text())
    assert record["digest"] == pixel_digest(pairs)
    assert record["settings"]["seed"] == 3
    assert record["settings"]["degradation"]["second"]["noise_range"] == [1.0, 25.0]
    assert (record["pairs"], record["sources"]) == (7, 3)
    assert set(record["versions"]) == {"numpy", "opencv-python-headless", "simplejpeg", "pillow"}
    assert made.severities().keys() == {pair.name for pair in pairs}


@pytest.mark.parametrize("gone", ["lq/b_00.png", "hq/c_01.png", "severity.csv", "degradations.json"])
def test_what_was_deleted_is_made_again(images, tmp_path, gone):
    made = _set(tmp_path / "set", images)
    made.make()
    before = _bytes(tmp_path / "set")
    (tmp_path / "set" / gone).unlink()
    assert len(made.pairs()) == 7
    assert _bytes(tmp_path / "set") == before


def test_what_is_there_is_neither_made_again_nor_overwritten_by_another_set(images, tmp_path):
    made = _set(tmp_path / "set", images)
    first = made.pairs()[0].lq
    time = first.stat().st_mtime_ns
    made.pairs()
    assert first.stat().st_mtime_ns == time
    for change in ({"seed": 1}, {"size": 64}, {"crops": 8}, {"degradation": BicubicDegradation()}):
        with pytest.raises(ValueError, match=r"set holds other than this set"):
            _set(tmp_path / "set", images, **change).pairs()
    assert first.stat().st_mtime_ns == time
    with pytest.raises(ValueError, match=r"hq holds other than this set"):
        _set(images, images).pairs()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 96}, r"2 of 3 images have no crop of 96 pixels: b, c"),
        ({"crops": 2}, r"benchmark.crops=2 must be at least 3"),
        ({"size": 50}, r"benchmark.size=50 must be a multiple of 4"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_written(images, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        _set(tmp_path / "set", images, **options).pairs()
    assert not (tmp_path / "set").exists()
