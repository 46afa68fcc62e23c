"""UNet and ControlNet against the official classes: same weights, same inputs, same outputs."""

import copy
import functools

import official
import pytest
import torch

from seesr_pl.models.ram import ram_pixel_values

SIZES = {
    "even": {"batch": 2, "latent": (8, 12), "timesteps": [981, 401], "tokens": 77, "representation": 17},
    "odd": {"batch": 1, "latent": (7, 9), "timesteps": [20], "tokens": 9, "representation": 5},
}
CONTROLNET_CASES = [
    ("even", "scale1.0"),
    ("even", "scale0.7"),
    ("even", "no_representation"),
    ("even", "guess_mode"),
    ("odd", "scale0.7"),
]
NUM_DOWN = 12


@pytest.fixture(scope="module")
def values():
    return official.recorded("networks")[0]


@pytest.fixture(scope="module")
def controlnet():
    return official.controlnet().requires_grad_(False)


@pytest.fixture(scope="module")
def unet():
    return official.unet().requires_grad_(False)


@functools.cache
def inputs(case):
    """(sample, timesteps, text), representation, image of a case."""
    size = SIZES[case]
    batch, (height, width) = size["batch"], size["latent"]
    return (
        (
            official.normal(f"nets/{case}/sample", batch, 4, height, width),
            torch.tensor(size["timesteps"]),
            official.normal(f"nets/{case}/text", batch, size["tokens"], 32),
        ),
        official.normal(f"nets/{case}/representation", batch, size["representation"], 512),
        official.image(f"nets/{case}/image", batch, 3, 8 * height, 8 * width),
    )


def residuals(case, values):
    shapes = [values[f"{case}/controlnet/scale0.7/{name}"].shape for name in names()]
    *down, mid = (
        official.normal(f"nets/{case}/{name}", *shape, scale=0.5) for name, shape in zip(names(), shapes, strict=True)
    )
    return {"down_block_additional_residuals": tuple(down), "mid_block_additional_residual": mid}


def names():
    return [*(f"down_{index:02d}" for index in range(NUM_DOWN)), "mid"]


def test_numpy_still_gives_the_weights_of_the_rule(values):
    assert torch.equal(official.normal("rule", 16), values["rule"])


@pytest.mark.parametrize(("case", "variant"), CONTROLNET_CASES)
def test_the_controlnet_gives_the_official_residuals(values, controlnet, case, variant):
    arguments, representation, image = inputs(case)
    down, mid = controlnet(
        *arguments,
        image,
        conditioning_scale=0.7 if variant in ("scale0.7", "no_representation") else 1.0,
        guess_mode=variant == "guess_mode",
        return_dict=False,
        image_encoder_hidden_states=None if variant == "no_representation" else representation,
    )
    for name, found in zip(names(), (*down, mid), strict=True):
        torch.testing.assert_close(found, values[f"{case}/controlnet/{variant}/{name}"], rtol=0, atol=5e-5)


@pytest.mark.parametrize("variant", ["full", "no_representation", "no_residuals"])
@pytest.mark.parametrize("case", SIZES)
def test_the_unet_gives_the_official_prediction(values, unet, case, variant):
    arguments, representation, _ = inputs(case)
    found = unet(
        *arguments,
        image_encoder_hidden_states=None if variant == "no_representation" else representation,
        **({} if variant == "no_residuals" else residuals(case, values)),
    ).sample
    torch.testing.assert_close(found, values[f"{case}/unet/{variant}"], rtol=0, atol=5e-5)


def test_a_copy_runs_its_own_representation_attention(values, unet):
    twin = copy.deepcopy(unet)
    for name, parameter in twin.named_parameters():
        if "image_attentions" in name.split("."):
            torch.nn.init.zeros_(parameter)  # the identity
    arguments, representation, _ = inputs("odd")
    found = twin(*arguments, image_encoder_hidden_states=representation, **residuals("odd", values)).sample
    torch.testing.assert_close(found, values["odd/unet/no_representation"], rtol=0, atol=5e-5)


def test_ram_is_given_pixels_normalised_as_imagenet_is():
    pixels = ram_pixel_values(torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4), size=2)
    expected = torch.tensor([(1 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, -0.406 / 0.225])
    torch.testing.assert_close(pixels, expected.view(1, 3, 1, 1).expand(1, 3, 2, 2))
