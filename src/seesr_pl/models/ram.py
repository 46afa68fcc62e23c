"""RAM, the image tagger whose tokens guide SeeSR, as a transformers Swin, a BLIP tagging head and a peft LoRA."""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Literal, NamedTuple, Self

import torch
from jaxtyping import Bool, Float
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from seesr_pl.limits import read_json
from seesr_pl.models import ram_files, ram_lists, ram_official
from seesr_pl.models.lora import merge_lora
from seesr_pl.models.ram_networks import RAMConfig, tagging_head, visual_encoder

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class RAMOutput(NamedTuple):
    """RAM's output for images: the representation (b, n, d) and one logit per tag (b, k)."""

    representation: Tensor
    logits: Tensor


class Resize(NamedTuple):
    """How an image becomes RAM's square; its aspect ratio is not kept.

    The default is what torchvision 0.15 did for tensors (test_seesr.py:39-49, dape_dataset.py:46-50); bicubic is what
    SeeSR's training does (paired_dataset.py:88-90).
    """

    mode: Literal["bilinear", "bicubic"] = "bilinear"
    antialias: bool = False


BILINEAR, BICUBIC = Resize(), Resize("bicubic")
Images = Tensor | Sequence[Tensor]
"""A batch (b, 3, h, w) of float images in [0, 1], or a list of such batches of any sizes."""


class RAM(nn.Module):
    """The tagger: pixels -> representation (the soft prompt) -> one logit per tag.

    Starts in eval mode. `tags` are the names of the classes, `thresholds` the probability above which each is on.
    Raises ValueError if the two lists differ in length.
    """

    def __init__(self, config: RAMConfig, tags: Sequence[str], thresholds: Sequence[float]) -> None:
        super().__init__()
        if len(tags) != len(thresholds):
            raise ValueError(f"{len(tags)} tags but {len(thresholds)} thresholds: give the two lists of the same model")
        self.config = config
        self.tag_names = list(tags)
        # Plain attributes, as upstream (ram_lora.py:154): buffers would be rounded by .to(torch.bfloat16).
        self.thresholds = torch.tensor(list(thresholds), dtype=torch.float32, device="cpu")
        self._statistics = torch.tensor([MEAN, STD], dtype=torch.float32, device="cpu").view(2, 3, 1, 1)
        self.lora_rank: int | None = None
        self.is_merged = False
        self.visual_encoder = visual_encoder(config)
        self.image_proj = nn.Linear(self.visual_encoder.num_features, config.representation_dim)
        self.label_embed = nn.Parameter(torch.zeros(len(tags), config.representation_dim))
        self.wordvec_proj = nn.Linear(config.representation_dim, config.head_hidden_size)
        self.tagging_head = tagging_head(config)
        self.fc = nn.Linear(config.head_hidden_size, 1)
        self.eval()

    @classmethod
    def from_official(
        cls,
        ram_path: str | Path,
        dape_path: str | Path | None = None,
        *,
        tag_list: str | Path | None = None,
        thresholds: str | Path | None = None,
    ) -> Self:
        """Return RAM from the published files (or from what `seesr convert` made of them), in eval mode.

        `tag_list` and `thresholds` default to `ram_tag_list.txt` and `ram_tag_list_threshold.txt` beside `ram_path`.
        Raises FileNotFoundError for a missing file, and ValueError that says what another file holds.
        """
        folder = Path(ram_path).parent
        state = ram_files.read_published(ram_path)
        config = RAMConfig(**ram_files.sizes(state))
        tags = ram_lists.read_tags(tag_list or folder / ram_lists.TAG_LIST)
        ram = cls(config, tags, ram_lists.read_thresholds(thresholds or folder / ram_lists.THRESHOLDS))
        ram_official.load_ram(ram, state)
        if dape_path is not None:
            ram_official.load_dape(ram, ram_files.read_published(dape_path))
        return ram

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, torch_dtype: torch.dtype = torch.float32) -> Self:
        """Return RAM from a folder that `save_pretrained` wrote, LoRA included, in eval mode and `torch_dtype`."""
        config = read_json(Path(folder) / "config.json", "lora_rank")
        rank = config.pop("lora_rank")
        tags = ram_lists.read_tags(Path(folder) / ram_lists.TAG_LIST)
        ram = cls(RAMConfig(**config), tags, ram_lists.read_thresholds(Path(folder) / ram_lists.THRESHOLDS))
        if rank is not None:
            ram.add_lora(rank)
        ram.load_state_dict(load_file(Path(folder) / "model.safetensors"), strict=True)
        return ram.to(torch_dtype)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json, the tag and threshold lists and model.safetensors (LoRA included) into `folder`."""
        self._require_unmerged()
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = dataclasses.asdict(self.config) | {"lora_rank": self.lora_rank}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        (folder / ram_lists.TAG_LIST).write_text("\n".join(self.tag_names) + "\n")
        (folder / ram_lists.THRESHOLDS).write_text("".join(f"{value:.9g}\n" for value in self.thresholds.tolist()))
        state = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        if self.device.type != "meta":  # from which values would not come back
            self.thresholds, self._statistics = self.thresholds.to(self.device), self._statistics.to(self.device)
        return self

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return self.label_embed.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the parameters."""
        return self.label_embed.dtype

    def represent(self, images: Images, *, adapter: bool = True, resize: Resize = BILINEAR) -> Float[Tensor, "b n d"]:
        """Return the representation of images in [0, 1] of any size, by the backbone alone; arguments as in `see`."""
        with nullcontext() if adapter else self.disable_adapter():
            return self.representation(self._pixel_values(images, resize))

    def see(self, images: Images, *, adapter: bool = True, resize: Resize = BILINEAR) -> RAMOutput:
        """Return representation and tag logits of images in [0, 1] of any size.

        Args:
            images: see `Images`.
            adapter: use the LoRA (DAPE), if there is one; False is plain RAM.
            resize: how images become RAM's square.
        """
        with nullcontext() if adapter else self.disable_adapter():
            return self(self._pixel_values(images, resize))

    def forward(self, pixel_values: Float[Tensor, "b 3 s s"]) -> RAMOutput:
        """Return representation and tag logits of images prepared by `ram_pixel_values`."""
        representation = self.representation(pixel_values)
        return RAMOutput(representation, self.tag_logits(representation))

    def representation(self, pixel_values: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b n d"]:
        """Return the representation: the average token, then the grid row by row (ram_lora.py:176).

        `pixel_values` come from `ram_pixel_values`. At full size (b, 3, 384, 384) -> (b, 145, 512).
        Raises ValueError for another side length, to which Swin would pad without a word.
        """
        size = self.config.image_size
        if pixel_values.shape[-2:] != (size, size):
            raise ValueError(f"pixel_values are {tuple(pixel_values.shape)}, must be (b, 3, {size}, {size})")
        output = self.visual_encoder(pixel_values)
        tokens = torch.cat([output.pooler_output[:, None], output.last_hidden_state], dim=1)
        return self.image_proj(tokens)

    def tag_logits(self, representation: Float[Tensor, "b n d"]) -> Float[Tensor, "b k"]:
        """Return one logit per tag; tags are queries that attend to the image alone (ram_lora.py:200-216)."""
        queries = functional.relu(self.wordvec_proj(self.label_embed)).expand(len(representation), -1, -1)
        hidden = self.tagging_head(queries, encoder_hidden_states=representation).last_hidden_state
        return self.fc(hidden).squeeze(-1)

    def tag_mask(self, logits: Float[Tensor, "b k"]) -> Bool[Tensor, "b k"]:
        """Return which tags are on: probability strictly above the tag's own threshold (ram_lora.py:212-215)."""
        return logits.float().sigmoid() > self.thresholds.to(logits.device)

    def tags(self, logits: Float[Tensor, "b k"]) -> list[list[str]]:
        """Return the names of the tags that are on, in the order of the tag list, for each image."""
        rows = self.tag_mask(logits).cpu()
        return [[self.tag_names[index] for index in row.nonzero().flatten().tolist()] for row in rows]

    def add_lora(self, rank: int = 8) -> None:
        """Add the LoRA that makes a DAPE: Swin query and value, head cross-attention query and key; freeze the rest.

        `lora_alpha` is 1, loralib's default, so the scale is 1 / rank (swin_transformer_lora.py:114, bert_lora.py:163).
        Raises ValueError if there is a LoRA already.
        """
        if self.lora_rank is not None:
            raise ValueError(f"this RAM has a LoRA of rank {self.lora_rank} already")
        targets = r"visual_encoder\..*\.attention\.(q|v)_proj|tagging_head\..*\.crossattention\.self\.(query|key)"
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=1, target_modules=targets), self)
        self.lora_rank = rank

    def merge_lora(self) -> None:
        """Add the LoRA, if there is one, to the weights: equal to float error, and as few operations as plain RAM.

        For inference with DAPE alone: plain RAM is gone, so that `adapter=False` and `save_pretrained` are errors.
        """
        self.is_merged = merge_lora(self) or self.is_merged

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Switch the LoRA off within the context (plain RAM, the teacher); `requires_grad` is restored afterwards.

        Raises ValueError where it is merged.
        """
        self._require_unmerged()
        layers = [module for module in self.modules() if isinstance(module, BaseTunerLayer)]
        active = [layer for layer in layers if not layer.disable_adapters]
        # peft switches requires_grad along with the adapter, which would thaw a frozen DAPE.
        trainable = {parameter: parameter.requires_grad for layer in active for parameter in layer.parameters()}
        for layer in active:
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in active:
                layer.enable_adapters(True)
            for parameter, flag in trainable.items():
                parameter.requires_grad_(flag)

    def _require_unmerged(self) -> None:
        if self.is_merged:
            raise ValueError("this RAM's LoRA is merged into its weights, plain RAM is gone; load it again")

    def _pixel_values(self, images: Images, resize: Resize) -> Float[Tensor, "b 3 s s"]:
        batches = [images] if isinstance(images, Tensor) else images
        size = self.config.image_size
        squares = torch.cat([_square(batch, size, resize) for batch in batches])
        return _normalized(squares, self._statistics.to(squares)).to(self.device, self.dtype)

    def enable_gradient_checkpointing(self) -> None:
        """Recompute each block of backbone and head in the backward pass: less memory, about a third more time."""
        for module in self.modules():
            # A stage holds blocks that are checkpointed themselves; once is enough.
            if isinstance(module, GradientCheckpointingLayer) and not hasattr(module, "blocks"):
                module.gradient_checkpointing = True
                recompute = functools.partial(checkpoint, use_reentrant=False)
                module._gradient_checkpointing_func = recompute  # type: ignore[assignment]  # transformers types it as None


def ram_pixel_values(
    images: Float[Tensor, "b 3 h w"],
    *,
    size: int = 384,
    mode: Literal["bilinear", "bicubic"] = "bilinear",
    antialias: bool = False,
) -> Float[Tensor, "b 3 s s"]:
    """Return RAM's input for float images in [0, 1]: resized to a square (see `Resize`), clamped, normalized."""
    return _normalized(_square(images, size, Resize(mode, antialias)), images.new_tensor([MEAN, STD]).view(2, 3, 1, 1))


def _square(images: Tensor, size: int, resize: Resize) -> Tensor:
    mode, antialias = resize
    return functional.interpolate(images, (size, size), mode=mode, align_corners=False, antialias=antialias).clamp(0, 1)


def _normalized(squares: Tensor, statistics: Tensor) -> Tensor:
    return (squares - statistics[0]) / statistics[1]
