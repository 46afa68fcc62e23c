"""From folders of published weights to a `SeeSRStack`.

The networks' libraries are imported when something is built: a command that finds a file missing says so at once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from seesr_pl.checkpoints.published import PUBLISHED, missing
from seesr_pl.files import MissingFile, require

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

    from seesr_pl.models.ram import RAM
    from seesr_pl.models.stack import SeeSRStack


# Stable Diffusion 2 base. The UNet's config is the one recorded from the official SeeSR classes; the other three were
# written from memory of the published files and are checked by parameter counts only.
SD2_UNET = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}
SD2_VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "sample_size": 768,
    "scaling_factor": 0.18215,
}
SD2_TEXT_ENCODER = {
    "vocab_size": 49408,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "projection_dim": 512,
    "hidden_act": "gelu",
}
SD2_SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "prediction_type": "epsilon",
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


def load_stack(
    base: str | Path,
    *,
    seesr: str | Path | None = None,
    ram: str | Path | None = None,
    dape: str | Path | None = None,
    tag_list: str | Path | None = None,
    thresholds: str | Path | None = None,
    rca_init: Literal["official", "zero"] = "official",
    keep_base_unet: bool = False,
    weights: Literal["pretrained", "random"] = "pretrained",
) -> "SeeSRStack":
    """Load every network of SeeSR, in eval mode and float32.

    Args:
        base: a Stable Diffusion 2 folder in diffusers' layout (2-base, or sd-turbo).
        seesr: official folder or small form; None starts from `base`: fresh RCA by `rca_init`, ControlNet copied.
        ram: ram_swin_large_14m.pth, a conversion of it by `seesr convert`, or a folder of `RAM.save_pretrained`.
        dape: DAPE.pth, or a run of `experiment=dape`; None leaves RAM without a LoRA.
        rca_init: initialization of fresh RCA, as in `SeeSRUNet.from_unet`.
        tag_list: 4585 names, one a line; by default the file of the published name in the folder of `ram`.
        thresholds: as many numbers; by default likewise.
        keep_base_unet: take only the RCA of SeeSR's UNet (sd-turbo).
        weights: "random" builds full-size networks without reading a file: to measure, not to restore.

    Raises FileNotFoundError that lists every missing file, and ValueError for a file that holds something else.
    """
    if weights == "random":
        return random_stack(rca_init=rca_init)
    if ram is None:
        raise ValueError("ram=None: every stack needs RAM; set ram to ram_swin_large_14m.pth")
    require(missing(base=base, seesr=seesr, ram=ram, dape=dape, tag_list=tag_list, thresholds=thresholds))

    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    from transformers import CLIPTextModel, CLIPTokenizer

    from seesr_pl.checkpoints.seesr import Networks, load_seesr
    from seesr_pl.models.seesr import SeeSRControlNet, SeeSRUNet
    from seesr_pl.models.stack import SeeSRStack
    from seesr_pl.models.weights import from_folder

    base = Path(base)
    if seesr is None:
        unet = SeeSRUNet.from_unet(from_folder(UNet2DConditionModel, base / "unet"), rca_init=rca_init)
        networks = Networks(unet, SeeSRControlNet.from_unet(unet))
    else:
        needs_base = keep_base_unet or not (Path(seesr) / "unet").is_dir()
        base_unet = from_folder(UNet2DConditionModel, base / "unet") if needs_base else None
        networks = load_seesr(seesr, base_unet=base_unet, keep_base_unet=keep_base_unet)
    return SeeSRStack(
        vae=from_folder(AutoencoderKL, base / "vae"),
        text_encoder=from_folder(CLIPTextModel, base / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(base / "tokenizer"),
        unet=networks.unet,
        controlnet=networks.controlnet.eval(),
        ram=official_ram(ram, dape, tag_list=tag_list, thresholds=thresholds),
        scheduler=DDPMScheduler.from_pretrained(base / "scheduler"),
    )


def random_stack(*, rca_init: Literal["official", "zero"] = "official") -> "SeeSRStack":
    """Return the full-size networks with random weights and a LoRA in RAM; the tokenizer spells words in bytes."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    from transformers import CLIPTextConfig, CLIPTextModel

    from seesr_pl.models.ram import RAM
    from seesr_pl.models.ram_networks import RAMConfig
    from seesr_pl.models.seesr import SeeSRControlNet, SeeSRUNet
    from seesr_pl.models.stack import SeeSRStack

    num_tags = 4585
    unet = SeeSRUNet.from_unet(UNet2DConditionModel.from_config(SD2_UNET).eval(), rca_init=rca_init)
    ram = RAM(RAMConfig(), [f"tag {index}" for index in range(num_tags)], [0.68] * num_tags)
    ram.add_lora()
    return SeeSRStack(
        vae=AutoencoderKL.from_config(SD2_VAE).eval(),
        text_encoder=CLIPTextModel(CLIPTextConfig(**SD2_TEXT_ENCODER)).eval(),  # type: ignore[arg-type]  # a dict of several types
        tokenizer=byte_tokenizer(),
        unet=unet,
        controlnet=SeeSRControlNet.from_unet(unet).eval(),
        ram=ram,
        scheduler=DDPMScheduler.from_config(SD2_SCHEDULER),
    )


def byte_tokenizer(merges: Sequence[tuple[str, str]] = (), *, max_length: int = 77) -> "CLIPTokenizer":
    """Return a real `CLIPTokenizer` without a vocabulary file: it spells words in bytes and joins them by `merges`."""
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ends = (letter + "</w>" for letter in alphabet)
    tokens = [*alphabet, *ends, *dict.fromkeys(a + b for a, b in merges), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    pairs: Any = list(merges)  # the annotation of `merges` forgets the pairs that the class takes
    return CLIPTokenizer(vocab=vocabulary, merges=pairs, model_max_length=max_length)


def official_ram(
    ram_path: str | Path,
    dape_path: str | Path | None = None,
    *,
    tag_list: str | Path | None = None,
    thresholds: str | Path | None = None,
) -> "RAM":
    """Load RAM from the published file or a folder of `RAM.save_pretrained`, in eval mode, with DAPE's LoRA if given.

    The two lists are in the folder of the file by default. Raises FileNotFoundError that lists every missing file, and
    ValueError for a file that holds something else.
    """
    require(missing(ram=ram_path, dape=dape_path, tag_list=tag_list, thresholds=thresholds))

    from seesr_pl.checkpoints.convert import read_dape
    from seesr_pl.models.ram import RAM
    from seesr_pl.models.ram_official import load_dape

    if Path(ram_path).is_dir():
        ram = RAM.from_pretrained(ram_path)
    else:
        ram = RAM.from_official(ram_path, tag_list=tag_list, thresholds=thresholds)
    if dape_path is not None:
        load_dape(ram, read_dape(dape_path))
    return ram


def _missing_of_stack(
    base: str | Path,
    *,
    weights: str = "pretrained",
    ram: str | Path | None = None,
    tag_list: str | Path | None = None,
    thresholds: str | Path | None = None,
    dape: str | Path | None = None,
    seesr: str | Path | None = None,
) -> list[MissingFile]:
    if weights == "random":
        return []
    # Every stack needs RAM: if none is given, report the published file as missing.
    ram = ram or PUBLISHED["ram"].name
    return missing(base=base, seesr=seesr, ram=ram, dape=dape, tag_list=tag_list, thresholds=thresholds)


def _missing_of_ram(
    ram_path: str | Path,
    dape_path: str | Path | None = None,
    tag_list: str | Path | None = None,
    thresholds: str | Path | None = None,
) -> list[MissingFile]:
    return missing(ram=ram_path, dape=dape_path, tag_list=tag_list, thresholds=thresholds)


# Where `config.preflight` looks for them.
load_stack.missing_files = _missing_of_stack  # type: ignore[attr-defined]  # a function has no attributes for mypy
official_ram.missing_files = _missing_of_ram  # type: ignore[attr-defined]  # as above
