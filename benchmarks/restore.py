"""Cost and effect of each way to restore faster, against the official setting in the same run; and peak memory.

    python benchmarks/restore.py speed --side 64 --rounds 3
    python benchmarks/restore.py memory --side 1024 [--vae kl]
    python benchmarks/restore.py sizes --small --sides 256 512 1024 2048   # results of 1, 4, 16 and 64 megapixels

On the tiny stack with random weights of its RCA and ControlNet: the ratios of cost hold for any weights, the PSNR to
the official setting's result does not measure quality. Cost is process CPU time, median of `--rounds`, options in turn
within each round, after one round that is not counted. FLOPs are counted in a run of each option; the full-size column
on the meta device, for a 512x512 result: the option's network passes, and the VAE.
"""

import argparse
import functools
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch.utils.flop_counter import FlopCounterMode

from seesr_pl.checkpoints.stack import SD2_UNET, SD2_VAE
from seesr_pl.models.seesr import SeeSRControlNet, SeeSRUNet
from seesr_pl.models.stack import SeeSRStack
from seesr_pl.sampling.pipeline import SeeSRPipeline
from seesr_pl.tiny.stack import tiny_stack

OFFICIAL = {"num_inference_steps": 50, "guidance_scale": 5.5, "tile": 4096, "overlap": 4, "cache": False}
# Tiles whose number is in proportion to the image, from 1 megapixel on; no guidance, for the sake of time.
SMALL = {"tile": 32, "overlap": 0, "vae_tile": 256, "guidance_scale": 1.0}
OPTIONS: dict[str, dict[str, Any]] = {
    "official: 50 DDPM steps, guidance 5.5": {},
    "the same, in tiles of half the side": {"tile": None},
    "exact caches": {"cache": True},
    "guidance in two passes": {"guidance_in_one_batch": False},
    "guidance on the first 40 % of the steps": {"guidance_fraction": 0.4},
    "20 UniPC steps": {"num_inference_steps": 20, "scheduler": "unipc"},
    "20 DPM++ steps": {"num_inference_steps": 20, "scheduler": "dpmpp"},
    "2 steps without guidance (turbo)": {"num_inference_steps": 2, "guidance_scale": 1.0},
    "bfloat16": {"dtype": torch.bfloat16},
    "torch.compile": {"compile": True},
}


def main() -> None:
    """Print one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "memory", "sizes"])
    parser.add_argument("--side", type=int, default=64, help="side of the low-quality image in pixels")
    parser.add_argument(
        "--sides", type=int, nargs="*", default=[256, 512, 1024], help="sizes: of the low-quality images"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vae", choices=["dct", "kl"], default="dct", help="memory: with this kind of autoencoder")
    parser.add_argument("--small", action="store_true", help="memory: smaller stock networks, small tiles, no guidance")
    parser.add_argument("--only", nargs="*", help="options whose name holds one of these words")
    arguments = parser.parse_args()
    if arguments.what == "sizes":
        return sizes(arguments.sides, ["--small"] if arguments.small else ["--vae", arguments.vae])
    lq = np.random.default_rng(0).integers(0, 256, (arguments.side, arguments.side, 3), dtype=np.uint8)
    if arguments.what == "memory":
        memory(lq, *((small_stack(), SMALL) if arguments.small else (tiny_parts(arguments.vae), {})))
    else:
        speed(lq, arguments.rounds, arguments.only)
    return None


def sizes(sides: list[int], networks: list[str]) -> None:
    """Print `memory` of each size, in a process of its own, and the cost of a megapixel."""
    print(
        "| result | peak before, MB | peak, MB | CPU seconds per step | a megapixel |\n| --- | --- | --- | --- | --- |"
    )
    for side in sides:
        command = [sys.executable, __file__, "memory", "--side", str(side), *networks]
        row = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
        seconds = float(row.split("|")[-2])
        print(f"{row} {seconds / (16 * side**2 / 1e6):.2f} |", flush=True)


def memory(lq: np.ndarray, stack: SeeSRStack, settings: dict[str, Any]) -> None:
    """Print the peak memory of the process before and after one step, by default guided and in the default tiles."""
    pipe = quiet(SeeSRPipeline(*stack))
    pipe(lq[:32, :32], num_inference_steps=1, process_size=64)
    before, start = peak(), time.process_time()
    size = pipe(lq, num_inference_steps=1, generator=torch.Generator().manual_seed(0), **settings).images[0].size
    seconds = time.process_time() - start
    print("| result | peak before, MB | peak, MB | CPU seconds per step |\n| --- | --- | --- | --- |")
    print(f"| {size[0]}x{size[1]} | {before:.0f} | {peak():.0f} | {seconds:.1f} |")


def tiny_parts(vae: str) -> SeeSRStack:
    """Return the tiny stack, with an autoencoder of Stable Diffusion's class where `vae` is "kl"."""
    stack = tiny_stack()
    return stack if vae == "dct" else stack._replace(vae=tiny_kl(stack.vae))


def small_stack() -> SeeSRStack:
    """Return random networks of the stock classes, latents an eighth of the image's side, cheap enough for 64 MP."""
    stack = tiny_stack()
    text_encoder: Any = stack.text_encoder
    config = SD2_UNET | {
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],  # attention costs least where latents are small
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "block_out_channels": [16, 32],
        "layers_per_block": 1,
        "attention_head_dim": [2, 4],
        "norm_num_groups": 8,
        "cross_attention_dim": text_encoder.config.hidden_size,
    }
    unet = SeeSRUNet.from_config(config)
    vae = AutoencoderKL(
        block_out_channels=(4, 4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        mid_block_add_attention=False,
    )
    controlnet = SeeSRControlNet.from_unet(unet, conditioning_embedding_out_channels=(4, 4, 8, 8))
    return stack._replace(unet=unet.eval(), controlnet=controlnet.eval(), vae=vae.eval())


def tiny_kl(like: Any) -> AutoencoderKL:
    """Return a small random autoencoder of Stable Diffusion's class, with the latents of `like`; diffusers tiles it."""
    levels = len(like.config.block_out_channels)
    return AutoencoderKL(
        latent_channels=like.config.latent_channels,
        block_out_channels=(16,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        norm_num_groups=8,
        mid_block_add_attention=False,
    ).eval()


def speed(lq: np.ndarray, rounds: int, only: list[str] | None) -> None:
    """Print the cost of each option, and the PSNR of its result to that of the official setting."""
    first, *others = OPTIONS
    names = [first, *(name for name in others if not only or any(word in name for word in only))]
    runs = {name: runner(lq, OPTIONS[name]) for name in names}
    flops = {name: counted(run) for name, run in runs.items() if "compile" not in name}
    times: dict[str, list[float]] = {name: [] for name in names}
    results: dict[str, np.ndarray] = {}
    for round_number in range(rounds + 1):
        for name, run in runs.items():
            start = time.process_time()
            results[name] = run()
            if round_number:
                times[name].append(time.process_time() - start)
    unit, vae = full_size()
    print("| option | CPU s | ratio | GFLOP | full size, TFLOP | PSNR to the official result |")
    print("| --- | --- | --- | --- | --- | --- |")
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name in names:
        cost = f"{flops[name] / 1e9:.1f}" if name in flops else "as official"
        full = f"{(passes(OPTIONS[name]) * unit + vae) / 1e12:.1f}" if "tile" not in OPTIONS[name] else "-"
        ratio = medians[first] / medians[name]
        print(
            f"| {name} | {medians[name]:.2f} | {ratio:.2f} | {cost} | {full} | {psnr(results[name], results[first])} |"
        )


def runner(lq: np.ndarray, option: dict[str, Any]) -> Callable[[], np.ndarray]:
    """Return a function that restores `lq` with one option, on a pipeline of its own."""
    settings = OFFICIAL | {key: value for key, value in option.items() if key not in ("dtype", "compile")}
    if settings["tile"] is None:
        settings["tile"] = lq.shape[0] // 2
    pipe = quiet(SeeSRPipeline(*tiny_stack()))
    for network in (pipe.unet, pipe.controlnet, pipe.text_encoder, pipe.vae):
        torch.nn.Module.to(network, dtype=option.get("dtype", torch.float32))
    if option.get("compile"):
        pipe.unet.compile()
        pipe.controlnet.compile()

    def run() -> np.ndarray:
        generator = torch.Generator().manual_seed(0)
        side = 4 * lq.shape[0]
        return np.asarray(pipe(lq, generator=generator, process_size=side, **settings).images[0])

    return run


def passes(option: dict[str, Any]) -> int:
    """Count the rows that go through both networks."""
    settings = OFFICIAL | option
    steps = settings["num_inference_steps"]
    guided = round(steps * option.get("guidance_fraction", 1.0)) if settings["guidance_scale"] > 1 else 0
    return steps + guided


@functools.cache
def full_size() -> tuple[int, int]:
    """Count the FLOPs of a row through UNet and ControlNet at 64x64 latents, and of the VAE at 512x512, both ways."""
    with torch.device("meta"):
        unet = SeeSRUNet.from_config(SD2_UNET)
        controlnet = SeeSRControlNet.from_unet(unet, load_weights_from_unet=False)
        vae = AutoencoderKL.from_config(SD2_VAE)
        sample, text, representation = torch.empty(1, 4, 64, 64), torch.empty(1, 77, 1024), torch.empty(1, 145, 512)
        image, step = torch.empty(1, 3, 512, 512), torch.zeros(1)

    def both() -> None:
        with torch.no_grad():
            down, mid = controlnet(
                sample, step, text, image, return_dict=False, image_encoder_hidden_states=representation
            )
            unet(
                sample,
                step,
                text,
                down_block_additional_residuals=down,
                mid_block_additional_residual=mid,
                image_encoder_hidden_states=representation,
            )

    def coder() -> None:
        with torch.no_grad():
            vae.encode(image)
            vae.decode(sample)

    return counted(both), counted(coder)


def counted(run: Callable[[], Any]) -> int:
    """Count the FLOPs of a call; a multiplication with addition counts as two."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def psnr(image: np.ndarray, reference: np.ndarray) -> str:
    """Return the PSNR of 8-bit images in dB."""
    error = np.square(image.astype(float) - reference).mean()
    return "equal" if error == 0 else f"{10 * np.log10(255**2 / error):.1f}"


def quiet(pipe: SeeSRPipeline) -> SeeSRPipeline:
    """Switch off the progress bar of `pipe` and return it."""
    pipe.set_progress_bar_config(disable=True)
    return pipe


def peak() -> float:
    """Return the peak resident memory of the process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
