"""One table says which published files are needed, missing, or other than published."""

from pathlib import Path
from urllib.parse import quote

import pytest

from seesr_pl.checkpoints.download import wanted
from seesr_pl.checkpoints.published import PAPER_METRICS, PUBLISHED, Published, metric_files, missing, parts_of
from seesr_pl.evaluation.iqa import IQA_METRICS


def names(files):
    return [file.path.rsplit("/", 1)[-1] for file in files]


def test_the_lists_are_looked_for_beside_ram(tmp_path):
    assert names(missing(ram=tmp_path / "ram.pth")) == ["ram.pth", "ram_tag_list.txt", "ram_tag_list_threshold.txt"]
    assert names(missing(ram=tmp_path / "ram.pth", tag_list="mine.txt"))[1] == "mine.txt"


def test_a_folder_of_ram_needs_no_lists_but_its_dape_is_looked_for(tmp_path):
    assert missing(ram=tmp_path) == []
    assert names(missing(ram=tmp_path, dape=tmp_path / "DAPE.pth")) == ["DAPE.pth"]


def test_the_origin_is_that_of_the_base_that_is_meant(tmp_path):
    assert "stabilityai/sd-turbo" in missing(base=tmp_path / "sd-turbo")[0].origin
    assert "stable-diffusion-2-base" in missing(base=tmp_path / "elsewhere")[0].origin


def test_what_lacks_of_a_folder_is_named(tmp_path):
    (tmp_path / "vae").mkdir()
    assert names(missing(base=tmp_path)) == ["text_encoder", "tokenizer", "unet", "scheduler"]


@pytest.mark.parametrize(("size", "sha256"), [(4, None), (None, "0" * 64)])
def test_a_file_that_differs_from_the_published_one_is_told(tmp_path, size, sha256):
    (tmp_path / "file").write_bytes(b"abc")
    assert Published("x", "file", "here", size=size, sha256=sha256).difference(tmp_path / "file")


def test_a_file_of_the_published_content_is_told_as_such(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of "abc", FIPS 180-2, appendix B.1
    assert Published("x", "file", "here", size=3, sha256=sha256).difference(tmp_path / "file") == ""


def test_each_argument_of_the_table_can_be_given_to_what_looks_for_it():
    known = set(missing.__kwdefaults__) | {"niqe_parameters", "detector", "segmenter", "metric_folder"}
    known |= {f"metric_weights.{name}" for name in IQA_METRICS}
    assert {file.argument for file in PUBLISHED.values()} <= known


@pytest.mark.parametrize("name", IQA_METRICS)
def test_each_metric_with_a_network_has_published_files_in_the_layout_of_torch_hub(name):
    files = [path.relative_to("w") for path in metric_files(name, "w")]
    assert 1 <= len(files) <= 2
    assert {path.parent for path in files} <= {Path(f"metrics/{part}") for part in ("pyiqa", "checkpoints", "clip")}
    urls = [wanted(PUBLISHED[key], Path("w") / PUBLISHED[key].name)[0].urls[0] for key in parts_of(name)]
    assert [url.rpartition("/")[2] for url in urls] == [quote(path.name) for path in files]


def test_the_metrics_of_the_papers_table_are_fetched_by_one_word():
    assert set(PAPER_METRICS) - {"clipiqa"} < set(parts_of("metrics"))
    assert {"niqe_parameters", "alexnet", "vgg16", "clip_rn50"} < set(parts_of("metrics"))
    with pytest.raises(ValueError, match="lpisp is none of metrics, clipiqa, base"):
        parts_of("lpisp")
