"""SeeSR's weights on disk, in every layout that is met."""

import json

import official
import pytest
import torch
from diffusers import DDPMScheduler
from safetensors.torch import load_file, save_file
from sd_folders import seesr_networks, stock_unet, write_stable_diffusion
from stacks import small_ram

from seesr_pl.checkpoints.seesr import Networks, export_official, export_small, load_seesr, rca_state_dict
from seesr_pl.checkpoints.stack import load_stack


@pytest.fixture(scope="module")
def networks() -> Networks:
    return seesr_networks(0)


def assert_equal(first: torch.nn.Module, second: torch.nn.Module) -> None:
    one, other = first.state_dict(), second.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_official_folders_round_trip_bit_exactly(networks, tmp_path):
    export_official(networks, tmp_path)
    again = load_seesr(tmp_path)
    assert_equal(again.unet, networks.unet)
    assert_equal(again.controlnet, networks.controlnet)


def test_official_folders_carry_the_official_names(tmp_path, golden):
    export_official(Networks(official.unet(), official.controlnet()), tmp_path)
    for part, cls in (("unet", "UNet2DConditionModel"), ("controlnet", "ControlNetModel")):
        config = json.loads((tmp_path / part / "config.json").read_text())
        assert config["_class_name"] == cls
        assert config["use_image_cross_attention"] is True
        names = load_file(tmp_path / part / "diffusion_pytorch_model.safetensors").keys()
        assert names == json.loads((golden / f"keys_{part}_sd2.json").read_text())["keys"].keys()


def test_the_small_form_on_its_base_is_the_whole(networks, tmp_path):
    export_small(networks, tmp_path)
    again = load_seesr(tmp_path, base_unet=stock_unet(0))
    assert_equal(again.unet, networks.unet)
    assert_equal(again.controlnet, networks.controlnet)


def test_the_small_form_without_a_base_says_what_it_lacks(networks, tmp_path):
    export_small(networks, tmp_path)
    with pytest.raises(ValueError, match="holds RCA alone"):
        load_seesr(tmp_path)


def test_rca_goes_into_another_base_as_for_sd_turbo(networks, tmp_path):
    export_official(networks, tmp_path)
    turbo = stock_unet(1)
    unet = load_seesr(tmp_path, base_unet=turbo, keep_base_unet=True).unet
    expected = turbo.state_dict() | rca_state_dict(networks.unet)
    assert unet.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in unet.state_dict().items())


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("up_blocks.1.pixel_attentions.0.norm.weight", "PASD"),
        ("up_blocks.1.attentions.0.transformer_blocks.0.attn2_plus.to_q.weight", "PASD"),
        ("model.diffusion_model.input_blocks.0.0.weight", "LDM"),
    ],
)
def test_foreign_weights_are_refused_by_name(tmp_path, name, origin):
    for part in ("unet", "controlnet"):
        (tmp_path / part).mkdir()
        save_file({name: torch.zeros(1)}, tmp_path / part / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ValueError, match=origin):
        load_seesr(tmp_path)


def test_the_overwritten_last_save_of_the_official_script_is_recognised(networks, tmp_path):
    networks.unet.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="UNet overwrites the ControlNet"):
        load_seesr(tmp_path)


def test_a_folder_of_something_else_is_refused_with_what_it_holds(tmp_path):
    (tmp_path / "cat.png").touch()
    with pytest.raises(ValueError, match=r"it holds cat\.png"):
        load_seesr(tmp_path)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A Stable Diffusion folder as diffusers lays it out, at a tiny size, and a RAM folder in it."""
    folder = tmp_path_factory.mktemp("base")
    write_stable_diffusion(folder, seed=0, scheduler=DDPMScheduler())
    small_ram(dape=False).save_pretrained(folder / "ram")
    return folder


def test_a_plain_stable_diffusion_folder_starts_training(base):
    stack = load_stack(base, ram=base / "ram", rca_init="zero")
    assert all(parameter.isfinite().all() for parameter in stack.unet.parameters())
    assert rca_state_dict(stack.unet)["mid_block.image_attentions.0.proj_out.weight"].abs().max() == 0
    assert not stack.unet.training
    assert not stack.controlnet.training


def test_official_weights_replace_those_of_the_base(base, networks, tmp_path):
    export_official(networks, tmp_path)
    stack = load_stack(base, seesr=tmp_path, ram=base / "ram")
    assert_equal(stack.unet, networks.unet)
    assert_equal(stack.controlnet, networks.controlnet)


def test_missing_files_are_named_with_their_origin(tmp_path):
    missing = load_stack.missing_files(tmp_path / "sd", seesr=tmp_path / "seesr", ram=tmp_path / "ram.pth")
    text = " ".join(f"{file.path} {file.origin}" for file in missing)
    for word in ("sd/vae", "sd/unet", "stable-diffusion-2-base", "github.com/cswry/SeeSR", "ram.pth", "Hugging Face"):
        assert word in text
    with pytest.raises(FileNotFoundError, match=r"sd/vae\n.*from: stable-diffusion-2-base"):
        load_stack(tmp_path / "sd", ram=tmp_path / "ram.pth")


def test_random_weights_need_no_file():
    assert load_stack.missing_files("nowhere", weights="random") == []
