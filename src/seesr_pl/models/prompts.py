"""The styles of text prompt that the paper compares (section 3.1), each a callable from images to texts."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seesr_pl.files import MissingFile
from seesr_pl.models.ram import BILINEAR, RAM, Resize

PromptStyle = Literal["none", "classification", "caption", "ram", "dape"]
CLASSIFIER, CAPTIONER = "google/vit-base-patch16-224", "Salesforce/blip-image-captioning-base"
_DEFAULTS = {"classification": CLASSIFIER, "caption": CAPTIONER}
_WEIGHTS = tuple(
    f"{stem}{index}" for stem in ("model.safetensors", "pytorch_model.bin") for index in ("", ".index.json")
)


class Prompter(Protocol):
    """A callable that describes b float images, (b, 3, h, w) in [0, 1], by b texts."""

    def __call__(self, images: Float[Tensor, "b 3 h w"]) -> list[str]: ...


def prompter(style: PromptStyle, *, ram: RAM | None = None, model: str | None = None) -> Prompter:
    """Return the prompter of `style`.

    `ram` and `dape` need `ram`; `classification` and `caption` take `model`, a folder or a name on the Hugging Face
    hub, by default a ViT trained on ImageNet and BLIP. Nothing is loaded before the first call.
    Raises ValueError for an unknown style, and where the RAM that a style needs, or its LoRA, is not given.
    """
    if style in ("ram", "dape"):
        if ram is None or (style == "dape" and ram.lora_rank is None):
            raise ValueError(f"the prompt style {style} needs a RAM" + (" with DAPE's LoRA" if style == "dape" else ""))
        return TagPrompter(ram, use_lora=style == "dape")
    makers: dict[str, Callable[[], Prompter]] = {
        "none": lambda: no_prompt,
        "classification": lambda: ClassificationPrompter(model or CLASSIFIER),
        "caption": lambda: CaptionPrompter(model or CAPTIONER),
    }
    if style not in makers:
        raise ValueError(f"prompt style {style!r} must be one of none, classification, caption, ram, dape")
    return makers[style]()


def missing_prompt_model(style: str, model: str | None, *, argument: str) -> list[MissingFile]:
    """Return the model that `style` needs if neither a folder nor the cache of the Hugging Face hub holds it.

    `argument` is the argument that may point to another folder; the fix names it. Call this before a run starts: a
    run of many processes should not fail at its first step.
    """
    if style not in _DEFAULTS or _is_local(model or _DEFAULTS[style]):
        return []
    name = model or _DEFAULTS[style]
    return [MissingFile(name, f"{name} on Hugging Face", f"`hf download {name}`, or set {argument} to a folder")]


def tag_texts(ram: RAM, logits: Float[Tensor, "b k"]) -> list[str]:
    """Return each image's tags that are on, joined as in SeeSR's copy of RAM: "a, b" (ram_lora.py:223), or ""."""
    return [", ".join(tags) for tags in ram.tags(logits)]


def no_prompt(images: Float[Tensor, "b 3 h w"]) -> list[str]:
    """Return the empty text for each image."""
    return [""] * len(images)


class TagPrompter:
    """The text of RAM's tags.

    `use_lora=False` uses plain RAM even if `ram` has a LoRA. Images are resized to RAM's square from the size in which
    they are given: at test time, give the LQ image before it is enlarged (test_seesr.py:39-49).
    """

    def __init__(self, ram: RAM, *, use_lora: bool, resize: Resize = BILINEAR) -> None:
        self.ram, self.use_lora, self.resize = ram, use_lora, resize

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "b 3 h w"]) -> list[str]:
        """Return the tags of each image; empty where no tag is on."""
        return tag_texts(self.ram, self._logits(images))

    @torch.no_grad()
    def mask(self, images: Float[Tensor, "b 3 h w"]) -> Bool[Tensor, "b k"]:
        """Return which tags of each image are on, without leaving the device."""
        return self.ram.tag_mask(self._logits(images))

    def _logits(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        return self.ram.see(images, adapter=self.use_lora, resize=self.resize).logits


class ClassificationPrompter:
    """The name of the likeliest class of a transformers image classifier, its synonyms dropped."""

    def __init__(self, model: str) -> None:
        self.model = model

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "b 3 h w"]) -> list[str]:
        """Return one class name for each image."""
        processor, network = self._parts
        network.to(images.device)
        indices = network(**_processed(processor, images)).logits.argmax(dim=1)
        # ImageNet's names are lists of synonyms: "tabby, tabby cat".
        return [network.config.id2label[index].split(",")[0] for index in indices.tolist()]

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        return _loaded(self.model, AutoImageProcessor, AutoModelForImageClassification)


class CaptionPrompter:
    """A sentence from a transformers captioning model of BLIP's kind; the likeliest word at each step."""

    def __init__(self, model: str, *, max_new_tokens: int = 30) -> None:
        self.model, self.max_new_tokens = model, max_new_tokens

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "b 3 h w"]) -> list[str]:
        """Return one caption for each image."""
        processor, network = self._parts
        network.to(images.device)
        pixel_values = _processed(processor.image_processor, images)
        tokens = network.generate(**pixel_values, max_new_tokens=self.max_new_tokens, do_sample=False)
        return [text.strip() for text in processor.batch_decode(tokens, skip_special_tokens=True)]

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        return _loaded(self.model, AutoProcessor, AutoModelForImageTextToText)


def _is_local(model: str) -> bool:
    if Path(model).is_dir():
        return True
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return any(isinstance(try_to_load_from_cache(model, name), str) for name in _WEIGHTS)
    except HFValidationError:  # a path that is not there
        return False


def _loaded(model: str, processor: Any, network: Any) -> tuple[Any, Any]:
    try:
        # The PIL backend: the other one needs torchvision, which has no build for CPU torch.
        return processor.from_pretrained(model, backend="pil"), network.from_pretrained(model).eval()
    except OSError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"the weights of {model} cannot be had ({reason}); give the folder of a local copy") from error


def _processed(processor: Any, images: Tensor) -> dict[str, Tensor]:
    pixels = images.float().clamp(0, 1).mul(255).round().byte().cpu()
    return {"pixel_values": processor(images=list(pixels), return_tensors="pt").pixel_values.to(images.device)}
