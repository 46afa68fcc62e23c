"""SeeSR's two networks: Stable Diffusion's UNet and ControlNet, each with representation cross-attention (RCA).

Every text transformer gets a sibling: a whole transformer that attends to the image representation. It runs right
after the text transformer, on its output. No block of diffusers is rewritten: the text transformers are
re-classed so that they receive (text, representation) as a pair through `encoder_hidden_states` and run their sibling.
State-dict keys equal the official ones (models/unet_2d_condition.py, models/controlnet.py at 8edecc7).
"""

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, cast

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel, ControlNetOutput
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel, UNet2DConditionOutput
from torch import Tensor, nn

from seesr_pl.models.weights import loading

REPRESENTATION_DIM = 512
"""Width of the representation; official code has it as a constructor default (unet_2d_blocks.py:569, 1036, 2266)."""

RCAInit = Literal["official", "zero"]


class TextAndRepresentation(NamedTuple):
    """What the transformers attend to: text (b, 77, d), and the representation (b, n, 512) or None to skip RCA."""

    text: Tensor
    representation: Tensor | None


class TextThenImageTransformer(Transformer2DModel):
    """A text transformer that hands its output to its RCA sibling (unet_2d_blocks.py:1182-1199)."""

    # A tuple, because nn.Module would register a bare module a second time.
    image_attention: tuple[Transformer2DModel]

    def forward(  # type: ignore[override]  # the pair is the point
        self,
        hidden_states: Tensor,
        encoder_hidden_states: TextAndRepresentation | None = None,
        timestep: Tensor | None = None,
        added_cond_kwargs: dict[str, Tensor] | None = None,
        class_labels: Tensor | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        attention_mask: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Run as in diffusers, with `encoder_hidden_states` a `TextAndRepresentation`; shapes as there."""
        assert encoder_hidden_states is not None
        attend = functools.partial(
            Transformer2DModel.forward,
            cross_attention_kwargs=cross_attention_kwargs,
            attention_mask=attention_mask,
            encoder_attention_mask=encoder_attention_mask,
            return_dict=False,
        )
        text, representation = encoder_hidden_states
        output = attend(self, hidden_states, text)
        if representation is not None:
            output = attend(self.image_attention[0], output[0], representation)
        return Transformer2DModelOutput(sample=output[0]) if return_dict else output


def _accept_rca_flag(init: Callable[..., None]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a constructor the signature of `init` plus the official flag: diffusers reads configs by signature."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        wrapped = functools.wraps(init)(function)
        signature = inspect.signature(init)
        flag = inspect.Parameter("use_image_cross_attention", inspect.Parameter.KEYWORD_ONLY, default=True)
        wrapped.__signature__ = signature.replace(parameters=[*signature.parameters.values(), flag])  # type: ignore[attr-defined]  # a function may have one
        return wrapped

    return decorate


class SeeSRUNet(UNet2DConditionModel):
    """SD-2's UNet with 16 RCA transformers; reads folders saved by the official class."""

    @_accept_rca_flag(UNet2DConditionModel.__init__)
    def __init__(self, *args: Any, use_image_cross_attention: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_to_config(use_image_cross_attention=use_image_cross_attention)
        _add_image_attentions(self)

    @classmethod
    def from_unet(cls, unet: UNet2DConditionModel, *, rca_init: RCAInit = "official") -> Self:
        """Return a UNet that shares the parameters of `unet` and has freshly initialized RCA.

        `official`: PyTorch's defaults, so the prior is disturbed from the first step, as in the released training.
        `zero`: each RCA's last projection is zero, so the network starts as `unet`.
        """
        with torch.device("meta"):
            model = cast(Self, cls.from_config(unet.config))
        missing, unexpected = model.load_state_dict(unet.state_dict(), strict=False, assign=True)
        assert not unexpected, unexpected
        assert all(".image_attentions." in name for name in missing), missing
        initialise_image_attentions(model, device=unet.device, rca_init=rca_init)
        return nn.Module.to(model, dtype=unet.dtype).train(unet.training)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, **kwargs: Any) -> Self:
        """As diffusers; ValueError where the folder lacks weights, which diffusers would leave uninitialised."""
        return _complete(super().from_pretrained, pretrained_model_name_or_path, kwargs)

    def forward(  # whatever else diffusers' forward takes is handed on as it is
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        encoder_hidden_states: Tensor,
        *args: Any,
        image_encoder_hidden_states: Tensor | None = None,
        **kwargs: Any,
    ) -> UNet2DConditionOutput | tuple[Tensor, ...]:
        """As diffusers, plus the representation `image_encoder_hidden_states` (b, n, 512); None skips every RCA."""
        pair: Any = TextAndRepresentation(encoder_hidden_states, image_encoder_hidden_states)
        return super().forward(sample, timestep, pair, *args, **kwargs)


class SeeSRControlNet(ControlNetModel):
    """SD's ControlNet with 7 RCA transformers; `from_unet` copies a SeeSRUNet's encoder, RCA included."""

    _repeated_blocks = SeeSRUNet._repeated_blocks  # of `compile_repeated_blocks`

    @_accept_rca_flag(ControlNetModel.__init__)
    def __init__(self, *args: Any, use_image_cross_attention: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_to_config(use_image_cross_attention=use_image_cross_attention)
        _add_image_attentions(self)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, **kwargs: Any) -> Self:
        """As diffusers; ValueError where the folder lacks weights, which diffusers would leave uninitialised."""
        return _complete(super().from_pretrained, pretrained_model_name_or_path, kwargs)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        encoder_hidden_states: Tensor,
        controlnet_cond: Tensor,
        *args: Any,
        image_encoder_hidden_states: Tensor | None = None,
        **kwargs: Any,
    ) -> ControlNetOutput | tuple[tuple[Tensor, ...], Tensor]:
        """As diffusers, plus the representation `image_encoder_hidden_states` (b, n, 512); None skips every RCA.

        `controlnet_cond` is the upsampled LQ image in [0, 1], as large as the result.
        """
        pair: Any = TextAndRepresentation(encoder_hidden_states, image_encoder_hidden_states)
        return super().forward(sample, timestep, pair, controlnet_cond, *args, **kwargs)


def initialise_image_attentions(model: SeeSRUNet, *, device: torch.device, rca_init: RCAInit) -> None:
    """Materialize every RCA of `model` on `device` with fresh weights; `rca_init` as in `SeeSRUNet.from_unet`."""
    for image_attention in (rca for block in _attention_blocks(model) for rca in block.image_attentions):
        image_attention.to_empty(device=device)
        for module in image_attention.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.LayerNorm | nn.GroupNorm):
                module.reset_parameters()
        if rca_init == "zero":
            nn.init.zeros_(image_attention.proj_out.weight)
            nn.init.zeros_(image_attention.proj_out.bias)


def _add_image_attentions(model: UNet2DConditionModel | ControlNetModel) -> None:
    for block in _attention_blocks(model):
        block.image_attentions = nn.ModuleList(_image_attention_like(attention) for attention in block.attentions)
        for attention, image_attention in zip(block.attentions, block.image_attentions, strict=True):
            attention.__class__ = TextThenImageTransformer
            attention.image_attention = (image_attention,)


def _attention_blocks(model: UNet2DConditionModel | ControlNetModel) -> Iterator[Any]:
    up_blocks = getattr(model, "up_blocks", ())
    for block in (*model.down_blocks, model.mid_block, *up_blocks):
        if getattr(block, "has_cross_attention", False):
            yield block


def _image_attention_like(attention: Transformer2DModel) -> Transformer2DModel:
    # Not from_config: it drops arguments that diffusers flagged as defaults, and the width would be wrong.
    config = {name: value for name, value in attention.config.items() if not name.startswith("_")}
    return Transformer2DModel(**{**config, "cross_attention_dim": REPRESENTATION_DIM})


def _complete(load: Callable[..., Any], folder: Any, arguments: dict[str, Any]) -> Any:
    wants_info = arguments.pop("output_loading_info", False)
    if not arguments.get("variant"):
        arguments |= loading(Path(folder, arguments.get("subfolder") or ""))
    loaded: tuple[ModelMixin, dict[str, Any]] = load(folder, output_loading_info=True, **arguments)
    model, info = loaded
    if info["missing_keys"]:
        names = sorted(info["missing_keys"])
        raise ValueError(
            f"{folder} lacks {len(names)} weights of {type(model).__name__}, the first {names[0]}; a plain "
            "Stable Diffusion folder has no RCA: load it as UNet2DConditionModel and pass it to SeeSRUNet.from_unet"
        )
    return loaded if wants_info else model
