"""SeeSR's UNet and ControlNet against the official ones."""

import copy
import json

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from seesr_pl.models.seesr import SeeSRControlNet, SeeSRUNet

TOLERANCE = {"atol": 1e-4, "rtol": 0}


def recorded(golden, name):
    config = json.loads((golden / f"{name}_tiny.json").read_text())["config"]
    values = load_file(golden / f"{name}_tiny.io.safetensors")
    inputs = {key[len("c0/in/") :]: value for key, value in values.items() if key.startswith("c0/in/")}
    return config, inputs, values


@pytest.fixture(scope="module")
def unet(golden):
    config, _, _ = recorded(golden, "unet")
    model = SeeSRUNet.from_config(config).eval().requires_grad_(False)
    model.load_state_dict(load_file(golden / "unet_tiny.weights.safetensors"))
    return model


@pytest.fixture(scope="module")
def controlnet(golden):
    config, _, _ = recorded(golden, "controlnet")
    model = SeeSRControlNet.from_config(config).eval().requires_grad_(False)
    model.load_state_dict(load_file(golden / "controlnet_tiny.weights.safetensors"))
    return model


def run_unet(model, golden, **changes):
    _, inputs, _ = recorded(golden, "unet")
    down = tuple(inputs[key] for key in sorted(inputs) if key.startswith("down_block"))
    arguments = {
        "image_encoder_hidden_states": inputs["image_encoder_hidden_states"],
        "down_block_additional_residuals": down,
        "mid_block_additional_residual": inputs["mid_block_additional_residual"],
    }
    return model(
        inputs["sample"], inputs["timestep"], inputs["encoder_hidden_states"], **{**arguments, **changes}
    ).sample


def run_controlnet(model, golden, *, scale=1.0, guess_mode=False, attend=True):
    _, inputs, _ = recorded(golden, "controlnet")
    return model(
        inputs["sample"],
        inputs["timestep"],
        inputs["encoder_hidden_states"],
        inputs["controlnet_cond"],
        conditioning_scale=scale,
        guess_mode=guess_mode,
        return_dict=False,
        image_encoder_hidden_states=inputs["image_encoder_hidden_states"] if attend else None,
    )


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        ("sample", {}),
        ("sample_no_image_attn", {"image_encoder_hidden_states": None}),
        ("sample_no_controlnet", {"down_block_additional_residuals": None, "mid_block_additional_residual": None}),
    ],
)
def test_unet_equals_the_official_one(unet, golden, case, changes):
    _, _, values = recorded(golden, "unet")
    torch.testing.assert_close(run_unet(unet, golden, **changes), values[f"c0/out/{case}"], **TOLERANCE)


@pytest.mark.parametrize(
    ("case", "arguments"),
    [
        ("scale1.0", {}),
        ("scale0.7", {"scale": 0.7}),
        ("guess_mode_scale1.0", {"guess_mode": True}),
        ("no_image_attn_scale1.0", {"attend": False}),
    ],
)
def test_controlnet_equals_the_official_one(controlnet, golden, case, arguments):
    _, _, values = recorded(golden, "controlnet")
    down, mid = run_controlnet(controlnet, golden, **arguments)
    outputs = {f"down_{index:02d}": value for index, value in enumerate(down)} | {"mid": mid}
    expected = {key.split("/")[-1]: value for key, value in values.items() if key.startswith(f"c0/out/{case}/")}
    assert expected
    for name, value in expected.items():
        torch.testing.assert_close(outputs[name], value, **TOLERANCE)


@pytest.mark.parametrize(("name", "cls"), [("unet", SeeSRUNet), ("controlnet", SeeSRControlNet)])
def test_names_and_shapes_at_full_size_are_the_official_ones(golden, name, cls):
    record = json.loads((golden / f"keys_{name}_sd2.json").read_text())
    with torch.device("meta"):
        model = cls.from_config(record["config"])
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == record["keys"]


def test_a_copy_runs_its_own_representation_attention(unet, golden):
    twin = copy.deepcopy(unet)
    for block in (*twin.down_blocks[:3], twin.mid_block, *twin.up_blocks[1:]):
        for attention, image_attention in zip(block.attentions, block.image_attentions, strict=True):
            assert attention.image_attention[0] is image_attention
            torch.nn.init.zeros_(image_attention.proj_out.weight)
            torch.nn.init.zeros_(image_attention.proj_out.bias)
    assert (run_unet(twin, golden) - run_unet(unet, golden)).abs().max() > 0.1


def test_saved_folders_read_back_equal(unet, controlnet, tmp_path):
    for name, network in (("unet", unet), ("controlnet", controlnet)):
        network.save_pretrained(tmp_path / name)
        again, saved = type(network).from_pretrained(tmp_path / name).state_dict(), network.state_dict()
        assert again.keys() == saved.keys()
        assert all(torch.equal(again[key], value) for key, value in saved.items())
        assert json.loads((tmp_path / name / "config.json").read_text())["use_image_cross_attention"] is True


@pytest.fixture
def stock(golden):
    config, _, _ = recorded(golden, "unet")
    torch.manual_seed(0)
    return UNet2DConditionModel.from_config(
        {k: v for k, v in config.items() if k != "use_image_cross_attention"}
    ).eval()


def test_a_plain_folder_is_refused_with_the_way_out(stock, tmp_path):
    stock.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no RCA: load it as UNet2DConditionModel"):
        SeeSRUNet.from_pretrained(tmp_path)


def test_from_unet_leaves_no_weight_uninitialised(stock):
    model = SeeSRUNet.from_unet(stock)
    for name, parameter in model.named_parameters():
        assert parameter.device.type == "cpu", name
        assert parameter.isfinite().all(), name
        assert parameter.abs().max() < 10, name
    assert model.down_blocks[0].image_attentions[0].proj_out.weight.std() > 0.01


def test_zero_initialised_attention_starts_as_the_stock_unet(stock, golden):
    model = SeeSRUNet.from_unet(stock, rca_init="zero")
    _, inputs, _ = recorded(golden, "unet")
    plain = stock(inputs["sample"], inputs["timestep"], inputs["encoder_hidden_states"]).sample
    ours = run_unet(model, golden, down_block_additional_residuals=None, mid_block_additional_residual=None)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-5)


def test_controlnet_from_unet_copies_the_encoder_with_its_representation_attention(stock):
    unet = SeeSRUNet.from_unet(stock)
    controlnet = SeeSRControlNet.from_unet(unet, conditioning_embedding_out_channels=(8, 12, 16, 24))
    weights, copied = unet.state_dict(), controlnet.state_dict()
    shared = [name for name in copied if name.startswith(("down_blocks.", "mid_block.", "conv_in.", "time_embedding."))]
    assert len(shared) == 480
    assert sum("image_attentions" in name for name in shared) == 182
    assert all(torch.equal(copied[name], weights[name]) for name in shared)


def test_checkpointing_changes_no_gradient(unet, golden):
    gradients = []
    for checkpointing in (False, True):
        model = copy.deepcopy(unet).requires_grad_(True)
        if checkpointing:
            model.enable_gradient_checkpointing()
        run_unet(model, golden).square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=0, atol=1e-7)
