"""RAM equals the official network, and keeps to its own contract."""

import copy
import dataclasses
import json

import pytest
import torch
from official import TAGGER
from safetensors import safe_open
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from seesr_pl.models.ram import RAM, Resize, ram_pixel_values
from seesr_pl.models.ram_official import load_dape, load_ram

ATOL = 5e-5


class Operations(TorchDispatchMode):
    """Counts the operations of torch."""

    count = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self.count += 1
        return function(*arguments, **(keywords or {}))


TINY = dataclasses.replace(TAGGER, depths=(2, 2, 4, 2))


@pytest.fixture(scope="module")
def official(golden):
    return load_file(golden / "ram_tiny.safetensors")


@pytest.fixture
def ram():
    torch.manual_seed(0)
    ram = RAM(TINY, [f"tag{index}" for index in range(5)], [0.5] * 5)
    torch.nn.init.normal_(ram.label_embed)
    return ram


@pytest.fixture
def dape(ram):
    ram.add_lora(4)
    for name, parameter in ram.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return ram


def golden_ram(official):
    ram = RAM(TINY, [f"tag{index}" for index in range(37)], official["class_threshold"].tolist())
    load_ram(ram, {name.removeprefix("sd."): value for name, value in official.items() if name.startswith("sd.")})
    return ram


def golden_dape(official):
    ram = golden_ram(official)
    load_dape(ram, {name.removeprefix("lora."): v for name, v in official.items() if name.startswith("lora.")})
    return ram


def assert_equals_official(ram, official, case, pixel_values):
    with torch.no_grad():
        representation = ram.representation(pixel_values)
        logits = ram.tag_logits(representation)
    torch.testing.assert_close(representation, official[f"out.{case}.image_embeds"], atol=ATOL, rtol=0)
    torch.testing.assert_close(logits, official[f"out.{case}.logits"], atol=ATOL, rtol=0)
    torch.testing.assert_close(ram.tag_mask(logits).float(), official[f"out.{case}.targets"])


def test_plain_ram_equals_the_official_one(official):
    assert_equals_official(golden_ram(official), official, "base_hr", official["in.hr"])


@pytest.mark.parametrize("case", ["lora_lr", "lora_lr_unmerged"])
def test_dape_equals_the_official_one_merged_or_not(official, case):
    assert_equals_official(golden_dape(official), official, case, official["in.lr"])


def test_dape_with_its_adapter_disabled_is_the_official_base(official):
    ram = golden_dape(official)
    with ram.disable_adapter():
        assert_equals_official(ram, official, "base_hr", official["in.hr"])
    assert_equals_official(ram, official, "lora_lr", official["in.lr"])


def test_tag_names_equal_the_official_ones(official, golden):
    with safe_open(golden / "ram_tiny.safetensors", "pt") as file:
        expected = json.loads(file.metadata()["tags_base_hr"])
    assert [", ".join(names) for names in golden_ram(official).tags(official["out.base_hr.logits"])] == expected


def test_a_probability_equal_to_the_threshold_leaves_the_tag_off(ram):
    assert ram.tags(torch.tensor([[0.0, 1e-3, -1e-3, 9.0, -9.0]])) == [["tag1", "tag3"]]


def test_the_representation_starts_with_the_average_token(ram):
    with torch.no_grad():
        pixel_values = torch.randn(2, 3, 96, 96)
        average = ram.image_proj(ram.visual_encoder(pixel_values).last_hidden_state.mean(1))
        torch.testing.assert_close(ram.representation(pixel_values)[:, 0], average)


def test_another_input_size_is_refused(ram):
    with pytest.raises(ValueError, match=r"\(2, 3, 64, 96\), must be \(b, 3, 96, 96\)"):
        ram.representation(torch.zeros(2, 3, 64, 96))


def test_tags_and_thresholds_of_different_length_are_refused():
    with pytest.raises(ValueError, match="2 tags but 1 thresholds"):
        RAM(TINY, ["a", "b"], [0.5])


def test_a_fresh_lora_changes_nothing_and_trains_alone(ram):
    pixel_values = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        before = ram.representation(pixel_values)
        ram.add_lora(4)
        assert torch.equal(ram.representation(pixel_values), before)
    trainable = {name for name, parameter in ram.named_parameters() if parameter.requires_grad}
    assert trainable == {name for name, _ in ram.named_parameters() if "lora_" in name}
    # 10 Swin blocks and 2 head layers, two projections each, an A and a B.
    assert len(trainable) == 4 * (10 + 2)


def test_a_second_lora_is_refused(dape):
    with pytest.raises(ValueError, match="rank 4 already"):
        dape.add_lora(8)


@pytest.mark.parametrize("trainable", [True, False])
def test_disabling_the_adapter_keeps_what_is_trainable(dape, trainable):
    dape.requires_grad_(False)
    for name, parameter in dape.named_parameters():
        parameter.requires_grad_(trainable and "lora_" in name)
    before = {name: parameter.requires_grad for name, parameter in dape.named_parameters()}
    with dape.disable_adapter():
        pass
    assert {name: parameter.requires_grad for name, parameter in dape.named_parameters()} == before


def test_disabling_the_adapter_may_be_nested(dape):
    pixel_values = torch.randn(1, 3, 96, 96)
    with torch.no_grad(), dape.disable_adapter():
        plain = dape.representation(pixel_values)
        with dape.disable_adapter():
            pass
        assert torch.equal(dape.representation(pixel_values), plain)
    assert not torch.equal(dape.representation(pixel_values), plain)


def test_a_merged_lora_is_seen_with_the_operations_of_plain_ram(dape, tmp_path):
    image = torch.rand(2, 3, 40, 24)
    with torch.no_grad(), Operations() as before:
        expected = dape.see(image)
    with torch.no_grad(), Operations() as plain:
        assert not torch.allclose(dape.see(image, adapter=False).logits, expected.logits)
    dape.merge_lora()
    with torch.no_grad(), Operations() as after:
        found = dape.see(image)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert after.count <= plain.count < before.count
    for use in (lambda: dape.see(image, adapter=False), lambda: dape.save_pretrained(tmp_path)):
        with pytest.raises(ValueError, match="plain RAM is gone"):
            use()


def test_a_saved_folder_gives_the_same_network_back(dape, tmp_path):
    dape.thresholds.uniform_(0.4, 0.9)
    dape.save_pretrained(tmp_path / "ram")
    loaded = RAM.from_pretrained(tmp_path / "ram")
    pixel_values = torch.randn(2, 3, 96, 96)
    assert torch.equal(loaded.representation(pixel_values), dape.representation(pixel_values))
    assert torch.equal(loaded.thresholds, dape.thresholds)
    assert loaded.tag_names == dape.tag_names


def test_thresholds_keep_their_precision_in_a_half_precision_network(ram):
    before = ram.thresholds.clone()
    ram.to(torch.bfloat16)
    assert torch.equal(ram.thresholds, before)


def test_stochastic_depth_can_drop_both_branches_of_a_block(ram):
    block = ram.visual_encoder.encoder.layers[1].blocks[0].train()
    block.drop_path.drop_prob = 1.0 - 1e-7
    tokens = torch.randn(1, 144, 16)
    torch.testing.assert_close(block(tokens, (12, 12))[0], tokens)


def test_a_copy_has_its_own_stochastic_depth(ram):
    twin = copy.deepcopy(ram).train()
    block = ram.visual_encoder.encoder.layers[3].blocks[1]
    assert block.mlp.drop_path is block.drop_path
    assert not block.mlp.drop_path.training
    assert twin.visual_encoder.encoder.layers[3].blocks[1].mlp.drop_path.training


def test_gradient_checkpointing_leaves_loss_and_gradients_as_they_are(dape):
    twin = copy.deepcopy(dape)
    twin.enable_gradient_checkpointing()
    pixel_values = torch.randn(2, 3, 96, 96)
    gradients = []
    for network in (dape.train(), twin.train()):
        torch.manual_seed(1)
        network.tag_logits(network.representation(pixel_values)).square().mean().backward()
        gradients.append([p.grad for p in network.parameters() if p.requires_grad])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize(("mode", "antialias"), [("bilinear", False), ("bilinear", True), ("bicubic", False)])
def test_pixel_values_of_a_flat_picture_are_its_normalised_colour(mode, antialias):
    pixel_values = ram_pixel_values(torch.full((1, 3, 50, 70), 0.5), size=16, mode=mode, antialias=antialias)
    expected = (0.5 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(pixel_values, expected.view(1, 3, 1, 1).expand(1, 3, 16, 16))


def test_pixel_values_stay_in_the_range_of_a_picture_when_bicubic():
    checkerboard = torch.arange(64).view(8, 8).add(torch.arange(8)[:, None]).remainder(2).float().expand(1, 3, 8, 8)
    low, high = (ram_pixel_values(torch.full((1, 3, 8, 8), value), size=19) for value in (0.0, 1.0))
    pixel_values = ram_pixel_values(checkerboard, size=19, mode="bicubic")
    assert (pixel_values >= low - 1e-6).all()
    assert (pixel_values <= high + 1e-6).all()


def test_images_are_looked_at_without_antialiasing_unless_it_is_asked_for(ram):
    side, seen = 3 * ram.config.image_size, []
    images = torch.rand(1, 3, side, side + 10, generator=torch.Generator().manual_seed(0))
    handle = ram.visual_encoder.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    with torch.no_grad():
        ram.see(images)
        ram.represent(images)
        ram.see(images, resize=Resize(antialias=True))
    handle.remove()
    plain, smooth = (ram_pixel_values(images, size=ram.config.image_size, antialias=on) for on in (False, True))
    for pixel_values, expected in zip(seen, (plain, plain, smooth), strict=True):
        torch.testing.assert_close(pixel_values, expected)
    assert (plain - smooth).abs().max() > 0.1
