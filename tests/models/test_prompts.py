"""Each prompt style says of pictures what its network says, and says clearly what it lacks."""

import pytest
import torch
from ram_cases import TINIEST
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

from seesr_pl.models.prompts import CAPTIONER, TagPrompter, missing_prompt_model, prompter
from seesr_pl.models.ram import BICUBIC, RAM, ram_pixel_values


@pytest.fixture(scope="module")
def ram():
    torch.manual_seed(0)
    ram = RAM(TINIEST, [f"tag{index}" for index in range(30)], [0.5] * 30)
    torch.nn.init.normal_(ram.label_embed, std=3.0)
    ram.add_lora(2)
    for name, parameter in ram.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter)
    return ram


@pytest.fixture
def images():
    return torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(0))


def test_a_model_is_missing_where_neither_a_folder_nor_the_cache_holds_it(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    assert [file.path for file in missing_prompt_model("caption", None, argument="prompt_model")] == [CAPTIONER]
    assert missing_prompt_model("caption", str(tmp_path), argument="prompt_model") == []
    assert missing_prompt_model("dape", None, argument="prompt_model") == []
    (tmp_path / "cache" / "models--a--b" / "snapshots" / "1").mkdir(parents=True)
    (tmp_path / "cache" / "models--a--b" / "snapshots" / "1" / "model.safetensors").touch()
    (tmp_path / "cache" / "models--a--b" / "refs").mkdir()
    (tmp_path / "cache" / "models--a--b" / "refs" / "main").write_text("1")
    assert missing_prompt_model("classification", "a/b", argument="prompt_model") == []


def test_no_prompt_is_empty(images):
    assert prompter("none")(images) == ["", ""]


def test_ram_and_dape_name_the_tags_of_the_same_network_without_and_with_lora(ram, images):
    with torch.no_grad():
        logits = ram(ram_pixel_values(images, size=16)).logits
        with ram.disable_adapter():
            plain = ram(ram_pixel_values(images, size=16)).logits
    assert prompter("dape", ram=ram)(images) == [", ".join(tags) for tags in ram.tags(logits)]
    assert prompter("ram", ram=ram)(images) == [", ".join(tags) for tags in ram.tags(plain)]
    assert prompter("ram", ram=ram)(images) != prompter("dape", ram=ram)(images)


def test_tags_may_be_read_from_a_bicubic_resize(ram, images):
    texts = TagPrompter(ram, use_lora=True, resize=BICUBIC)(images)
    with torch.no_grad():
        tags = ram.tags(ram(ram_pixel_values(images, size=16, mode="bicubic")).logits)
    assert texts == [", ".join(names) for names in tags]


def test_the_classification_is_the_first_name_of_the_likeliest_class(tmp_path, images):
    config = ViTConfig(image_size=16, patch_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    config.intermediate_size, config.id2label = 16, {0: "tabby, tabby cat", 1: "tench, Tinca tinca"}
    network = ViTForImageClassification(config)
    network.classifier.weight.data.zero_()
    network.classifier.bias.data.copy_(torch.tensor([0.0, 1.0]))
    network.save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path)
    assert prompter("classification", model=str(tmp_path))(images) == ["tench", "tench"]


def test_a_caption_is_what_the_network_generates(tmp_path, images):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "a", "cat", "on", "grass"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    small = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = small | {"vocab_size": len(words), "encoder_hidden_size": 8, "bos_token_id": 2, "pad_token_id": 0}
    vision = small | {"image_size": 16, "patch_size": 8}
    config = BlipConfig(
        text_config=text | {"eos_token_id": 3, "sep_token_id": 3}, vision_config=vision, projection_dim=8
    )
    network = BlipForConditionalGeneration(config)
    decoder = network.text_decoder.cls.predictions
    decoder.decoder.weight.data.zero_()
    decoder.decoder.bias.data.copy_(torch.nn.functional.one_hot(torch.tensor(7), len(words)).float())
    network.save_pretrained(tmp_path)
    tokenizer = BertTokenizer(str(tmp_path / "vocab.txt"))
    BlipProcessor(BlipImageProcessor(size={"height": 16, "width": 16}), tokenizer).save_pretrained(tmp_path)
    captions = prompter("caption", model=str(tmp_path))(images)
    assert set(captions[0].split()) == {"cat"}
    assert captions[0] == captions[1]


@pytest.mark.parametrize("style", ["classification", "caption"])
def test_nothing_is_loaded_before_it_is_asked_and_missing_weights_are_told(style, tmp_path, images):
    lazy = prompter(style, model=str(tmp_path / "absent"))
    with pytest.raises(ValueError, match=r"the weights of .*absent cannot be had .* local copy"):
        lazy(images)


@pytest.mark.parametrize("style", ["ram", "dape"])
def test_tag_styles_need_a_ram(style):
    with pytest.raises(ValueError, match=f"prompt style {style} needs a RAM"):
        prompter(style)


def test_an_unknown_style_is_refused():
    with pytest.raises(ValueError, match="must be one of none, classification, caption, ram, dape"):
        prompter("poem")
