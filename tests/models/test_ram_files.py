"""The published files are read as they were written, and anything else is named for what it is."""

import pytest
import torch
from ram_cases import TINIEST
from safetensors.torch import save_file

from seesr_pl.checkpoints import dape_state_dict, official_ram, ram_state_dict
from seesr_pl.models import ram_files, ram_lists
from seesr_pl.models.ram import RAM, RAMConfig

TAGS, THRESHOLDS = ["cat", "street sign", "house"], [0.65, 0.8, 1.0]


@pytest.fixture(scope="module")
def source():
    torch.manual_seed(0)
    ram = RAM(TINIEST, TAGS, THRESHOLDS)
    torch.nn.init.normal_(ram.label_embed)
    ram.add_lora(2)
    for name, parameter in ram.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter)
    return ram


@pytest.fixture
def weights(source, tmp_path):
    """A folder as the user has it: the published formats, the parts that nobody uses included."""
    state = ram_state_dict(source)
    used = list(state)
    state |= unused_networks() | {
        "visual_encoder.layers.0.blocks.0.attn.relative_position_index": torch.zeros(4, 4).long()
    }
    state["visual_encoder.layers.1.blocks.1.attn_mask"] = torch.zeros(1, 4, 4)
    moments = {index: {"step": 5, "exp_avg": state[name], "exp_avg_sq": state[name]} for index, name in enumerate(used)}
    optimizer = {"state": moments, "param_groups": [{"lr": 1e-4, "params": list(range(len(used)))}]}
    content = {"model": state, "optimizer": optimizer, "config": {"image_size": 384, "vit": "swin_l"}, "epoch": 4}
    torch.save(content, tmp_path / "ram_swin_large_14m.pth")
    dead = {f"{name}.lora_{part}": torch.zeros(8, 2) for name in ATTENTION for part in "AB"}
    torch.save(dape_state_dict(source) | dead, tmp_path / "DAPE.pth")
    # The published list ends without a newline, the thresholds with one.
    (tmp_path / ram_lists.TAG_LIST).write_text("\n".join(TAGS))
    (tmp_path / ram_lists.THRESHOLDS).write_text("".join(f"{value}\n" for value in THRESHOLDS))
    return tmp_path


ATTENTION = [
    "tag_encoder.encoder.layer.0.attention.self.query",
    "tag_encoder.encoder.layer.0.crossattention.self.key",
    "text_decoder.bert.encoder.layer.0.attention.self.key",
]


def unused_networks():
    names = ["tag_encoder.embeddings.word_embeddings.weight", "text_decoder.cls.predictions.bias"]
    return {name: torch.ones(3, 2) for name in names} | {f"{name}.weight": torch.ones(2, 2) for name in ATTENTION}


def test_the_published_files_give_the_network_back(source, weights):
    ram = RAM.from_official(weights / "ram_swin_large_14m.pth", weights / "DAPE.pth")
    assert (ram.config, ram.tag_names, ram.lora_rank, ram.training) == (TINIEST, TAGS, 2, False)
    assert torch.equal(ram.thresholds, source.thresholds)
    pixel_values = torch.randn(2, 3, 16, 16)
    for ours, theirs in zip(ram(pixel_values), source(pixel_values), strict=True):
        assert torch.equal(ours, theirs)


def test_the_lists_may_lie_elsewhere(weights, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in (ram_lists.TAG_LIST, ram_lists.THRESHOLDS):
        (weights / name).rename(elsewhere / name)
    ram = official_ram(
        weights / "ram_swin_large_14m.pth",
        tag_list=elsewhere / ram_lists.TAG_LIST,
        thresholds=elsewhere / ram_lists.THRESHOLDS,
    )
    assert (ram.tag_names, ram.lora_rank) == (TAGS, None)


def test_missing_files_are_listed_with_where_they_are_published(tmp_path):
    missing = official_ram.missing_files(tmp_path / "ram.pth", tmp_path / "DAPE.pth", tag_list=tmp_path / "tags.txt")
    assert [file.path for file in missing] == [
        str(tmp_path / name) for name in ("ram.pth", "tags.txt", "ram_tag_list_threshold.txt", "DAPE.pth")
    ]
    text = " ".join(file.origin for file in missing)
    for words in ("ram_swin_large_14m.pth", "ram_tag_list.txt", "ram_tag_list_threshold.txt", "xinyu1205/recognize"):
        assert words in text


def test_nothing_is_missing_where_all_is_there(weights):
    assert official_ram.missing_files(weights / "ram_swin_large_14m.pth", weights / "DAPE.pth") == []


def test_a_truncated_file_is_told_as_one(weights):
    path = weights / "ram_swin_large_14m.pth"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"ram_swin_large_14m.pth: 5,000 bytes, a torch file that ends too early"):
        ram_files.read_published(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:15c7", "a Git LFS pointer instead of the weights"),
        (b"<!DOCTYPE html><html>Sign in</html>", "a web page instead of the weights"),
        (b"", "0 bytes, not a readable weights file"),
        (b"\x00" * 100, "100 bytes, not a readable weights file"),
        (b"hello not weights", r"17 bytes, not a readable weights file \(\w+: "),
    ],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_file_that_is_something_else_is_told_as_that(tmp_path, content, message, suffix):
    path = tmp_path / f"ram.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        ram_files.read_published(path)


def test_a_pickle_that_would_run_code_is_read_only_on_trust(tmp_path):
    torch.save({"model": {"fc.bias": torch.zeros(1)}, "config": RAMConfig()}, tmp_path / "ram.pth")
    with pytest.raises(ValueError, match=r"holds more than tensors; .* --trust"):
        ram_files.read_published(tmp_path / "ram.pth")
    assert list(ram_files.read_published(tmp_path / "ram.pth", trust=True)) == ["fc.bias"]


def test_a_file_of_the_time_before_zip_archives_is_read(source, tmp_path):
    torch.save({"model": ram_state_dict(source)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert ram_files.read_published(tmp_path / "old.pth").keys() == ram_state_dict(source).keys()


def test_a_dict_without_tensors_is_refused(tmp_path):
    torch.save({"params": {"weight": torch.zeros(1)}, "iter": 5}, tmp_path / "ram.pth")
    with pytest.raises(ValueError, match="no state dict in it, found params, iter"):
        ram_files.read_published(tmp_path / "ram.pth")


def test_another_network_is_named(weights):
    save_file({"down_blocks.0.weight": torch.zeros(1)}, weights / "unet.safetensors")
    with pytest.raises(ValueError, match="found a diffusion UNet"):
        RAM.from_official(weights / "unet.safetensors")


def test_lists_of_another_model_are_refused(weights):
    (weights / ram_lists.TAG_LIST).write_text("\n".join([*TAGS, "tree"]))
    with pytest.raises(ValueError, match="4 tags but 3 thresholds"):
        RAM.from_official(weights / "ram_swin_large_14m.pth")


def test_a_tag_list_with_a_double_line_is_refused(tmp_path):
    (tmp_path / "tags.txt").write_text("cat\ndog\ncat\n")
    with pytest.raises(ValueError, match="3 lines, 2 different"):
        ram_lists.read_tags(tmp_path / "tags.txt")


def test_a_threshold_list_with_words_is_refused(tmp_path):
    (tmp_path / "thresholds.txt").write_text("0.5\ncat\n")
    with pytest.raises(ValueError, match="'cat'; a threshold list has one number a line"):
        ram_lists.read_thresholds(tmp_path / "thresholds.txt")


def test_a_list_that_is_not_there_is_told_with_its_origin(tmp_path):
    with pytest.raises(FileNotFoundError, match="ram/data of the RAM repository"):
        ram_lists.read_tags(tmp_path / "tags.txt")
