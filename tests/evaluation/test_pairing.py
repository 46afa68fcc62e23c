"""Images are matched as downloads name them; what does not fit is listed, and never scored."""

import shutil
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from seesr_pl.evaluation import Bicubic, FolderBenchmark, Images, restore
from seesr_pl.evaluation.benchmark import pixel_digest
from seesr_pl.evaluation.pairing import images_by_stem
from seesr_pl.imaging.io import read_rgb, write_image


@pytest.fixture
def results(root, tmp_path):
    """A folder of results named as the images of `root` are."""
    shutil.copytree(root / "hq", tmp_path / "results")
    return tmp_path / "results"


def judged(benchmark, results, folder):
    return restore(lambda device: Images(str(results)), benchmark.pairs(), folder, settings={})


@pytest.mark.parametrize(
    ("lq", "hq", "result"),
    [
        ("_LR4", "_HR", "_LR4"),
        ("_LR4", "_HR", ""),
        ("_LR4", "", "_SR"),
        ("", "_HQ", "_out"),
        ("x4", "", "_x4"),
        ("-lq", "-gt", "_SRx4"),
    ],
)
def test_suffixes_of_downloads_belong_together(benchmark, root, results, tmp_path, lq, hq, result):
    for folder, suffix in ((root / "lq", lq), (root / "hq", hq), (results, result)):
        for path in list(folder.iterdir()):
            path.rename(path.with_stem(path.stem + suffix))
    pairs = benchmark.pairs()
    assert [pair.name for pair in pairs] == [f"{name}{lq}" for name in ("lake_0", "lake_1", "street_0", "street_1")]
    assert [pair.hq.stem.removesuffix(hq) for pair in pairs] == [pair.name.removesuffix(lq) for pair in pairs]
    for item in judged(benchmark, results, tmp_path / "out"):
        np.testing.assert_array_equal(read_rgb(item.path), read_rgb(item.pair.hq))


def test_pairs_in_one_folder_are_told_apart_by_their_suffixes(root):
    for kind, suffix in (("lq", "LR4"), ("hq", "HR")):
        for path in list((root / kind).iterdir()):
            path.rename(root / f"{path.stem}_{suffix}.png")
    for benchmark in (
        FolderBenchmark(str(root), lq=".", hq="."),
        FolderBenchmark(str(root.parent), lq="set", hq="set"),
    ):
        assert [(pair.name, pair.hq.stem) for pair in benchmark.pairs()][:1] == [("lake_0_LR4", "lake_0_HR")]
        assert len(benchmark.pairs()) == 4


def test_files_of_one_name_in_folders_below_keep_their_folders(root, tmp_path):
    for kind in ("lq", "hq"):
        for name in ("lake", "street"):
            (root / kind / name).mkdir()
            for index in "01":
                (root / kind / f"{name}_{index}.png").rename(root / kind / name / f"{index}.png")
    pairs = FolderBenchmark(str(root), group="(.*)/").pairs()
    assert [pair.name for pair in pairs] == ["lake/0", "lake/1", "street/0", "street/1"]
    assert [pair.group for pair in pairs] == ["lake", "lake", "street", "street"]
    assert all(pair.hq == root / "hq" / f"{pair.name}.png" for pair in pairs)
    restored = restore(lambda device: Bicubic(), pairs, tmp_path / "out", settings={})
    again = restore(lambda device: Images(str(tmp_path / "out")), pairs, tmp_path / "again", settings={})
    assert [read_rgb(item.path).tolist() for item in again] == [read_rgb(item.path).tolist() for item in restored]


def test_the_name_that_the_published_digest_depends_on_is_that_of_the_lq(benchmark, root):
    before = pixel_digest(benchmark.pairs())
    for path in list((root / "hq").iterdir()):
        path.rename(path.with_stem(f"{path.stem}_HR"))
    assert pixel_digest(benchmark.pairs()) == before


def test_a_name_that_two_images_would_fit_gets_none(root):
    for index in "24":
        shutil.copy(root / "hq" / "lake_0.png", root / "hq" / f"stone_LR{index}.png")
    found = images_by_stem(root / "hq", key="hq")
    assert found.named_for(["stone", "lake_0", "lake_1_LR4"]) == {
        "lake_0": root / "hq" / "lake_0.png",
        "lake_1_LR4": root / "hq" / "lake_1.png",
    }


def test_references_without_an_input_are_no_smaller_set_unless_the_count_says_so(root):
    (root / "lq" / "lake_1.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 4 images belong to none of the set: lake_1; .*benchmark.count=3"):
        FolderBenchmark(str(root)).pairs()
    with pytest.warns(UserWarning, match="1 of 4 images belong to none of the set: lake_1"):
        assert len(FolderBenchmark(str(root), count=3).pairs()) == 3


def test_results_that_belong_to_no_image_are_named(benchmark, results, tmp_path):
    shutil.copy(results / "lake_0.png", results / "stone.png")
    with pytest.warns(UserWarning, match="1 of 5 images belong to none of the set: stone"):
        judged(benchmark, results, tmp_path / "out")
    (results / "lake_1.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 4 missing: lake_1\n  of no such name: stone"):
        judged(benchmark, results, tmp_path / "out2")


def test_results_that_fit_are_taken_without_a_word(benchmark, results, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(judged(benchmark, results, tmp_path / "out")) == 4


def transparent(path):
    rgba = np.dstack([read_rgb(path), np.full((64, 64), 255, np.uint8)])
    rgba[:8, :8, 3] = 0
    Image.fromarray(rgba).save(path)


FAULTS = {
    "resized": (lambda path: write_image(path, cv2.resize(read_rgb(path), (48, 64))), "48x64"),
    "other scale": (lambda path: write_image(path, cv2.resize(read_rgb(path), (32, 32))), "must be 4 times lq"),
    "turned": (lambda path: write_image(path, np.rot90(read_rgb(path)).copy()), "turned by 270 degrees"),
    "mirrored": (lambda path: write_image(path, read_rgb(path)[:, ::-1].copy()), "is mirrored"),
    "transparent": (transparent, "has transparent pixels"),
    "damaged": (lambda path: path.write_bytes(path.read_bytes()[:300]), "is damaged"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_the_image_is_listed_before_anything_is_scored(benchmark, root, results, tmp_path, fault):
    spoil, words = FAULTS[fault]
    for name in ("lake_1", "street_0"):
        spoil(results / f"{name}.png")
    with pytest.raises(
        ValueError, match=rf"2 of 4 images of the result do not fit:\n  lake_1: .*{words}.*\n  street_0"
    ):
        judged(benchmark, results, tmp_path / "out")
    assert not list((tmp_path).glob("out/*"))
    spoil(root / "hq" / "lake_1.png")
    with pytest.raises(ValueError, match=rf"1 of 4 images of hq do not fit:\n  lake_1: .*{words}"):
        benchmark.pairs()


def test_transparent_inputs_are_refused_without_reference_and_opaque_alpha_is_none(root):
    path = root / "lq" / "lake_1.png"
    rgba = np.dstack([read_rgb(path), np.full((16, 16), 255, np.uint8)])
    Image.fromarray(rgba).save(path)
    assert len(FolderBenchmark(str(root), hq=None).pairs()) == 4
    rgba[0, 0, 3] = 254
    Image.fromarray(rgba).save(path)
    with pytest.raises(ValueError, match=r"lake_1: .*lq/lake_1.png has transparent pixels"):
        FolderBenchmark(str(root), hq=None).pairs()
