"""A LoRA in place of ControlNet and RCA: what trains, what is saved, and what a pipeline is made of."""

import io

import pytest
import torch
from seesr_runs import losses_of, random_batch, small_module

from seesr_pl.training.frozen import trainable_state_dict

RANK = 2


@pytest.fixture(scope="module")
def trained():
    """A module whose LoRA has had a step of training, which moves it far."""
    torch.manual_seed(0)
    module = small_module(lora_rank=RANK)
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=100.0)
    module.training_step(random_batch([0, 1]), 0)["loss"].backward()
    optimizer.step()
    return module


def test_the_lora_alone_trains_and_it_starts_without_effect():
    plain, module = small_module(), small_module(lora_rank=RANK)
    names = trainable_state_dict(module).keys()
    assert all(".lora_" in name for name in names)
    assert {name.split(".")[0] for name in names} == {"unet", "controlnet"}
    assert all("image_attentions" in name for name in names if name.startswith("unet."))
    batch = random_batch([0, 1])
    torch.testing.assert_close(losses_of(module, batch)[0], losses_of(plain, batch)[0])


def test_without_rca_the_lora_is_the_controlnets_own():
    names = trainable_state_dict(small_module(lora_rank=RANK, rca=False)).keys()
    assert names
    assert not [name for name in names if not name.startswith("controlnet.") or "image_attentions" in name]


def test_a_checkpoint_holds_the_lora_alone_and_gives_it_back(trained):
    trained.hash_frozen()
    checkpoint = {"state_dict": trained.state_dict()}
    trained.on_save_checkpoint(checkpoint)
    assert all(".lora_" in name for name in checkpoint["state_dict"])
    assert "controlnet" in checkpoint["frozen"]
    saved = io.BytesIO()
    torch.save(checkpoint, saved)
    again = small_module(lora_rank=RANK)
    saved.seek(0)
    read = torch.load(saved, weights_only=True)
    again.on_load_checkpoint(read)
    again.load_state_dict(read["state_dict"])
    batch = random_batch([3])
    assert torch.equal(losses_of(again, batch)[0], losses_of(trained, batch)[0])


def test_what_is_exported_has_the_names_of_plain_networks_and_the_lora_in_its_weights(trained):
    batch, plain = random_batch([2, 5]), small_module()
    before = losses_of(trained, batch)[0]
    assert not torch.allclose(before, losses_of(plain, batch)[0])
    trained.merge_lora()
    torch.testing.assert_close(losses_of(trained, batch)[0], before, rtol=1e-4, atol=1e-6)
    for part in ("unet", "controlnet"):
        assert getattr(trained, part).state_dict().keys() == getattr(plain, part).state_dict().keys()
    plain.controlnet.load_state_dict(trained.controlnet.state_dict())
    plain.unet.load_state_dict(trained.unet.state_dict())
    assert torch.equal(losses_of(plain, batch)[0], losses_of(trained, batch)[0])
