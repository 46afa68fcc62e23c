"""A tiny RAM, random batches and a quiet trainer, for the tests of DAPE."""

import dataclasses

import ram_cases
import torch
from lightning import Trainer
from torch.utils.data import DataLoader

from seesr_pl.imaging.tensors import resize_bicubic, to_float
from seesr_pl.models.ram import RAM

TINY = dataclasses.replace(ram_cases.TINY, drop_path_rate=0.3)


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


def lq_of(batch):
    """The LQ images of `batch` as the student sees them."""
    return resize_bicubic(to_float(batch["lq"]), batch["hq"].shape[1:3])


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
