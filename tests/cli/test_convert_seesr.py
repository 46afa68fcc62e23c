"""`seesr convert seesr` on tiny networks: the forms are exchangeable to the bit."""

import json

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from safetensors.torch import load_file
from stacks import UNET
from typer.testing import CliRunner

from seesr_pl.cli.convert import app
from seesr_pl.models.seesr import SeeSRControlNet, SeeSRUNet


def weights(folder, part):
    return load_file(folder / part / "diffusion_pytorch_model.safetensors")


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def convert(*arguments):
    result = CliRunner().invoke(app, ["seesr", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A plain Stable Diffusion, and SeeSR's two networks on it as the official script saves them."""
    torch.manual_seed(0)
    base, official = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("official")
    stock = UNet2DConditionModel(**UNET)
    stock.save_pretrained(base / "unet")
    unet = SeeSRUNet.from_unet(stock)
    controlnet = SeeSRControlNet.from_unet(unet, conditioning_channels=3)
    unet.save_pretrained(official / "unet")
    controlnet.save_pretrained(official / "controlnet")
    return base, official


def test_official_to_small_to_official_is_the_identity(folders, tmp_path):
    base, official = folders
    convert(official, tmp_path / "small", "--small")
    convert(tmp_path / "small", tmp_path / "back", "--base", base)
    for part in ("unet", "controlnet"):
        assert same(weights(tmp_path / "back", part), weights(official, part))


def test_the_small_form_holds_rca_and_controlnet_alone(folders, tmp_path):
    base, official = folders
    convert(official, tmp_path, "--small")
    rca = load_file(tmp_path / "rca.safetensors")
    stock = UNet2DConditionModel.from_pretrained(base / "unet").state_dict()
    assert set(rca) == set(weights(official, "unet")) - set(stock)
    assert not (tmp_path / "unet").exists()


def test_the_official_classes_are_named_in_what_is_written(folders, tmp_path):
    convert(folders[1], tmp_path)
    names = [
        json.loads((tmp_path / part / "config.json").read_text())["_class_name"] for part in ("unet", "controlnet")
    ]
    assert names == [UNet2DConditionModel.__name__, ControlNetModel.__name__]


def test_a_small_form_without_its_base_is_refused(folders, tmp_path):
    convert(folders[1], tmp_path / "small", "--small")
    with pytest.raises(ValueError, match="Stable Diffusion UNet"):
        CliRunner().invoke(app, ["seesr", str(tmp_path / "small"), str(tmp_path / "back")], catch_exceptions=False)
