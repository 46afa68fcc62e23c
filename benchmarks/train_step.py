"""Speed, MFU, data wait and memory of SeeSR's training step at full size, with random weights.

    python benchmarks/train_step.py --flops                               # the cost, without a device
    python benchmarks/train_step.py --micro-batch-size 8 --steps 20       # one setting
    python benchmarks/train_step.py --sweep --micro-batch-size 8          # each optimization on and off
    python benchmarks/train_step.py --shards 'shards/lsdir/*.tar' --num-workers 12     # with the whole data path

The first half of the steps warms up. Without --shards the same random batch is repeated, which costs
nothing. MFU is against the datasheet; --peak-tflops sets another peak. Tagging half of the crops is included.
"""

import argparse
import functools
import importlib
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, get_args

import torch
from lightning import Callback, LightningDataModule, Trainer
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from seesr_pl.checkpoints.stack import random_stack
from seesr_pl.data import ShardDataModule, ShardSource
from seesr_pl.tiny.stack import tiny_stack
from seesr_pl.training import SeeSRDiffusion
from seesr_pl.training.compiling import Compiled, CompiledFrozen
from seesr_pl.training.speed import Throughput, peak_bytes, step_flops
from seesr_pl.types import Batch

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adamw8bit": lambda parameters, lr: importlib.import_module("bitsandbytes").optim.AdamW8bit(parameters, lr=lr),
    "sgd": torch.optim.SGD,
}
# What differs from the best known setting, one thing at a time.
SWEEP = {
    "all on": [],
    "weights contiguous": ["--no-channels-last"],
    "frozen weights in float32": ["--frozen-dtype", "float32"],
    "8-bit optimizer": ["--optimizer", "adamw8bit"],
    "gradient checkpointing": ["--gradient-checkpointing"],
    "networks compiled": ["--compile", "whole"],
    "their blocks compiled": ["--compile", "blocks"],
    "frozen parts compiled": ["--compile-frozen", "default"],
    "frozen parts as CUDA graphs": ["--compile-frozen", "graphs"],
}


class SameBatch(Dataset[Batch]):
    """One random batch, for every index."""

    def __init__(self, length: int, batch_size: int, size: int) -> None:
        self.length = length
        self.batch = Batch(
            hq=torch.randint(256, (batch_size, size, size, 3), dtype=torch.uint8),
            lq=torch.randint(256, (batch_size, size // 4, size // 4, 3), dtype=torch.uint8),
            key=[str(index) for index in range(batch_size)],
            sample_id=torch.arange(batch_size),
            epoch=torch.zeros(batch_size, dtype=torch.int64),
            severity=torch.zeros(batch_size),
            tags=[""] * batch_size,
        )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Batch:
        return self.batch


def main() -> None:
    """Measure and print Markdown."""
    arguments = parse()
    print(f"{_hardware(arguments.device)}, torch {torch.__version__}, {_commit()}\n")
    if arguments.flops:
        _print_flops(arguments.size)
    elif arguments.sweep:
        _print_sweep()
    else:
        print(_HEADER)
        print(_row("this setting", measure(arguments)), flush=True)


def measure(arguments: argparse.Namespace, *, callbacks: Sequence[Callback] = ()) -> dict[str, float]:
    """Train for twice `steps` optimizer steps; the figures are those of the second half."""
    with torch.device(arguments.device):
        stack = tiny_stack(lora_rank=8) if arguments.tiny else random_stack()
    module = SeeSRDiffusion(
        stack,
        optimizer=OPTIMIZERS[arguments.optimizer],
        gradient_checkpointing=arguments.gradient_checkpointing,
        compile=arguments.compile,
        compile_frozen=arguments.compile_frozen,
        channels_last=arguments.channels_last,
        frozen_dtype=arguments.frozen_dtype,
    )
    trainer = Trainer(
        accelerator="gpu" if arguments.device == "cuda" else "cpu",
        devices=1,
        precision=arguments.precision,
        max_steps=2 * arguments.steps,
        gradient_clip_val=1.0,
        accumulate_grad_batches=arguments.accumulation,
        log_every_n_steps=arguments.steps,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
        callbacks=[Throughput(peak_tflops=arguments.peak_tflops), *callbacks],
    )
    started = time.perf_counter()
    trainer.fit(module, **_data(arguments))
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return {**figures, "memory/peak_gib": peak_bytes(module.device) / 2**30, "s": time.perf_counter() - started}


def _data(arguments: argparse.Namespace) -> dict[str, LightningDataModule | DataLoader[Batch]]:
    if arguments.shards is None:
        length = 2 * arguments.steps * arguments.accumulation
        dataset = SameBatch(length, arguments.micro_batch_size, arguments.size)
        return {"train_dataloaders": DataLoader(dataset, batch_size=None)}
    data = ShardDataModule(
        [ShardSource(arguments.shards)],
        global_batch_size=arguments.micro_batch_size * arguments.accumulation,
        micro_batch_size=arguments.micro_batch_size,
        num_workers=arguments.num_workers,
        crop_size=arguments.size,
    )
    return {"datamodule": data}


def parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options; None reads them from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flag = functools.partial(parser.add_argument, action="store_true")
    flag("--flops", help="count the step on tensors without data")
    flag("--sweep", help="each optimization on and off, a process each; other options are passed on")
    flag("--tiny", help="the tiny stack, to try this script on a CPU: its figures do not hold at full size")
    flag("--gradient-checkpointing")
    parser.add_argument("--compile", choices=get_args(Compiled), default="none")
    parser.add_argument("--compile-frozen", choices=get_args(CompiledFrozen), default="none")
    parser.add_argument("--no-channels-last", dest="channels_last", action="store_false")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="bf16-mixed", help="as lightning.Trainer's")
    parser.add_argument("--frozen-dtype", default="bfloat16")
    parser.add_argument("--optimizer", choices=tuple(OPTIMIZERS), default="adamw")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--micro-batch-size", type=int, default=1)
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--peak-tflops", type=float)
    parser.add_argument("--shards")
    parser.add_argument("--num-workers", type=int, default=8)
    return parser.parse_args(given)


def _print_flops(size: int) -> None:
    with torch.device("meta"):
        stack = random_stack()
    flops = step_flops(SeeSRDiffusion(stack), size=size)
    print(f"| {size} x {size}, one image | GFLOP |\n| --- | --- |")
    for name, value in [*flops._asdict().items(), ("total", flops.total), ("without tags", flops.total - flops.tags)]:
        print(f"| {name} | {value / 1e9:,.1f} |")


def _print_sweep() -> None:
    given = [argument for argument in sys.argv[1:] if argument != "--sweep"]
    print(_HEADER, flush=True)
    for name, extra in SWEEP.items():
        command = [sys.executable, __file__, *given, *extra]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        row = done.stdout.rstrip().rpartition("\n")[2] if done.returncode == 0 else "| this setting | failed | | | | |"
        print(row.replace("this setting", name), flush=True)


_HEADER = "| setting | images/s | MFU | data wait | peak GiB | s in all |\n| --- | --- | --- | --- | --- | --- |"


def _row(name: str, figures: dict[str, Any]) -> str:
    utilisation = figures.get("speed/mfu")
    cells = [
        f"{figures['speed/images_per_second']:.3f}",
        "" if utilisation is None else f"{utilisation:.1%}",
        f"{figures['speed/data_wait']:.2%}",
        f"{figures['memory/peak_gib']:.2f}",
        f"{figures['s']:.0f}",
    ]
    return f"| {name} | {' | '.join(cells)} |"


def _hardware(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return f"commit {done.stdout.strip() or 'unknown'}"


if __name__ == "__main__":
    main()
