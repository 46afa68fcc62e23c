"""RAM and DAPE against the official classes: what they see, what they name, and one step of DAPE's training."""

import json
from types import SimpleNamespace

import official
import pytest
import torch

from seesr_pl.training.dape import DAPEDistillation

VALUES, METADATA = official.recorded("ram")


@pytest.fixture(scope="module")
def networks():
    return {"base": official.ram(dape=False), "dape": official.ram(dape=True)}


def check(network, pixels, case):
    with torch.no_grad():
        representation = network.representation(official.ram_pixels(pixels))
        logits = network.tag_logits(representation)
    torch.testing.assert_close(representation, VALUES[f"{case}/representation"], rtol=0, atol=5e-5)
    torch.testing.assert_close(logits, VALUES[f"{case}/logits"], rtol=0, atol=5e-5)
    assert torch.equal(network.tag_mask(logits).float(), VALUES[f"{case}/targets"].float())
    assert [", ".join(names) for names in network.tags(logits)] == json.loads(METADATA[f"tags/{case}"])


@pytest.mark.parametrize(
    ("name", "pixels", "case"),
    [
        ("base", "hr", "base_hr"),
        ("base", "lr", "base_lr"),
        ("dape", "lr", "dape_lr"),
        ("dape", "lr", "dape_lr_unmerged"),
    ],
)
def test_the_tagger_sees_and_names_what_the_official_one_does(networks, name, pixels, case):
    check(networks[name], pixels, case)


def test_without_its_adapter_dape_is_the_official_ram_and_with_it_dape_again(networks):
    with networks["dape"].disable_adapter():
        check(networks["dape"], "lr", "base_lr")
    check(networks["dape"], "lr", "dape_lr")


@pytest.fixture(scope="module")
def step(networks):
    """Losses, gradients and parameters of one step, under the official names."""
    module = DAPEDistillation(official.ram(dape=True), learning_rate=1e-4, warmup_steps=0).eval()
    with torch.no_grad():
        teacher = networks["base"](official.ram_pixels("hr"))
    losses = official.distillation_losses(module.ram(official.ram_pixels("lr")), teacher)
    sum(losses).backward()
    trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    gradients = official.dape_from_lora({name: parameter.grad.clone() for name, parameter in trained.items()})
    configured = module.configure_optimizers()  # its schedule holds the optimizer weakly
    configured["optimizer"].step()
    after = official.dape_from_lora({name: parameter.detach() for name, parameter in trained.items()})
    return SimpleNamespace(losses=losses, gradients=gradients, after=after)


def test_the_losses_of_dape_are_the_official_ones(step):
    for found, name in zip(step.losses, ("l_fea", "l_logits"), strict=True):
        torch.testing.assert_close(found.detach(), VALUES[f"train/{name}"], rtol=0, atol=1e-5)


def test_the_gradients_of_dape_are_the_official_ones(step):
    norms = of_group("train/grad_norm/")
    assert norms.keys() == step.gradients.keys()
    for key, expected in norms.items():
        torch.testing.assert_close(step.gradients[key].norm(), expected, rtol=1e-4, atol=0)
    for key, expected in of_group("train/grad/").items():
        torch.testing.assert_close(step.gradients[key], expected, rtol=0, atol=1e-6)


def test_the_parameters_of_dape_after_the_step_are_the_official_ones(step):
    expected = of_group("train/after_step/")
    assert len(expected) == 4
    for key, value in expected.items():
        torch.testing.assert_close(step.after[key], value, rtol=0, atol=1e-6)


def of_group(prefix):
    return {key.removeprefix(prefix): value for key, value in VALUES.items() if key.startswith(prefix)}
