"""One training step of SeeSRDiffusion against the official script's."""

import json

import official
import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler
from safetensors.torch import load_file
from stacks import small_ram
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from seesr_pl.models.denoiser import embed, encode
from seesr_pl.models.seesr import SeeSRControlNet, SeeSRUNet
from seesr_pl.models.stack import SeeSRStack
from seesr_pl.training import SeeSRDiffusion


def network(golden, name, cls):
    config = json.loads((golden / f"{name}_tiny.json").read_text())["config"]
    model = cls.from_config(config)
    model.load_state_dict(load_file(golden / f"{name}_tiny.weights.safetensors"))
    return model


def text_encoder(golden, config):
    model = CLIPTextModel(CLIPTextConfig(**config))
    state = load_file(golden / "pipeline_tiny.text.safetensors")
    del state["text_model.embeddings.position_ids"]
    model.load_state_dict({name.removeprefix("text_model."): tensor for name, tensor in state.items()})
    return model


@pytest.fixture(scope="module")
def stack(golden):
    record = json.loads((golden / "pipeline_tiny.json").read_text())
    vae = AutoencoderKL(**record["vae_config"])
    vae.load_state_dict(load_file(golden / "pipeline_tiny.vae.safetensors"))
    scheduler = {name: value for name, value in record["scheduler_resolved"].items() if not name.startswith("_")}
    return SeeSRStack(
        vae=vae,
        text_encoder=text_encoder(golden, record["text_config"]),
        tokenizer=CLIPTokenizer.from_pretrained(golden / "pipeline_tiny.tokenizer"),
        unet=network(golden, "unet", SeeSRUNet),
        controlnet=network(golden, "controlnet", SeeSRControlNet),
        ram=small_ram(dape=False),
        scheduler=DDPMScheduler.from_config(scheduler),
    )


@pytest.fixture(scope="module")
def step(golden):
    return load_file(golden / "train_step_tiny.safetensors")


@pytest.fixture(scope="module")
def record(golden):
    return json.loads((golden / "train_step_tiny.json").read_text())


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "checkpointed"])
def trained(request, stack, step):
    """The module after the backward pass of the recorded step, and the loss."""
    module = SeeSRDiffusion(stack, representation="ram", gradient_checkpointing=request.param)
    module.zero_grad()
    names = {"noise": "noise", "posterior_noise": "vae_posterior_noise", "timesteps": "timesteps"}
    draws = {ours: step[f"draws/{theirs}"] for ours, theirs in names.items()}
    loss, _ = official.training_step(
        module,
        step["in/pixel_values"] / 2 + 0.5,
        draws=draws,
        text=embed(stack.tokenizer, stack.text_encoder, ["cat, dog, clean", ""]),
        representation=step["in/ram_encoder_hidden_states"],
        image=step["in/conditioning_pixel_values"],
        # The recorded images are no 8-bit levels, as a batch's are.
        latents=step["mid/latents"],
    )
    loss.backward()
    yield module, loss.item()
    stack.unet.disable_gradient_checkpointing()
    stack.controlnet.disable_gradient_checkpointing()


def test_the_text_is_that_of_the_official_step(stack, step):
    text = embed(stack.tokenizer, stack.text_encoder, ["cat, dog, clean", ""])
    torch.testing.assert_close(text, step["mid/encoder_hidden_states"], atol=1e-5, rtol=0)


def test_the_latents_are_those_of_the_official_step(stack, step):
    images, noise = step["in/pixel_values"] / 2 + 0.5, step["draws/vae_posterior_noise"]
    latents = encode(stack.vae, images, posterior_noise=noise)
    torch.testing.assert_close(latents, step["mid/latents"], atol=1e-5, rtol=0)


def test_the_loss_is_the_official_one(trained, record):
    assert trained[1] == pytest.approx(record["loss"], abs=1e-5)


def test_all_gradient_norms_are_the_official_ones(trained, record):
    module, _ = trained
    expected = {f"{part}.{name}": norm for part, norms in record["grad_norms"].items() for name, norm in norms.items()}
    found = {name: p.grad.norm().item() for name, p in module.named_parameters() if p.grad is not None}
    assert len(found) == 938
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_whole_gradients_are_the_official_ones(trained, step):
    parameters = dict(trained[0].named_parameters())
    gradients = {name.split("/", 1)[1]: tensor for name, tensor in step.items() if name.startswith("grad/")}
    assert len(gradients) == 15
    for name, gradient in gradients.items():
        torch.testing.assert_close(parameters[name.replace("/", ".", 1)].grad, gradient, atol=1e-6, rtol=1e-4)


def test_exactly_the_official_parameters_train(trained, record):
    trainable = {name for name, parameter in trained[0].named_parameters() if parameter.requires_grad}
    assert trainable == {f"{part}.{name}" for part, norms in record["grad_norms"].items() for name in norms}
    assert (
        len([name for name in trainable if name.startswith("unet.")]) == record["trainable"]["n_trainable_tiny"]["unet"]
    )
