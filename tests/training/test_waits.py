"""A training step reads nothing back from the device, and what it sends there is sent without waiting.

The device is torch's "meta": any read of a value on it is an error there.
"""

import pytest
import torch
from dape_cases import batch as dape_batch
from dape_cases import tiny_ram
from seesr_runs import random_batch, small_module
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seesr_pl.training.dape import DAPEDistillation

# There is no trainer to log to.
pytestmark = [pytest.mark.whole, pytest.mark.filterwarnings("ignore:You are trying to `self.log")]


class Transfers(TorchDispatchMode):
    """Notes the copies from the host to the device, and operations that take tensors of both."""

    def __init__(self):
        super().__init__()
        self.sent, self.blocking, self.mixed = 0, [], []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        places = {one.device.type for one in tree_leaves((arguments, keywords)) if torch.is_tensor(one) and one.ndim}
        arrived = {one.device.type for one in tree_leaves(result) if torch.is_tensor(one)}
        if places == {"cpu"} and arrived == {"meta"}:
            self.sent += 1
            if not (keywords or {}).get("non_blocking"):
                self.blocking.append(str(function))
        if places == {"cpu", "meta"}:
            self.mixed.append(str(function))
        return result


def on_device(module, batch):
    module.to("meta")
    # On a device with values these two follow the weights.
    module.ram.thresholds, module.ram._statistics = module.ram.thresholds.to("meta"), module.ram._statistics.to("meta")
    return module, batch | {name: batch[name].to("meta") for name in ("hq", "lq")}


def transfers(module, batch):
    module.training_step(batch, 0)  # the schedule's tables move once
    with Transfers() as found:
        output = module.training_step(batch, 0)
    (output["loss"] if isinstance(output, dict) else output).backward()
    return found


@pytest.mark.parametrize("tags", ["ram", "dape", "none", "shards"])
def test_a_step_of_seesr_waits_for_nothing(tags):
    module, batch = on_device(small_module(tags=tags), random_batch(list(range(8)), size=32))
    found = transfers(module, batch)
    assert (found.blocking, found.mixed) == ([], [])
    assert found.sent <= 6  # noise, posterior, timesteps; which prompts are kept, and the tokens of the others


def test_a_step_of_dape_sends_nothing():
    module, batch = on_device(DAPEDistillation(tiny_ram(), stochastic_student=False), dape_batch(0))
    found = transfers(module, batch)
    assert (found.sent, found.blocking, found.mixed) == (0, [], [])
