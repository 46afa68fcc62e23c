"""What a SeeSR training step is made of."""

import copy
from importlib.util import find_spec

import official
import pytest
import torch
from seesr_runs import losses_of, random_batch, small_module
from stacks import small_stack
from torch.autograd.graph import saved_tensors_hooks
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from seesr_pl import keyed
from seesr_pl.imaging.tensors import to_float
from seesr_pl.models.denoiser import predict, tokens
from seesr_pl.models.prompts import prompter
from seesr_pl.training import SeeSRDiffusion
from seesr_pl.training.frozen import cast_frozen
from seesr_pl.training.optim import schedule


@pytest.fixture(scope="module")
def module():
    return small_module()


@pytest.fixture
def batch():
    return random_batch([3, 5])


def test_a_samples_loss_does_not_depend_on_its_batch(module, batch):
    with torch.no_grad():
        together, _ = losses_of(module, batch)
        alone = torch.cat([losses_of(module, random_batch([number]))[0] for number in (3, 5)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_a_sample_meets_other_noise_in_another_epoch(module, monkeypatch):
    met, add_noise = [], module.scheduler.add_noise
    monkeypatch.setattr(module.scheduler, "add_noise", lambda *given: met.append(given[1]) or add_noise(*given))
    for epoch in (0, 1, 0):
        losses_of(module, random_batch([3], epoch=epoch))
    assert not torch.equal(met[0], met[1])
    assert torch.equal(met[0], met[2])
    assert met[0].std() == pytest.approx(1, abs=0.1)


def test_timesteps_cover_the_schedule_evenly(module):
    keys = {"seed": 0, "epochs": torch.zeros(4000, dtype=torch.int64), "sample_ids": torch.arange(4000)}
    timesteps = keyed.integers(1000, purpose="timestep", **keys)
    assert torch.histc(timesteps.float(), 10, 0, 1000).sub(400).abs().max() < 100


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_prompts_are_dropped_with_the_given_chance(probability):
    module = small_module(tags="shards", prompt_drop_probability=probability)
    batch = random_batch(list(range(200)), size=4)
    found = module.prompt_tokens(batch["hq"], batch)
    dropped = (found == tokens(module.tokenizer, [""])).all(1).tolist()
    assert sum(dropped) / 200 == pytest.approx(probability, abs=0.1)
    texts = ["" if dropped[number] else f"tag{number}," for number in range(200)]
    assert torch.equal(found, tokens(module.tokenizer, texts))


def test_tags_are_those_of_plain_ram_on_the_hq_image_with_the_official_comma(batch):
    module = small_module(prompt_drop_probability=0.0)
    torch.nn.init.normal_(next(p for name, p in module.ram.named_parameters() if "lora_B" in name))
    plain = SeeSRDiffusion(small_stack(dape=False), representation="ram", prompt_drop_probability=0.0)
    hq = batch["hq"].permute(0, 3, 1, 2).float() / 255
    told = [f"{tags}," for tags in prompter("ram", ram=plain.ram)(hq)]
    for each in (module, plain):
        assert torch.equal(each.prompt_tokens(hq, batch), tokens(module.tokenizer, told))


def test_the_text_may_be_the_class_that_a_classifier_of_transformers_names(batch, tmp_path):
    config = ViTConfig(image_size=16, patch_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    config.id2label = {0: "tench, Tinca tinca"}
    ViTForImageClassification(config).save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path)
    module = small_module(tags="classification", prompt_model=str(tmp_path), prompt_drop_probability=0.0)
    told = tokens(module.tokenizer, ["tench,", "tench,"])
    assert torch.equal(module.prompt_tokens(to_float(batch["hq"]), batch), told)


@pytest.mark.parametrize("style", ["representation", "tags"])
def test_dape_without_a_lora_is_refused_instead_of_being_plain_ram(style):
    with pytest.raises(ValueError, match="LoRA"):
        SeeSRDiffusion(small_stack(dape=False), **{"representation": "ram", style: "dape"})


def test_the_text_may_be_the_tags_of_dape(batch):
    module = small_module(tags="dape", prompt_drop_probability=0.0)
    torch.manual_seed(0)
    for name, parameter in module.ram.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=10.0)
    hq = to_float(batch["hq"])
    seen, plain = (prompter(style, ram=module.ram)(hq) for style in ("dape", "ram"))
    assert seen != plain
    assert torch.equal(module.prompt_tokens(hq, batch), tokens(module.tokenizer, [f"{tags}," for tags in seen]))


def test_only_lora_makes_dape_differ_from_ram(batch):
    module = small_module()
    loras = [parameter for name, parameter in module.named_parameters() if "lora_B" in name]
    with torch.no_grad():
        for parameter in loras:
            parameter.zero_()
        hq = to_float(batch["hq"])
        ram = _with(module, representation="ram")
        same = [module.condition(hq, batch).representation, ram.condition(hq, batch).representation]
        for parameter in loras:
            parameter.normal_()
        other = [module.condition(hq, batch).representation, ram.condition(hq, batch).representation]
    assert torch.equal(*same)
    assert not torch.allclose(*other)
    assert torch.equal(same[1], other[1])


def test_without_rca_neither_is_it_trained_nor_does_it_change_anything(batch):
    module = small_module(rca=False)
    trainable = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    assert all(name.startswith("controlnet.") and "image_attentions" not in name for name in trainable)
    condition = module.condition(to_float(batch["hq"]), batch)
    assert condition.representation is None
    whatever = condition._replace(representation=torch.randn(2, 5, 512))
    latents = torch.randn(2, module.vae.config.latent_channels, 8, 8)
    timesteps = torch.tensor([10, 900])
    with torch.no_grad():
        answers = [predict(module.unet, module.controlnet, latents, timesteps, c) for c in (condition, whatever)]
    torch.testing.assert_close(*answers)


def test_without_soft_prompt_the_representation_tells_nothing(module, batch):
    untold = _with(module, representation="none")
    representation = untold.condition(to_float(batch["hq"]), batch).representation
    assert representation.shape == (2, 1, 512)
    assert not representation.any()


def test_nothing_frozen_gets_a_gradient_and_everything_else_does(module, batch):
    module.zero_grad()
    module.training_step(batch, 0)["loss"].backward()
    for name, parameter in module.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_what_is_frozen_stays_in_eval_mode(module):
    module.train()
    assert not any(part.training for part in (module.vae, module.text_encoder, module.unet, module.ram))
    assert module.controlnet.training


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_a_perfect_prediction_of_any_type_has_no_loss(module, batch, kind, monkeypatch):
    scheduler = copy.deepcopy(module.scheduler)
    scheduler.register_to_config(prediction_type=kind)
    monkeypatch.setattr(module, "scheduler", scheduler)
    met, add_noise = [], scheduler.add_noise
    monkeypatch.setattr(scheduler, "add_noise", lambda *given: met.append(given) or add_noise(*given))

    def perfect(*_):
        latents, noise, timesteps = met[-1]
        answers = {"epsilon": noise, "sample": latents, "v_prediction": None}
        return scheduler.get_velocity(latents, noise, timesteps) if kind == "v_prediction" else answers[kind]

    monkeypatch.setattr("seesr_pl.training.seesr.predict", perfect)
    assert not losses_of(module, batch)[0].any()


def test_gradient_checkpointing_forgets_nearly_all_activations_of_both_networks(batch):
    # In the networks of `small_stack` a block is little more than its input, which is kept.
    stack = small_stack()._replace(unet=official.unet(), controlnet=official.controlnet())
    plain, checkpointed = (
        _activation_bytes(SeeSRDiffusion(stack, gradient_checkpointing=on), batch) for on in (False, True)
    )
    assert checkpointed < plain / 3


def test_a_copy_shares_what_is_frozen_and_nothing_else(module):
    other = copy.deepcopy(module)
    for (name, left), right in zip(module.named_parameters(), other.parameters(), strict=True):
        assert (left is right) == (not left.requires_grad), name


def test_bfloat16_storage_of_what_is_frozen_changes_no_bit_under_autocast(batch):
    losses = []
    for dtype in ("float32", "bfloat16"):
        module = small_module(frozen_dtype=dtype)
        cast_frozen(module, module.frozen_dtype)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            losses.append(losses_of(module, batch)[0])
    assert torch.equal(*losses)
    assert module.unet.conv_in.weight.dtype == torch.bfloat16
    assert module.controlnet.conv_in.weight.dtype == torch.float32


def test_the_warm_up_rises_linearly_and_the_rate_then_stays():
    assert rates(warmup_steps=4) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_the_rate_falls_at_each_milestone():
    assert rates(warmup_steps=2, milestones=[3, 5], gamma=0.5) == [0.5, 1.0, 1.0, 0.5, 0.5, 0.25]


def rates(**settings):
    """The learning rate at each of six steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, found = schedule(optimizer, **settings), []
    for _ in range(6):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_a_factor_of_the_learning_rate_holds_for_the_part_that_it_names():
    factors = {"controlnet.mid_block": 5.0, "controlnet.conv": 3.0}
    module = small_module(learning_rate=2.0, learning_rate_factors=factors)
    named = dict(module.named_parameters())
    rates = {id(p): group["lr"] for group in module.parameter_groups() for p in group["params"]}
    assert len(rates) == sum(parameter.requires_grad for parameter in named.values())
    assert rates[id(named["controlnet.mid_block.resnets.0.conv1.weight"])] == 10.0
    assert rates[id(named["controlnet.conv_in.weight"])] == 2.0  # `conv` is no part, only how the name begins


def test_a_loss_of_the_users_is_the_one_that_is_trained_on(batch):
    def weighted(prediction, target):
        return 3 * (prediction - target).abs().mean(dim=(1, 2, 3))

    seen = []
    module = small_module(loss=lambda *given: seen.append(given) or weighted(*given))
    losses, _ = losses_of(module, batch)
    torch.testing.assert_close(losses, weighted(*seen[0]).detach())


def test_a_validation_logs_the_loss_of_its_own_images(monkeypatch):
    module, logged = small_module(), []
    monkeypatch.setattr(module, "log", lambda name, value: logged.append(float(value)))
    module.eval()
    for number in (3, 5):
        with torch.no_grad():
            module.validation_step(random_batch([number]), 0)
        module.on_validation_epoch_end()
    with torch.no_grad():
        expected = [losses_of(module, random_batch([number]))[0].item() for number in (3, 5)]
    assert logged == pytest.approx(expected)
    assert expected[0] != pytest.approx(expected[1])


def test_the_defaults_of_the_optimizer_are_the_papers(module):
    optimizer = module.configure_optimizers()["optimizer"]
    settings = {name: optimizer.defaults[name] for name in ("lr", "betas", "eps", "weight_decay")}
    assert settings == {"lr": 5e-5, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2}


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="needs the extra [8bit]")
def test_the_defaults_of_the_8_bit_optimizer_are_the_papers_too():
    import bitsandbytes

    optimizer = bitsandbytes.optim.AdamW8bit([torch.nn.Parameter(torch.zeros(1))], lr=5e-5)
    settings = {name: optimizer.defaults[name] for name in ("lr", "betas", "eps", "weight_decay")}
    assert settings == {"lr": 5e-5, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2}


def _with(module, **attributes):
    other = copy.copy(module)
    for name, value in attributes.items():
        object.__setattr__(other, name, value)
    return other


def _activation_bytes(module, batch):
    """What the forward pass of both networks keeps for the backward pass, parameters apart."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        module.training_step(batch, 0)
    return sum(storage.nbytes() for pointer, storage in kept.items() if pointer not in parameters)


def test_a_few_steps_on_two_pictures_lower_the_loss_on_noise_that_was_not_trained_on():
    # What is predicted is the latents themselves: to tell noise from them takes longer than a few steps.
    stack = small_stack()._replace(scheduler=official.scheduler(prediction_type="sample"))
    module = SeeSRDiffusion(stack, learning_rate=2.5e-3, prompt_drop_probability=1.0)
    optimizer = module.configure_optimizers()["optimizer"]

    def loss(epoch):
        return module.training_step(random_batch([0, 1], size=32, epoch=epoch), 0)["loss"]

    with torch.no_grad():
        before = loss(100)
    for epoch in range(6):
        optimizer.zero_grad()
        loss(epoch).backward()
        optimizer.step()
    assert loss(100) < 0.8 * before
