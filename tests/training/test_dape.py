"""The distillation step: the official losses and gradients, what trains, what chance depends on, the schedule."""

import pytest
import torch
from dape_cases import assert_equal_weights, batch, lora, lq_of, tiny_ram
from safetensors.torch import load_file

from seesr_pl.imaging.tensors import to_float
from seesr_pl.models.ram import RAM, RAMConfig, RAMOutput
from seesr_pl.models.ram_files import sizes
from seesr_pl.models.ram_official import dape_state_dict, load_dape, load_ram
from seesr_pl.training.dape import DAPEDistillation, distillation_losses


def student(module):
    return module.student(lq_of(batch(0)), batch(0))


def rate_at(module, step):
    scheduler = module.configure_optimizers()["lr_scheduler"]["scheduler"]
    return module.learning_rate * scheduler.lr_lambdas[0](step)


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
    hq = to_float(batch(0)["hq"])
    plain = tiny_ram().see(hq)
    for ours, theirs in zip(module.teacher(hq), plain, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_student_drops_by_seed_and_sample_alone():
    module = DAPEDistillation(tiny_ram())
    first = student(module).representation
    torch.rand(7)
    assert torch.equal(student(module).representation, first)
    other = DAPEDistillation(tiny_ram(), seed=1)
    other.load_state_dict(module.state_dict())
    assert not torch.equal(student(other).representation, first)


def test_the_student_drops_other_units_for_another_sample():
    module = DAPEDistillation(tiny_ram())
    told = batch(0)
    first, second = (module.student(lq_of(told), told | {"sample_id": told["sample_id"] + plus}) for plus in (0, 1))
    assert not torch.equal(first.representation, second.representation)


def test_the_student_leaves_the_global_chance_alone():
    module = DAPEDistillation(tiny_ram())
    torch.manual_seed(5)
    student(module)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))


def test_a_deterministic_student_equals_the_network_in_eval_mode():
    module = DAPEDistillation(tiny_ram(), stochastic_student=False)
    seen = student(module)
    torch.testing.assert_close(seen, module.ram.eval().see(lq_of(batch(0))))


def test_without_a_logit_loss_the_head_neither_runs_nor_trains():
    module = DAPEDistillation(tiny_ram(), logit_weight=0.0)
    module.ram.tagging_head.register_forward_hook(lambda *_: pytest.fail("the tagging head ran"))
    module.training_step(batch(0), 0).backward()
    assert all(parameter.grad is not None for parameter in module.parameters() if parameter.requires_grad)
    assert not any("tagging_head" in name for name in lora(module))


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        module = DAPEDistillation(tiny_ram(), gradient_checkpointing=checkpointing)
        module.training_step(batch(0), 0).backward()
        gradients.append({name: p.grad for name, p in module.named_parameters() if p.requires_grad})
    assert_equal_weights(*gradients)


@pytest.mark.parametrize(
    ("warmup_steps", "learning_rate", "expected"),
    [(0, 1e-4, [1e-4] * 3 + [5e-5]), (49, 9.8e-5, [2e-6, 4e-6, 6e-6, 4e-6])],
)
def test_the_learning_rate_warms_up_and_halves_at_milestones(warmup_steps, learning_rate, expected):
    module = DAPEDistillation(tiny_ram(), warmup_steps=warmup_steps, learning_rate=learning_rate, milestones=(3, 30000))
    rates = [rate_at(module, step) for step in range(4)]
    assert rates == pytest.approx(expected)


def test_basicsr_schedule_is_reproduced_step_by_step():
    module = DAPEDistillation(tiny_ram(), warmup_steps=49, learning_rate=9.8e-5, milestones=(20000, 30000))
    for iteration, rate in [(1, 2e-6), (49, 9.8e-5), (50, 9.8e-5), (20000, 9.8e-5), (20001, 4.9e-5), (30001, 2.45e-5)]:
        assert rate_at(module, iteration - 1) == pytest.approx(rate)


def test_the_default_optimizer_does_not_decay():
    groups = DAPEDistillation(tiny_ram()).configure_optimizers()["optimizer"].param_groups
    assert [(group["lr"], group["weight_decay"], group["betas"]) for group in groups] == [(1e-4, 0.0, (0.9, 0.999))]
