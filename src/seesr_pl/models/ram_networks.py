"""The two networks inside RAM, built from transformers' parts with RAM's deviations from them."""

import dataclasses
from collections.abc import Sequence

from torch import Tensor, nn
from transformers.models.blip.configuration_blip import BlipTextConfig
from transformers.models.blip.modeling_blip_text import BlipTextEncoder
from transformers.models.swin.configuration_swin import SwinConfig
from transformers.models.swin.modeling_swin import SwinLayer, SwinMLP, SwinModel


@dataclasses.dataclass(frozen=True)
class RAMConfig:
    """Sizes of a RAM; the defaults are ram_swin_large_14m's (ram/configs/swin/config_swinL_384.json, q2l_config.json).

    `image_size` must be `patch_size * window_size * 8`: the last of the four stages is one window.
    """

    image_size: int = 384
    patch_size: int = 4
    embed_dim: int = 192
    depths: Sequence[int] = (2, 2, 18, 2)
    num_heads: Sequence[int] = (6, 12, 24, 48)
    window_size: int = 12
    representation_dim: int = 512
    head_hidden_size: int = 768
    head_intermediate_size: int = 3072
    head_num_heads: int = 4
    head_num_layers: int = 2
    drop_path_rate: float = 0.1
    head_dropout: float = 0.1


def visual_encoder(config: RAMConfig) -> SwinModel:
    """Return the Swin of RAM (ram/models/swin_transformer_lora.py:493-590), with random weights."""
    swin = SwinModel(
        SwinConfig(
            image_size=config.image_size,
            patch_size=config.patch_size,
            embed_dim=config.embed_dim,
            depths=list(config.depths),
            num_heads=list(config.num_heads),
            window_size=config.window_size,
            drop_path_rate=config.drop_path_rate,
        )
    )
    for block in [module for module in swin.modules() if isinstance(module, SwinLayer)]:
        block.add_module("mlp", _DropPathMLP(block.mlp, block.drop_path))
    return swin


def tagging_head(config: RAMConfig) -> BlipTextEncoder:
    """Return the cross-attention decoder with one query per tag (ram/models/bert_lora.py:381-463), random weights."""
    head = BlipTextEncoder(
        BlipTextConfig(
            hidden_size=config.head_hidden_size,
            encoder_hidden_size=config.representation_dim,
            intermediate_size=config.head_intermediate_size,
            num_hidden_layers=config.head_num_layers,
            num_attention_heads=config.head_num_heads,
            hidden_dropout_prob=config.head_dropout,
            attention_probs_dropout_prob=config.head_dropout,
            layer_norm_eps=1e-12,
            is_decoder=True,
            use_cache=False,
        )
    )
    for layer in head.layer:
        layer.attention = _NoSelfAttention()
    return head


class _DropPathMLP(nn.Module):
    """A Swin MLP with its stochastic depth, which transformers leaves out (swin_transformer_lora.py:277)."""

    def __init__(self, mlp: SwinMLP, drop_path: nn.Module) -> None:
        super().__init__()
        self.fc1, self.fc2, self.activation = mlp.fc1, mlp.fc2, mlp.activation_fn
        self.drop_path = drop_path

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.drop_path(self.fc2(self.activation(self.fc1(hidden_states))))


class _NoSelfAttention(nn.Module):
    """Takes the place of the self-attention that RAM deletes in of its tagging head (ram_lora.py:171-174)."""

    def forward(self, hidden_states: Tensor, *_: object, **__: object) -> tuple[Tensor, None]:
        # Accepts any other argument: releases of transformers differ in what they pass to a self-attention.
        return hidden_states, None
