"""How the tiny stack learns: what trains, at what rate, and on which target."""

import pytest
import torch

from seesr_pl.imaging.tensors import to_float
from seesr_pl.models.denoiser import encode
from seesr_pl.tiny.stack import TAGS, tiny_ram, tiny_stack
from seesr_pl.tiny.training import TinyPrior, TinyTagging
from seesr_pl.training import SeeSRDiffusion


def batch(tags):
    generator = torch.Generator().manual_seed(0)
    hq = torch.randint(0, 256, (len(tags), 64, 64, 3), dtype=torch.uint8, generator=generator)
    ids = torch.arange(len(tags))
    keys = [str(index) for index in range(len(tags))]
    zeros = torch.zeros(len(tags))
    return {
        "hq": hq,
        "lq": hq[:, ::4, ::4],
        "key": keys,
        "sample_id": ids,
        "epoch": ids,
        "severity": zeros,
        "tags": tags,
    }


def test_a_line_of_tags_is_a_row_of_ones():
    targets = TinyTagging(tiny_ram(), decay_steps=1).targets(["sky, water", ""])
    assert {TAGS[index] for index in targets[0].nonzero().flatten()} == {"sky", "water"}
    assert not targets[1].any()


def test_a_tag_that_ram_does_not_know_is_left_out():
    targets = TinyTagging(tiny_ram(tags=["water", "sky"]), decay_steps=1).targets(["unicorn, sky"])
    assert targets.tolist() == [[0, 1]]


def test_tagging_learns_a_batch_by_heart():
    torch.manual_seed(0)
    module = TinyTagging(tiny_ram(), decay_steps=20, warmup_steps=1)
    data = batch(["sky, blue", "grass, green"])
    optimizer = module.configure_optimizers()["optimizer"]
    before = module.loss(data).item()
    for _ in range(8):
        optimizer.zero_grad()
        module.loss(data).backward()
        optimizer.step()
    assert module.loss(data).item() < 0.7 * before


def test_the_prior_trains_all_but_the_frozen_parts_rca_and_the_stem():
    module = TinyPrior(tiny_stack(weights="skip"), decay_steps=1)
    training = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    everything = {name for name, _ in module.named_parameters() if name.startswith(("unet.", "controlnet."))}
    assert training == {
        name for name in everything if not {"image_attentions", "controlnet_cond_embedding"} & {*name.split(".")}
    }


def test_a_checkpoint_of_the_prior_restores_the_encoder_that_both_networks_share():
    module, other = (TinyPrior(tiny_stack(weights="skip"), decay_steps=1) for _ in range(2))
    assert module.controlnet.mid_block is module.unet.mid_block
    with torch.no_grad():
        module.unet.conv_in.weight += 1
    checkpoint = {"state_dict": module.state_dict()}
    module.hash_frozen()
    module.on_save_checkpoint(checkpoint)
    other.on_load_checkpoint(checkpoint)
    other.load_state_dict(checkpoint["state_dict"])
    assert torch.equal(other.controlnet.conv_in.weight, module.unet.conv_in.weight)
    assert other.controlnet.conv_in is other.unet.conv_in


def test_the_prior_starts_at_the_error_of_the_enlarged_picture():
    module = TinyPrior(tiny_stack(weights="skip"), decay_steps=1, prompt_drop_probability=0.0)
    data = batch(["sky", "brick"])
    hq = to_float(data["hq"])
    enlarged, latents = encode(module.vae, module.condition(hq, data).image), encode(module.vae, hq)
    expected = (enlarged - latents).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(module.training_step(data, 0)["losses"], torch.log1p(expected / 1e-3))


def test_zero_convolutions_learn_faster_and_nothing_is_left_out():
    factors = {"controlnet.controlnet_down_blocks": 5.0, "controlnet.controlnet_mid_block": 5.0}
    module = SeeSRDiffusion(tiny_stack(), representation="ram", learning_rate=1e-3, learning_rate_factors=factors)
    slow, fast = module.configure_optimizers()["optimizer"].param_groups
    assert fast["initial_lr"] == pytest.approx(5 * slow["initial_lr"])
    assert {id(p) for p in (*slow["params"], *fast["params"])} == {
        id(p) for p in module.parameters() if p.requires_grad
    }
    zero = [
        *module.controlnet.controlnet_down_blocks.parameters(),
        *module.controlnet.controlnet_mid_block.parameters(),
    ]
    assert {id(p) for p in fast["params"]} == {id(p) for p in zero}
