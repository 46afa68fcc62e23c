"""Runs of the distillation: the same however split, only the LoRA saved, and what each validation leaves."""

import copy

import numpy as np
import pytest
import torch
from dape_cases import assert_equal_weights, batch, loader, lora, lq_of, tiny_ram, trainer

from seesr_pl.imaging.tensors import to_float
from seesr_pl.training.callbacks import TagReport
from seesr_pl.training.dape import DAPEDistillation, distillation_losses


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
        "tags.csv", "summary.json", "example_0.png", "example_1.png", "example_2.png",
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
    losses = [
        distillation_losses(module.student(lq_of(part), part), module.teacher(to_float(part["hq"]))) for part in whole
    ]
    assert logged == pytest.approx(
        np.mean([0.5 * loss.representation.item() + 2 * loss.logits.item() for loss in losses])
    )


def test_mixed_precision_with_frozen_weights_in_low_precision_stays_near_full_precision(tmp_path):
    losses = {}
    for precision, frozen_dtype in (("32-true", "float32"), ("bf16-mixed", "float32"), ("bf16-mixed", "bfloat16")):
        module = DAPEDistillation(tiny_ram(), frozen_dtype=frozen_dtype)
        run = trainer(tmp_path, max_steps=2, precision=precision, log_every_n_steps=1)
        run.fit(module, loader([0, 2]), loader([10]))
        losses[precision, frozen_dtype] = run.callback_metrics["train/loss"].item()
    full, mixed, cast = losses.values()
    assert mixed == pytest.approx(full, rel=0.02)
    assert cast == pytest.approx(mixed, rel=1e-4)
