"""What one training step of DAPE shows to teacher and student, observed at the network, and how losses are weighed."""

import official
import pytest
import torch
from dape_cases import batch, tiny_ram
from torch.nn.functional import interpolate

from seesr_pl.models.ram import ram_pixel_values
from seesr_pl.training.dape import DAPEDistillation

# There is no trainer to log to.
pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log")


def started_module(**arguments):
    """With a LoRA that has an effect."""
    module = DAPEDistillation(tiny_ram(), **arguments)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in module.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, generator=generator)
    return module


@torch.no_grad()
def step(module):
    return float(module.training_step(batch(0), 0))


def images(name):
    return batch(0)[name].permute(0, 3, 1, 2).float() / 255


def test_the_teacher_sees_the_hq_image_and_the_student_the_enlarged_lq_image():
    module, seen = started_module(), []
    module.ram.visual_encoder.register_forward_pre_hook(
        lambda network, arguments: seen.append((arguments[0], network.training))
    )
    step(module)
    (teacher, teacher_is_stochastic), (student, student_is_stochastic) = seen
    hq, lq = images("hq"), images("lq")
    enlarged = interpolate(lq, hq.shape[-2:], mode="bicubic").clamp(0, 1)
    torch.testing.assert_close(teacher, ram_pixel_values(hq, size=32))
    torch.testing.assert_close(student, ram_pixel_values(enlarged, size=32), rtol=0, atol=1e-4)
    assert (teacher_is_stochastic, student_is_stochastic) == (False, True)


def test_the_resize_to_rams_square_is_the_one_that_is_asked_for():
    module, seen = started_module(resize_mode="bicubic"), []
    module.ram.visual_encoder.register_forward_pre_hook(lambda network, arguments: seen.append(arguments[0]))
    step(module)
    torch.testing.assert_close(seen[0], ram_pixel_values(images("hq"), size=32, mode="bicubic"))


def test_the_loss_is_of_plain_ram_against_the_lora_with_each_term_at_its_weight():
    module = started_module(stochastic_student=False)
    hq, lq = images("hq"), images("lq")
    enlarged = interpolate(lq, hq.shape[-2:], mode="bicubic").clamp(0, 1)
    with torch.no_grad():
        teacher = tiny_ram()(ram_pixel_values(hq, size=32))
        student = module.ram.eval()(ram_pixel_values(enlarged, size=32))
    representation, logits = (float(loss) for loss in official.distillation_losses(student, teacher))
    assert representation != pytest.approx(logits, rel=0.1)
    assert step(module) == pytest.approx(representation + logits, rel=1e-4)
    module.representation_weight, module.logit_weight = 0.5, 2.0
    assert step(module) == pytest.approx(0.5 * representation + 2 * logits, rel=1e-4)


def test_the_default_optimizer_leaves_the_size_of_the_weights_alone():
    optimizer = started_module().configure_optimizers()["optimizer"]
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(1e-4, 0.0)]
