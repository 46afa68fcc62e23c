"""What a run's checkpoint keeps, and what it refuses."""

import copy

import pytest
import torch
from torch import nn

from seesr_pl.training import frozen


@pytest.fixture
def module():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    return model


def perturbed(module):
    other = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in other.parameters():
            if parameter.requires_grad:
                parameter.add_(1)
    return other


def test_only_what_trains_is_kept(module):
    assert set(frozen.trainable_state_dict(module)) == {"1.weight", "1.bias", "2.weight", "2.bias"}


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_a_state_that_does_not_fit_is_refused_with_the_name(module, change):
    state = frozen.trainable_state_dict(module)
    weight = state.pop("2.weight")
    if change != "missing":
        state["2.weight"] = weight[:1] if change == "shape" else weight
    if change == "unknown":
        state["0.weight"] = weight
    with pytest.raises(ValueError, match="0.weight" if change == "unknown" else "2.weight"):
        frozen.add_frozen({"state_dict": state, "frozen": {}}, module, {})


def test_the_hash_does_not_depend_on_what_trains_nor_on_the_memory_format(module):
    other = perturbed(module).to(memory_format=torch.channels_last)
    assert frozen.frozen_hash(other) == frozen.frozen_hash(module)


@pytest.mark.parametrize("change", ["value", "buffer", "precision"])
def test_the_hash_depends_on_all_that_is_frozen(module, change):
    other = copy.deepcopy(module)
    with torch.no_grad():
        if change == "value":
            other[0].bias[0] = torch.nextafter(other[0].bias[0], torch.tensor(9.0))
        elif change == "buffer":
            other[1].running_mean += 1
        else:
            other[0].to(torch.bfloat16)
    assert frozen.frozen_hash(other) != frozen.frozen_hash(module)


def test_other_frozen_weights_are_refused_with_both_hashes(module):
    checkpoint = {"state_dict": module.state_dict()}
    frozen.keep_trainable(checkpoint, module, {"vae": "aaaa", "unet": "cccc"})
    with pytest.raises(ValueError, match=r"vae: aaaa in the checkpoint, bbbb here"):
        frozen.add_frozen(checkpoint, module, {"vae": "bbbb", "unet": "cccc"})


def test_a_checkpoint_completed_with_the_frozen_part_loads_strictly(module):
    checkpoint = {"state_dict": module.state_dict()}
    frozen.keep_trainable(checkpoint, module, {})
    assert set(checkpoint["state_dict"]) == set(frozen.trainable_state_dict(module))
    other = perturbed(module)
    frozen.add_frozen(checkpoint, other, {})
    other.load_state_dict(checkpoint["state_dict"], strict=True)
    assert all(torch.equal(p, q) for p, q in zip(other.parameters(), module.parameters(), strict=True))
