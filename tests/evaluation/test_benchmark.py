"""A benchmark is what its folders say, or an error that says what is wrong with them."""

import shutil

import numpy as np
import pytest
from PIL import Image

from seesr_pl.evaluation import FolderBenchmark
from seesr_pl.evaluation.benchmark import pixel_digest
from seesr_pl.imaging.io import write_image
from seesr_pl.limits import MAX_RECORD_BYTES


def test_pairs_are_matched_by_name_and_sorted(benchmark):
    pairs = benchmark.pairs()
    assert [pair.name for pair in pairs] == ["lake_0", "lake_1", "street_0", "street_1"]
    assert [pair.group for pair in pairs] == ["lake", "lake", "street", "street"]
    assert all(pair.lq.stem == pair.hq.stem == pair.name for pair in pairs)


def test_a_set_without_reference_has_pairs_without_hq(root):
    assert [pair.hq for pair in FolderBenchmark(str(root), hq=None).pairs()] == [None] * 4


def test_max_images_takes_the_first_ones(root):
    pairs = FolderBenchmark(str(root), count=4, max_images=2).pairs()
    assert [pair.name for pair in pairs] == ["lake_0", "lake_1"]


def test_severities_are_read_where_they_are_known(benchmark, root):
    assert [batch["severity"].item() for batch in benchmark.batches(benchmark.pairs())] == [0] * 4
    (root / "severity.csv").write_text("name,severity\nlake_1,0.5\n")
    assert [batch["severity"].item() for batch in benchmark.batches(benchmark.pairs())] == [0, 0.5, 0, 0]


def test_how_images_were_degraded_is_read_beyond_the_limit_of_a_record(benchmark, root):
    (root / "degradations.json").write_text('{"lake_0": {}' + " " * MAX_RECORD_BYTES + "}")
    assert benchmark.degradations() == {"lake_0": {}}


def test_the_digest_depends_on_pixels_and_not_on_their_encoding(benchmark, root):
    before = pixel_digest(benchmark.pairs())
    path = root / "hq" / "lake_0.png"
    image = Image.open(path).copy()
    image.save(root / "hq" / "lake_0.bmp")
    path.unlink()
    assert pixel_digest(benchmark.pairs()) == before
    image.putpixel((3, 3), (1, 2, 3))
    image.save(root / "hq" / "lake_0.bmp")
    assert pixel_digest(benchmark.pairs()) != before


def test_the_digest_tells_the_published_set_from_another(root):
    pairs = FolderBenchmark(str(root)).pairs()
    digest = pixel_digest(pairs)
    assert FolderBenchmark(str(root), count=4, digest=digest).matches_published(pairs) is True
    assert FolderBenchmark(str(root), count=4, digest="0" * 64).matches_published(pairs) is False
    assert FolderBenchmark(str(root), count=4).matches_published(pairs) is None


def test_a_batch_holds_one_pair_in_the_form_of_the_data_loaders(benchmark):
    batches = list(benchmark.batches(benchmark.pairs()))
    assert len(batches) == 4
    assert batches[1]["hq"].shape == (1, 64, 64, 3)
    assert batches[1]["lq"].shape == (1, 16, 16, 3)
    assert batches[1]["key"] == ["lake_1"]
    assert batches[1]["sample_id"].tolist() == [1]


def test_a_root_that_does_not_exist_is_a_missing_file_with_its_origin(tmp_path):
    missing = FolderBenchmark.missing_files(str(tmp_path / "nowhere"), name="realsr", origin="https://example.org")
    assert [(file.path, file.fix) for file in missing] == [(str(tmp_path / "nowhere"), "benchmark.root=FOLDER")]
    assert "https://example.org" in missing[0].origin


def test_a_folder_that_does_not_exist_is_named_with_those_beside_it(root):
    with pytest.raises(ValueError, match=r"test_LR does not exist; .* holds hq, lq"):
        FolderBenchmark(str(root), lq="test_LR").pairs()


def test_another_count_than_the_published_one_is_refused_with_the_way_out(root):
    with pytest.raises(ValueError, match=r"holds 4 images, realsr has 100; complete it from .*benchmark.count=null"):
        FolderBenchmark(str(root), name="realsr", count=100).pairs()


def test_missing_references_are_listed(benchmark, root):
    (root / "hq" / "lake_1.png").unlink()
    with pytest.raises(ValueError, match="1 of 4 missing: lake_1"):
        benchmark.pairs()


def test_sizes_that_do_not_fit_are_named(benchmark, root):
    write_image(root / "hq" / "lake_1.png", np.zeros((64, 60, 3), np.uint8))
    with pytest.raises(ValueError, match="lake_1: lq is 16x16 and hq 60x64; hq must be 4 times"):
        benchmark.pairs()


def test_a_file_that_is_no_image_is_named(benchmark, root):
    (root / "lq" / "lake_1.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"lq/lake_1\.png is not an image that can be read"):
        benchmark.pairs()


def test_two_files_of_one_name_are_refused(benchmark, root):
    (root / "lq" / "lake_1.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="have the same name"):
        benchmark.pairs()


def test_a_set_in_the_root_itself_takes_nothing_from_the_folders_below(root):
    (root / "lq" / "more").mkdir()
    shutil.copy(root / "lq" / "lake_0.png", root / "lq" / "more" / "lake_9.png")
    assert len(FolderBenchmark(str(root), hq=None).pairs()) == 5
    assert len(FolderBenchmark(str(root / "lq"), lq=".", hq=None).pairs()) == 4


def test_an_error_lists_what_was_left_out_and_why(benchmark, root):
    (root / "lq" / "street_1.png").rename(root / "lq" / "street_1.heic")
    with pytest.raises(ValueError, match=r"holds 3 images, small has 4(.|\n)*street_1.heic: .heic is not read here"):
        benchmark.pairs()
    (root / "lq" / "street_1.heic").rename(root / "lq" / "street_1.png")
    (root / "hq" / "street_1.png").rename(root / "hq" / "street_1.heic")
    with pytest.raises(ValueError, match=r"missing: street_1\n  left out: .*street_1.heic: .heic is not read here"):
        benchmark.pairs()
    with pytest.raises(ValueError, match=r"holds no image (.|\n)*hq: a folder; only the files beside it"):
        FolderBenchmark(str(root), lq=".", hq=None).pairs()


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "lq").mkdir()
    with pytest.raises(ValueError, match="holds no image"):
        FolderBenchmark(str(tmp_path)).pairs()


def test_published_means_hold_for_the_whole_set_only(root):
    benchmark = FolderBenchmark(str(root), count=4, published={"SeeSR": {"psnr_y": 25.18}})
    pairs = benchmark.pairs()
    assert benchmark.published_for(pairs) == {"SeeSR": {"psnr_y": 25.18}}
    assert benchmark.published_for(pairs[:3]) == {}
