"""The official RAM and DAPE state dicts map strictly and both ways."""

import ast
import csv

import pytest
import torch
from ram_cases import TINY
from safetensors.torch import load_file

from seesr_pl.checkpoints import dape_state_dict, load_dape, load_ram, ram_state_dict
from seesr_pl.models.ram import RAM, RAMConfig
from seesr_pl.models.ram_files import sizes
from seesr_pl.models.ram_official import UNUSED_NETWORKS, is_unused


def tiny_ram(seed=0):
    torch.manual_seed(seed)
    return RAM(TINY, ["cat", "dog", "house"], [0.5, 0.6, 0.7])


def randomize_lora(ram):
    for name, parameter in ram.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter)
    return ram


@pytest.fixture(scope="module")
def full_size(golden):
    """The official names and shapes of the real RAM with LoRA, as meta tensors."""
    with (golden / "keys_ram_swinl_lora_official.tsv").open() as file:
        rows = list(csv.reader(file, delimiter="\t"))
    return {row[0]: torch.empty(ast.literal_eval(row[1]), device="meta") for row in rows}


@pytest.fixture(scope="module")
def full_size_ram():
    with torch.device("meta"):
        return RAM(RAMConfig(), [str(index) for index in range(4585)], [0.5] * 4585)


def shapes(state):
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_every_official_name_and_shape_maps_at_full_size_both_ways(full_size, full_size_ram):
    base = {name: tensor for name, tensor in full_size.items() if "lora_" not in name}
    load_ram(full_size_ram, base)
    used = {name: tensor for name, tensor in base.items() if not is_unused(name)}
    assert shapes(ram_state_dict(full_size_ram)) == shapes(used)
    assert sum(tensor.numel() for tensor in used.values()) == 212_117_045


def test_the_sizes_of_the_full_network_are_read_from_its_shapes(full_size):
    assert RAMConfig(**sizes(full_size)) == RAMConfig()


def test_every_official_lora_name_and_shape_maps_at_full_size_both_ways(full_size, full_size_ram):
    lora = {name: tensor for name, tensor in full_size.items() if "lora_" in name}
    assert len(lora) == 248
    load_dape(full_size_ram, lora)
    used = {name: tensor for name, tensor in lora.items() if not name.startswith(UNUSED_NETWORKS)}
    assert shapes(dape_state_dict(full_size_ram)) == shapes(used)
    trainable = [parameter for parameter in full_size_ram.parameters() if parameter.requires_grad]
    assert sum(parameter.numel() for parameter in trainable) == 622_592


def test_the_official_tensors_come_back_bit_for_bit(golden):
    official = load_file(golden / "ram_tiny.safetensors")
    base = {name.removeprefix("sd."): tensor for name, tensor in official.items() if name.startswith("sd.")}
    lora = {name.removeprefix("lora."): tensor for name, tensor in official.items() if name.startswith("lora.")}
    ram = RAM(RAMConfig(**sizes(base)), [str(index) for index in range(37)], official["class_threshold"].tolist())
    load_dape(ram, lora)
    load_ram(ram, base)
    out = ram_state_dict(ram) | dape_state_dict(ram)
    expected = {name: tensor for name, tensor in (base | lora).items() if not is_unused(name)}
    assert out.keys() == expected.keys()
    assert all(torch.equal(out[name], expected[name]) for name in out)


def test_export_then_import_gives_bit_identical_outputs():
    source, target = randomize_lora(tiny_ram_with_lora(rank=3)), tiny_ram(seed=1)
    load_ram(target, ram_state_dict(source))
    load_dape(target, dape_state_dict(source))
    pixel_values = torch.randn(2, 3, 32, 32)
    for network in (source, target):
        assert network.lora_rank == 3
    assert torch.equal(target.representation(pixel_values), source.representation(pixel_values))


def tiny_ram_with_lora(rank):
    ram = tiny_ram()
    ram.add_lora(rank)
    return ram


def test_the_prefix_of_data_parallel_and_the_old_name_of_the_head_are_understood():
    source, target = tiny_ram(), tiny_ram(seed=1)
    old = {f"module.{n.replace('tagging_head', 'vision_multi')}": t for n, t in ram_state_dict(source).items()}
    load_ram(target, old)
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("fc.bias"), "1 missing: fc.bias"),
        (lambda state: state.update(extra=torch.zeros(1)), "1 unknown: extra"),
        (
            lambda state: state.update({"image_proj.bias": torch.zeros(5)}),
            r"1 of another shape: image_proj.bias \(5,\) instead of \(16,\)",
        ),
        (lambda state: state.update({"a.lora_A": torch.zeros(1)}), "found a RAM with LoRA tensors in it"),
    ],
)
def test_a_state_dict_that_is_not_this_ram_is_refused_and_changes_nothing(change, message):
    state, ram = ram_state_dict(tiny_ram()), tiny_ram(seed=1)
    before = {name: tensor.clone() for name, tensor in ram.state_dict().items()}
    change(state)
    with pytest.raises(ValueError, match=message):
        load_ram(ram, state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in ram.state_dict().items())


@pytest.mark.parametrize(
    ("names", "model"),
    [
        (["down_blocks.0.resnets.0.norm1.weight"], "a diffusion UNet"),
        (["reweight_scale", "wordvec_proj.weight"], r"a RAM\+\+"),
        (["visual_encoder.layers.0.blocks.0.attn.qkv.lora_A"], "a DAPE"),
        (["label_embed.weight"], "a Tag2Text"),
        (["a", "b", "c", "d"], "4 tensors named a, b, c, ..."),
    ],
)
def test_another_model_is_named(names, model):
    state = {name: torch.zeros(1) for name in names}
    with pytest.raises(ValueError, match=f"found {model}"):
        load_ram(tiny_ram(), state)
    with pytest.raises(ValueError, match=f"found {model}"):
        sizes(state)


def test_a_dape_of_another_rank_is_refused():
    state = dape_state_dict(tiny_ram_with_lora(rank=2))
    with pytest.raises(ValueError, match="rank 2, this RAM has rank 4"):
        load_dape(tiny_ram_with_lora(rank=4), state)


def test_a_dape_that_trained_an_unused_network_is_refused():
    state = dape_state_dict(tiny_ram_with_lora(rank=2))
    name = "tag_encoder.encoder.layer.0.attention.self.query.lora_B"
    with pytest.raises(ValueError, match=f"{name} is not zero"):
        load_dape(tiny_ram(), state | {name: torch.ones(4, 2)})


def test_a_ram_file_given_as_dape_is_refused():
    with pytest.raises(ValueError, match="not a DAPE state dict: found a RAM"):
        load_dape(tiny_ram(), ram_state_dict(tiny_ram()))


def test_exporting_a_dape_from_plain_ram_is_refused():
    with pytest.raises(ValueError, match="no LoRA"):
        dape_state_dict(tiny_ram())
