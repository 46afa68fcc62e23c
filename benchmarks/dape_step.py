"""Images per second and peak memory of DAPE's training step at full size, with random weights.

    python benchmarks/dape_step.py --micro-batch-size 8 --steps 10 --device cuda --precision bf16

The numbers do not depend on the values of the weights. The data path is not measured: the batch is on the device.
"""

import argparse
import itertools
import platform
import resource
import time

import torch

from seesr_pl.imaging.tensors import resize_bicubic, to_float
from seesr_pl.models.ram import RAM, RAMConfig
from seesr_pl.training.dape import DAPEDistillation, distillation_losses
from seesr_pl.training.frozen import cast_frozen

NUM_TAGS = 4585


def main() -> None:
    """Run the steps and print one Markdown table row for each part."""
    arguments = _arguments()
    module = _module(arguments)
    optimizer = module.configure_optimizers()["optimizer"]
    batch = _batch(arguments.micro_batch_size, arguments.device)
    times: list[list[float]] = []
    for _ in range(arguments.warmup + arguments.steps):
        times.append(_step(module, optimizer, batch, arguments))
    names = ("teacher", "student", "backward and optimizer", "whole step")
    steady = torch.tensor(times[arguments.warmup :], dtype=torch.double)
    medians = [*steady.median(0).values.tolist(), steady.sum(1).median().item()]
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{vars(arguments)}\n\n| part | seconds (median of {arguments.steps}) |\n| --- | --- |")
    for name, median in zip(names, medians, strict=True):
        print(f"| {name} | {median:.3f} |")
    print(f"| images per second | {arguments.micro_batch_size / medians[-1]:.3f} |")
    print(f"| peak memory, GB | {_peak_gigabytes(arguments.device):.2f} |")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--micro-batch-size", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--warmup", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--logit-weight", type=float, default=1.0)
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


def _module(arguments: argparse.Namespace) -> DAPEDistillation:
    ram = RAM(RAMConfig(), [str(index) for index in range(NUM_TAGS)], [0.5] * NUM_TAGS)
    module = DAPEDistillation(
        ram, logit_weight=arguments.logit_weight, gradient_checkpointing=arguments.gradient_checkpointing
    ).to(arguments.device)
    if arguments.precision == "bf16":
        cast_frozen(module, torch.bfloat16)
    if arguments.compile:
        ram.visual_encoder.compile()
        ram.tagging_head.compile()
    return module


def _batch(size: int, device: str) -> dict:
    images = [torch.randint(0, 256, (size, side, side, 3), dtype=torch.uint8, device=device) for side in (512, 128)]
    ids = torch.arange(size)
    return {"hq": images[0], "lq": images[1], "sample_id": ids, "epoch": torch.zeros_like(ids)}


def _step(module: DAPEDistillation, optimizer: torch.optim.Optimizer, batch: dict, arguments) -> list[float]:
    marks = [_now(arguments.device)]
    with torch.autocast(arguments.device, torch.bfloat16, enabled=arguments.precision == "bf16"):
        hq, lq = to_float(batch["hq"]), to_float(batch["lq"])
        teacher = module.teacher(hq)
        marks.append(_now(arguments.device))
        student = module.student(resize_bicubic(lq, hq.shape[-2:]), batch)
        losses = distillation_losses(student, teacher)
    marks.append(_now(arguments.device))
    optimizer.zero_grad()
    (losses.representation + module.logit_weight * losses.logits).backward()
    optimizer.step()
    marks.append(_now(arguments.device))
    return [end - start for start, end in itertools.pairwise(marks)]


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _peak_gigabytes(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    # ru_maxrss is in kilobytes on Linux.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
