"""What a run says at its end fits what it trained."""

from dape_cases import tiny_ram

from seesr_pl.training.dape import DAPEDistillation
from seesr_pl.training.notice import _next_commands


def test_a_tiny_dape_is_followed_by_the_tiny_second_stage():
    last = _next_commands(DAPEDistillation(tiny_ram()), "outputs/x")[-1]
    assert last == "python train.py experiment=tiny_seesr module.representation=dape module.stack.dape=outputs/x"
