"""The demo's photographs: the split, the tiles and their tags, the shards, the held-out pairs."""

import itertools

import numpy as np
import pytest

from seesr_pl.data import ShardIndex
from seesr_pl.evaluation.benchmark import write_pairs
from seesr_pl.tiny.leaves import dead_leaves, leaf_shards
from seesr_pl.tiny.pairs import photo_pairs
from seesr_pl.tiny.photographs import Photograph, photographs
from seesr_pl.tiny.tags import APPEARANCE_TAGS, appearance_tags, region_tags
from seesr_pl.tiny.tiles import TILE, photo_shards, starts, tiles

ALL = ("train", "choice", "held-out")


def plain(colour, side=TILE):
    return np.full((side, side, 3), colour, dtype=np.uint8)


def test_no_photograph_is_in_two_splits_and_each_names_its_licence_and_author():
    everything = photographs(ALL, source="all")
    assert len({photo.name for photo in everything}) == len({photo.file for photo in everything}) == len(everything)
    assert all(photo.licence and photo.author for photo in everything)


def test_the_demo_measures_on_eight_photographs_and_the_larger_study_on_more():
    assert len(photographs(("held-out",), source="pip")) == 8
    assert len(photographs(("held-out",), source="all")) >= 16


def test_pip_photographs_are_there_and_are_pictures():
    pytest.importorskip("skimage")
    for photo in photographs(ALL, source="pip"):
        image = photo.read()
        assert image.dtype == np.uint8
        assert image.shape[2] == 3
        assert TILE <= min(image.shape[:2]) <= max(image.shape[:2]) <= 1024


def test_a_debian_photograph_without_its_package_says_which():
    photo = photographs(("choice",), source="all")[0]
    with pytest.raises(ValueError, match=photo.package):
        photo.read("/nowhere")
    assert photo.missing_files("/nowhere")[0].path == photo.package


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ((200, 20, 20), {"vivid", "red", "smooth"}),
        ((30, 160, 40), {"vivid", "green", "smooth"}),
        ((250, 250, 250), {"bright", "gray", "white", "smooth"}),
        ((5, 5, 5), {"dark", "gray", "black", "smooth"}),
    ],
)
def test_a_plain_tile_is_called_what_it_is(colour, expected):
    assert set(appearance_tags(plain(colour))) == expected


def test_stripes_are_called_by_their_direction_and_the_other_way_round_when_turned():
    stripes = np.repeat(np.tile(np.repeat([60, 180], 4), TILE // 8)[None], TILE, axis=0)
    tile = np.repeat(stripes[..., None], 3, axis=2).astype(np.uint8)
    assert "vertical" in appearance_tags(tile)
    assert "horizontal" in appearance_tags(np.ascontiguousarray(tile.transpose(1, 0, 2)))


def test_appearance_tags_come_from_their_list():
    noise = np.random.default_rng(0).integers(0, 256, (TILE, TILE, 3), dtype=np.uint8)
    assert set(appearance_tags(noise)) <= set(APPEARANCE_TAGS)


def test_a_region_counts_from_its_share_of_the_tile_on():
    regions = {"sky": [(0.0, 0.0, 1.0, 0.5)], "sun": [(0.0, 0.0, 0.1, 0.1)]}
    assert region_tags(regions, (0.0, 0.3, 0.4, 0.7)) == ["sky"]
    assert region_tags(regions, (0.0, 0.4, 0.4, 0.9)) == []


@pytest.mark.parametrize("length", [TILE, TILE + 1, 300, 1024])
def test_tiles_cover_a_side_and_end_with_it(length):
    found = starts(length)
    assert found[0] == 0
    assert found[-1] + TILE == length
    assert all(0 < right - left <= 96 for left, right in itertools.pairwise(found))


def test_a_side_shorter_than_a_tile_has_none():
    assert starts(TILE - 1) == []


def test_tiles_are_cut_from_where_their_key_says():
    image = np.random.default_rng(1).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    photo = Photograph("noise", "train", "scikit-image", "none.png", "none", "nobody", {"sky": [(0, 0, 1, 1)]})
    for tile in tiles(photo, image):
        name, halvings, top, left = tile.key.split("-")
        assert (name, halvings) == ("noise", "0")
        assert np.array_equal(tile.image, image[int(top) : int(top) + TILE, int(left) : int(left) + TILE])
        assert "sky" in tile.tags


def test_other_versions_of_a_tile_differ_in_colour_and_keep_its_regions():
    image = np.random.default_rng(1).integers(0, 256, (TILE, TILE, 3), dtype=np.uint8)
    photo = Photograph("noise", "train", "scikit-image", "none.png", "none", "nobody", {"sky": [(0, 0, 1, 1)]})
    first, second, third = tiles(photo, image, versions=3)
    assert np.array_equal(first.image, image)
    assert second.key == first.key + "-1"
    assert not np.array_equal(second.image, third.image)
    assert all("sky" in tile.tags for tile in (first, second, third))


def test_fine_structure_and_not_a_single_edge_makes_a_tile_textured():
    edge, noise = plain((0, 0, 0)), np.random.default_rng(0).integers(90, 160, (TILE, TILE, 1), dtype=np.uint8)
    edge[:, TILE // 2 :] = 255
    assert "textured" not in appearance_tags(edge)
    assert "textured" in appearance_tags(np.repeat(noise, 3, axis=2))


def test_dead_leaves_depend_on_their_generator_alone():
    first, again, other = (dead_leaves(np.random.default_rng(seed), 64) for seed in (0, 0, 1))
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_shards_of_leaves_hold_as_many_as_asked(tmp_path):
    leaf_shards(tmp_path / "leaves", count=3)
    assert len(ShardIndex.from_bytes((tmp_path / "leaves" / "photos-000000.tar.idx").read_bytes())) == 3


def test_shards_are_made_once_and_hold_every_tile(tmp_path):
    pytest.importorskip("skimage")
    folder = tmp_path / "photos"
    urls = photo_shards(folder, splits=("held-out",)).shard_urls()
    written = [path.stat().st_mtime_ns for path in sorted(folder.iterdir())]
    assert photo_shards(folder, splits=("held-out",)).shard_urls() == urls
    assert [path.stat().st_mtime_ns for path in sorted(folder.iterdir())] == written
    wanted = [tile.key for photo in photographs(("held-out",), source="pip") for tile in tiles(photo, photo.read())]
    index = ShardIndex.from_bytes((folder / "photos-000000.tar.idx").read_bytes())
    assert [index[position].key for position in range(len(index))] == wanted
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_pair_depends_on_its_photograph_alone():
    pytest.importorskip("skimage")
    first, second = photographs(("held-out",), source="pip")[:2]
    settings = {"crop_size": 128, "crops_per_photo": 2}
    together, alone = list(photo_pairs([first, second], **settings)), list(photo_pairs([second], **settings))
    assert [pair.name for pair in together[2:]] == [pair.name for pair in alone]
    for one, other in zip(together[2:], alone, strict=True):
        assert np.array_equal(one.hq, other.hq)
        assert np.array_equal(one.lq, other.lq)


def test_pairs_of_one_photograph_lie_elsewhere_and_are_degraded_otherwise():
    pytest.importorskip("skimage")
    pairs = list(photo_pairs(photographs(("held-out",), source="pip")[:1], crop_size=128, crops_per_photo=3))
    assert len({pair.hq.tobytes() for pair in pairs}) == 3
    assert len({pair.severity for pair in pairs}) == 3


def test_pairs_are_files_of_matching_size(tmp_path):
    pytest.importorskip("skimage")
    pairs = photo_pairs(photographs(("held-out",), source="pip")[:1], crop_size=128, crops_per_photo=2)
    assert write_pairs(tmp_path, pairs) == 2
    assert {path.name for path in (tmp_path / "lq").iterdir()} == {path.name for path in (tmp_path / "hq").iterdir()}
    header, *rows = (tmp_path / "severity.csv").read_text().splitlines()
    assert header == "name,severity,kind"
    assert [f"{row.partition(',')[0]}.png" for row in rows] == sorted(path.name for path in (tmp_path / "lq").iterdir())
