"""Where the networks of a pipeline are while it restores: all on the device, or there only while they run."""

from typing import Literal

from seesr_pl.sampling.pipeline import SeeSRPipeline

Offload = Literal["none", "model"]


def on_device(pipeline: SeeSRPipeline, device: str, offload: Offload) -> SeeSRPipeline:
    """Move `pipeline` to `device` and return it; results do not depend on `offload`.

    Args:
        pipeline: on the CPU.
        device: where it runs.
        offload: "model" moves text encoder, UNet and VAE there in turn, each as a whole. RAM stays there, since its
            methods are called beside `forward`.
    """
    if offload == "none":
        return pipeline.to(device)
    pipeline.enable_model_cpu_offload(device=device)
    return pipeline


def require_gpu(offload: Offload, device: str) -> None:
    """Raise ValueError where there is nothing to move networks to."""
    if offload != "none" and not device.startswith("cuda"):
        raise ValueError(f"--offload {offload} saves memory of a GPU; on {device} leave it out")
