"""The tiny stack: every network of SeeSR as its real class at a size that two CPU cores can train in minutes.

It departs from the paper in five ways, all of them in this module and its siblings: a fixed latent of factor 4
(`latent`), an LQ skip (`networks`), prediction of the clean latent instead of the noise, a noise schedule
that rises fast, and RCA that starts as the identity.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from safetensors.torch import load_file
from torch import nn

from seesr_pl.checkpoints.convert import read_dape
from seesr_pl.checkpoints.published import is_run
from seesr_pl.files import MissingFile
from seesr_pl.models import ram_official
from seesr_pl.models.ram import RAM
from seesr_pl.models.ram_networks import RAMConfig
from seesr_pl.models.seesr import initialise_image_attentions
from seesr_pl.models.stack import SeeSRStack
from seesr_pl.tiny.latent import DCTAutoencoder
from seesr_pl.tiny.networks import BETA_END, BETA_START, tiny_controlnet, tiny_unet
from seesr_pl.tiny.text import PROMPT_WORDS, tiny_text_encoder, word_tokenizer
from seesr_pl.tiny.weights import load_prior, shipped_ram

TAGS = (
    *("dark", "bright", "gray", "vivid", "red", "orange", "yellow", "green", "blue", "purple", "white", "black"),
    *("smooth", "textured", "horizontal", "vertical", "contrast"),
    *("sky", "cloud", "mountain", "rock", "grass", "leaf", "tree", "flower", "water", "sand", "stone"),
    *("wood", "cloth", "wall", "fur", "hair", "fruit"),
)
RAM_CONFIG = RAMConfig(
    image_size=96,
    embed_dim=32,
    depths=(2, 2, 2),
    num_heads=(2, 4, 8),
    window_size=6,
    head_hidden_size=64,
    head_intermediate_size=128,
    head_num_heads=4,
    head_num_layers=2,
)


def tiny_stack(
    *,
    weights: Literal["shipped", "random", "skip"] = "random",
    seesr: str | Path | None = None,
    dape: str | Path | None = None,
    lora_rank: int | None = None,
    seed: int = 0,
) -> SeeSRStack:
    """Return the whole stack in eval mode, equal for equal arguments.

    Args:
        weights: "shipped" is the prior and the RAM of the package, with RCA that starts as the identity; "random" is
            untrained; "skip" is random with a last layer of zeros, so that the LQ latent passes unchanged.
        seesr: what `seesr convert seesr` makes of a run of `experiment=tiny_seesr`, to train further.
        dape: a run of `experiment=tiny_dape`, or a file that `seesr convert dape` writes, for the representation.
        lora_rank: of an untrained LoRA, without effect, that is added to RAM; not with `dape`.
        seed: of all random weights.

    Raises ValueError for `lora_rank` with `dape`.
    """
    if dape is not None and lora_rank is not None:
        raise ValueError(f"lora_rank={lora_rank} must not be given with dape={dape}: the file says its own rank")
    ram = tiny_ram(weights=weights, seed=seed)
    if dape is not None:
        ram_official.load_dape(ram, read_dape(dape))
    with _seeded(seed):
        if lora_rank is not None:
            ram.add_lora(lora_rank)
        tokenizer = word_tokenizer((*TAGS, *PROMPT_WORDS))
        text_encoder = tiny_text_encoder(tokenizer)
        vae = DCTAutoencoder()
        unet = tiny_unet(latent_channels=vae.config.latent_channels, text_width=text_encoder.config.hidden_size)
        if weights == "shipped":
            load_prior(unet, text_encoder)
            initialise_image_attentions(unet, device=unet.device, rca_init="zero")
        if weights == "skip":
            for parameter in unet.conv_out.parameters():
                nn.init.zeros_(parameter)
        controlnet = tiny_controlnet(unet).eval()
        if seesr is not None:
            for part, network in (("unet", unet), ("controlnet", controlnet)):
                network.load_state_dict(load_file(Path(seesr) / part / "diffusion_pytorch_model.safetensors"))
    return SeeSRStack(vae, text_encoder, tokenizer, unet, controlnet, ram, tiny_scheduler())


def _missing_files(
    weights: str = "random",
    seesr: str | Path | None = None,
    dape: str | Path | None = None,
    lora_rank: int | None = None,
    seed: int = 0,
) -> list[MissingFile]:
    if seesr is not None and not (Path(seesr) / "controlnet").is_dir():
        return [MissingFile(str(seesr), "a run of experiment=tiny_seesr", "seesr convert seesr RUN FOLDER")]
    if dape is None or Path(dape).is_file() or is_run(dape):
        return []
    fix = (
        "seesr convert dape RUN FILE; a relative path begins where the run was trained: go there, or name it absolutely"
    )
    return [MissingFile(str(dape), "a DAPE of experiment=tiny_dape", fix)]


tiny_stack.missing_files = _missing_files  # type: ignore[attr-defined]  # a function has no attributes for mypy


def tiny_ram(
    *, weights: Literal["shipped", "random", "skip"] = "random", tags: Sequence[str] = TAGS, seed: int = 0
) -> RAM:
    """Return a RAM for 96x96 pixels, with a representation of 37 tokens (b, 37, 512); `weights` as in `tiny_stack`.

    The shipped one ignores `tags`: it knows some of `TAGS`.
    """
    if weights == "shipped":
        return shipped_ram()
    with _seeded(seed):
        ram = RAM(RAM_CONFIG, tags, [0.5] * len(tags))
        nn.init.normal_(ram.label_embed, std=0.5)
        return ram


def tiny_scheduler() -> DDPMScheduler:
    """Return a scheduler for a network that predicts the clean latent and samples in few steps, the first at t=999.

    Its noise rises much faster than Stable Diffusion's, so that most training steps are near the start of sampling.
    """
    return DDPMScheduler(
        beta_start=BETA_START,
        beta_end=BETA_END,
        beta_schedule="linear",
        prediction_type="sample",
        timestep_spacing="trailing",
        clip_sample=False,
    )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
