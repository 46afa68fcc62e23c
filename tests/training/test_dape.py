"""The distillation step: the official losses and gradients, the same run however it is split, only the LoRA saved."""

import copy

import numpy as np
import pytest
import torch
from lightning import Trainer
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from seesr_pl.models.ram import RAM, RAMConfig, RAMOutput
from seesr_pl.models.ram_identity import sizes
from seesr_pl.models.ram_official import dape_state_dict, load_dape, load_ram
from seesr_pl.training.dape import DAPEDistillation, distillation_losses
from seesr_pl.training.tag_report import TagReport

TINY = RAMConfig(
    image_size=32,
    patch_size=4,
    embed_dim=8,
    depths=(1, 2, 1),
    num_heads=(1, 2, 4),
    window_size=2,
    representation_dim=16,
    head_hidden_size=12,
    head_intermediate_size=20,
    drop_path_rate=0.3,
)


def tiny_ram(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        ram = RAM(TINY, ["cat", "dog", "house", "tree"], [0.5] * 4)
        torch.nn.init.normal_(ram.label_embed, std=2.0)
        torch.nn.init.normal_(ram.fc.weight)
    return ram


def batch(start, size=2):
    generator = torch.Generator().manual_seed(start)
    ids = torch.arange(start, start + size)
    hq = torch.randint(0, 256, (size, 8, 8, 3), generator=generator).repeat_interleave(6, 1).repeat_interleave(6, 2)
    return {
        "hq": hq.to(torch.uint8),
        "lq": hq[:, 2::4, 2::4].to(torch.uint8),
        "key": [f"picture{index}" for index in ids.tolist()],
        "sample_id": ids,
        "epoch": torch.zeros(size, dtype=torch.int64),
        "severity": torch.rand(size, generator=generator),
        "tags": [""] * size,
    }


def loader(starts, size=2):
    return DataLoader([batch(start, size) for start in starts], batch_size=None)


def trainer(folder, **arguments):
    settings = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    settings |= {"enable_checkpointing": False, "default_root_dir": folder, "num_sanity_val_steps": 0}
    return Trainer(**(settings | arguments))


def lora(module):
    return {name: tensor.detach().clone() for name, tensor in module.named_parameters() if tensor.requires_grad}


def assert_equal_weights(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_losses_and_gradients_equal_the_official_ones(golden):
    official = load_file(golden / "ram_tiny.safetensors")
    base = {name.removeprefix("sd."): tensor for name, tensor in official.items() if name.startswith("sd.")}
    ram = RAM(RAMConfig(**sizes(base)), [str(index) for index in range(37)], official["class_threshold"].tolist())
    load_ram(ram, base)
    load_dape(ram, {name.removeprefix("lora."): t for name, t in official.items() if name.startswith("lora.")})
    with torch.no_grad(), ram.disable_adapter():
        teacher = ram(official["in.hr"])
    losses = distillation_losses(ram(official["in.lr"]), teacher)
    torch.testing.assert_close(losses.representation, official["train.l_fea"], atol=5e-6, rtol=0)
    torch.testing.assert_close(losses.logits, official["train.l_logits"], atol=5e-6, rtol=0)
    (losses.representation + losses.logits).backward()
    for name, parameter in ram.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.grad
    gradients = dape_state_dict(ram)
    recorded = {n.removeprefix("train.grad."): t for n, t in official.items() if n.startswith("train.grad.")}
    assert gradients.keys() == recorded.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, recorded[name], atol=5e-6, rtol=1e-4)


def test_the_logit_loss_is_finite_at_logits_where_the_official_one_is_not():
    representation = torch.zeros(1, 2, 3)
    student = RAMOutput(representation, torch.tensor([[200.0, -200.0]]))
    teacher = RAMOutput(representation, torch.tensor([[-200.0, -200.0]]))
    assert distillation_losses(student, teacher).logits == 100.0


def test_only_the_lora_trains():
    module = DAPEDistillation(tiny_ram(), lora_rank=2)
    assert set(lora(module)) == {name for name, _ in module.named_parameters() if "lora_" in name}
    # 4 Swin blocks and 2 head layers, two projections each, an A and a B.
    assert len(lora(module)) == 4 * (4 + 2)


def test_the_lora_starts_the_same_whatever_was_drawn_before():
    first = lora(DAPEDistillation(tiny_ram(), seed=3))
    torch.rand(5)
    assert_equal_weights(first, lora(DAPEDistillation(tiny_ram(), seed=3)))


def test_the_teacher_is_plain_ram_without_chance():
    ram = tiny_ram()
    module = DAPEDistillation(ram)
    for name, parameter in module.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    plain = tiny_ram()(module.inputs.hq(batch(0)["hq"]))
    for ours, theirs in zip(module.teacher(batch(0)), plain, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_student_drops_by_seed_and_sample_alone():
    module = DAPEDistillation(tiny_ram())
    first = module.student(batch(0)).representation
    torch.rand(7)
    assert torch.equal(module.student(batch(0)).representation, first)
    other = DAPEDistillation(tiny_ram(), seed=1)
    other.load_state_dict(module.state_dict())
    assert not torch.equal(other.student(batch(0)).representation, first)


def test_the_student_leaves_the_global_chance_alone():
    module = DAPEDistillation(tiny_ram())
    torch.manual_seed(5)
    module.student(batch(0))
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))


def test_a_deterministic_student_equals_the_network_in_eval_mode():
    module = DAPEDistillation(tiny_ram(), stochastic_student=False)
    student = module.student(batch(0))
    torch.testing.assert_close(student, module.ram.eval()(module.inputs.lq(batch(0)["lq"], (48, 48))))


def test_without_a_logit_loss_the_head_neither_runs_nor_trains():
    module = DAPEDistillation(tiny_ram(), logit_weight=0.0)
    module.ram.tagging_head.register_forward_hook(lambda *_: pytest.fail("the tagging head ran"))
    module._log_losses = lambda *_, **__: None
    module.training_step(batch(0), 0).backward()
    assert all(parameter.grad is not None for parameter in module.parameters() if parameter.requires_grad)
    assert not any("tagging_head" in name for name in lora(module))


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        module = DAPEDistillation(tiny_ram(), gradient_checkpointing=checkpointing)
        module._log_losses = lambda *_, **__: None
        module.training_step(batch(0), 0).backward()
        gradients.append({name: p.grad for name, p in module.named_parameters() if p.requires_grad})
    assert_equal_weights(*gradients)


@pytest.mark.parametrize(
    ("warmup_steps", "learning_rate", "expected"),
    [(0, 1e-4, [1e-4] * 3 + [5e-5]), (49, 9.8e-5, [2e-6, 4e-6, 6e-6, 4e-6])],
)
def test_the_learning_rate_warms_up_and_halves_at_milestones(warmup_steps, learning_rate, expected):
    module = DAPEDistillation(tiny_ram(), warmup_steps=warmup_steps, learning_rate=learning_rate, milestones=(3, 30000))
    rates = [learning_rate * module._learning_rate_factor(step) for step in range(4)]
    assert rates == pytest.approx(expected)


def test_basicsr_schedule_is_reproduced_step_by_step():
    module = DAPEDistillation(tiny_ram(), warmup_steps=49, learning_rate=9.8e-5, milestones=(20000, 30000))
    for iteration, rate in [(1, 2e-6), (49, 9.8e-5), (50, 9.8e-5), (20000, 9.8e-5), (20001, 4.9e-5), (30001, 2.45e-5)]:
        assert 9.8e-5 * module._learning_rate_factor(iteration - 1) == pytest.approx(rate)


def test_the_default_optimizer_does_not_decay():
    groups = DAPEDistillation(tiny_ram()).configure_optimizers()["optimizer"].param_groups
    assert [(group["lr"], group["weight_decay"], group["betas"]) for group in groups] == [(1e-4, 0.0, (0.9, 0.999))]


def test_training_moves_the_student_towards_the_teacher(tmp_path):
    module = DAPEDistillation(tiny_ram(), learning_rate=1e-2, lora_rank=4)
    validation = loader([0])
    before = trainer(tmp_path).validate(module, validation, verbose=False)[0]
    trainer(tmp_path, max_steps=15).fit(module, loader([0] * 15))
    after = trainer(tmp_path).validate(module, validation, verbose=False)[0]
    assert before["val/dape/representation_error"] == pytest.approx(before["val/ram/representation_error"])
    assert after["val/ram/representation_error"] == pytest.approx(before["val/ram/representation_error"])
    assert after["val/dape/representation_error"] < 0.8 * before["val/dape/representation_error"]


def test_accumulated_micro_batches_train_as_on_two_ranks_in_one_step(tmp_path):
    accumulated = DAPEDistillation(tiny_ram(), learning_rate=1e-2)
    trainer(tmp_path, max_steps=1, accumulate_grad_batches=2).fit(accumulated, loader([0, 2]))
    by_hand = DAPEDistillation(tiny_ram(), learning_rate=1e-2)
    by_hand._log_losses = lambda *_, **__: None
    optimizer = by_hand.configure_optimizers()["optimizer"]
    # Two ranks: each sees one micro batch, the gradients are averaged; here in the other order.
    torch.stack([by_hand.training_step(batch(start), 0) for start in (2, 0)]).mean().backward()
    optimizer.step()
    ours, theirs = lora(accumulated), lora(by_hand)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-6, rtol=1e-4)


def test_a_resumed_run_equals_the_straight_one_and_its_checkpoint_holds_the_lora_alone(tmp_path):
    straight = DAPEDistillation(tiny_ram(), warmup_steps=3)
    trainer(tmp_path, max_steps=4).fit(straight, loader([0, 2, 4, 6]))
    first = DAPEDistillation(tiny_ram(), warmup_steps=3)
    run = trainer(tmp_path, max_steps=2)
    run.fit(first, loader([0, 2]))
    run.save_checkpoint(tmp_path / "half.ckpt")
    saved = torch.load(tmp_path / "half.ckpt", weights_only=True)
    assert saved["state_dict"].keys() == lora(first).keys()
    torch.rand(3)
    second = DAPEDistillation(tiny_ram(), warmup_steps=3)
    # As long as the whole run, but it begins where the data module would continue.
    rest = loader([4, 6, 4, 6])
    trainer(tmp_path, max_steps=4).fit(second, rest, ckpt_path=tmp_path / "half.ckpt")
    assert_equal_weights(lora(straight), lora(second))


def test_a_checkpoint_made_with_another_ram_is_refused(tmp_path):
    run = trainer(tmp_path, max_steps=1)
    run.fit(DAPEDistillation(tiny_ram()), loader([0]))
    run.save_checkpoint(tmp_path / "one.ckpt")
    with pytest.raises(ValueError, match="other frozen weights"):
        trainer(tmp_path, max_steps=2).fit(
            DAPEDistillation(tiny_ram(seed=1)), loader([0]), ckpt_path=tmp_path / "one.ckpt"
        )


def test_a_copy_shares_the_frozen_weights_and_owns_its_lora():
    module = DAPEDistillation(tiny_ram())
    twin = copy.deepcopy(module)
    for (name, ours), theirs in zip(module.named_parameters(), twin.parameters(), strict=True):
        assert (ours is theirs) == ("lora_" not in name)


def test_each_validation_leaves_a_table_and_pictures(tmp_path):
    module = DAPEDistillation(tiny_ram(), num_examples=3)
    run = trainer(tmp_path, max_steps=1, callbacks=[TagReport(tmp_path / "tags")])
    run.fit(module, loader([0]), loader([10, 12]))
    assert {path.name for path in (tmp_path / "tags" / "000001").iterdir()} == {
        "tags.csv", "example_0.png", "example_1.png", "example_2.png",
    }  # fmt: skip
    assert np.isfinite(run.callback_metrics["val/dape/representation_error"])


def test_the_validation_loss_is_the_training_loss_without_chance(tmp_path):
    module = DAPEDistillation(tiny_ram(), representation_weight=0.5, logit_weight=2.0)
    for name, parameter in module.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    logged = trainer(tmp_path).validate(module, [loader([10]), loader([12])], verbose=False)[0]["val/loss"]
    whole = batch(10), batch(12)
    module.eval()
    losses = [distillation_losses(module.student(part), module.teacher(part)) for part in whole]
    assert logged == pytest.approx(
        np.mean([0.5 * loss.representation.item() + 2 * loss.logits.item() for loss in losses])
    )


def test_mixed_precision_with_frozen_weights_in_low_precision_stays_near_full_precision(tmp_path):
    losses = {}
    for precision, frozen_dtype in (("32-true", "float32"), ("bf16-mixed", "float32"), ("bf16-mixed", "bfloat16")):
        module = DAPEDistillation(tiny_ram(), frozen_dtype=frozen_dtype)
        run = trainer(tmp_path, max_steps=2, precision=precision)
        run.fit(module, loader([0, 2]), loader([10]))
        losses[precision, frozen_dtype] = run.callback_metrics["train/loss"].item()
    full, mixed, cast = losses.values()
    assert mixed == pytest.approx(full, rel=0.02)
    assert cast == pytest.approx(mixed, rel=1e-4)
