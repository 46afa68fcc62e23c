"""One step of SeeSR's training against the official script: loss, gradients, and the parameters after AdamW."""

import zlib
from types import SimpleNamespace

import official
import pytest
import torch


@pytest.fixture(scope="module")
def values():
    return official.recorded("train")[0]


def run(module, values):
    return official.training_step(
        module,
        official.image("train/hq", 2, 3, 64, 96),
        draws={name: values[f"draws/{name}"] for name in ("noise", "posterior_noise", "timesteps")},
        text=official.normal("train/text", 2, 77, 32),
        representation=official.normal("train/representation", 2, 17, 512),
        image=official.image("train/lq", 2, 3, 64, 96),
    )


@pytest.fixture(scope="module")
def step(values):
    """The module after one clipped step on noise prediction, and what the step met on its way."""
    module = official.training_module("epsilon")
    loss, latents = run(module, values)
    loss.backward()
    parameters = {name: parameter for name, parameter in module.named_parameters() if parameter.grad is not None}
    gradients = {name: parameter.grad.clone() for name, parameter in sorted(parameters.items())}
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    total_norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
    configured = module.configure_optimizers()  # its schedule holds the optimizer weakly
    configured["optimizer"].step()
    return SimpleNamespace(
        latents=latents, loss=loss.detach(), gradients=gradients, total_norm=total_norm, parameters=parameters
    )


def test_latents_are_the_official_sample_of_the_posterior(values, step):
    torch.testing.assert_close(step.latents, values["latents"], rtol=0, atol=1e-5)


def test_the_loss_of_noise_prediction_is_the_official_one(values, step):
    torch.testing.assert_close(step.loss, values["loss/epsilon"], rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_loss_of_velocity_prediction_is_the_official_one(values):
    loss = run(official.training_module("v_prediction"), values).loss
    torch.testing.assert_close(loss, values["loss/v_prediction"], rtol=0, atol=1e-5)


def test_what_trains_is_what_the_official_script_trains(values, step):
    assert zlib.crc32("\n".join(step.gradients).encode()) == values["names_crc32"].item()


def test_the_gradients_are_the_official_ones(values, step):
    norms = torch.stack([gradient.norm() for gradient in step.gradients.values()])
    torch.testing.assert_close(norms, values["grad_norms"], rtol=1e-4, atol=0)
    for key in [key for key in values if key.startswith("grad/")]:
        torch.testing.assert_close(step.gradients[key.removeprefix("grad/")], values[key], rtol=0, atol=1e-6)
    torch.testing.assert_close(step.total_norm, values["total_norm"], rtol=0, atol=1e-5)


def test_the_parameters_after_the_step_are_the_official_ones(values, step):
    stepped = [key for key in values if key.startswith("after_step/")]
    assert len(stepped) == 12
    for key in stepped:
        found = step.parameters[key.removeprefix("after_step/")].detach()
        torch.testing.assert_close(found, values[key], rtol=0, atol=1e-6)
