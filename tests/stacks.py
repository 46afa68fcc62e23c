"""Every network of SeeSR in the stock classes of Stable Diffusion, at a tiny size, with no weight at zero."""

import copy
import dataclasses
import functools

import official
import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextConfig, CLIPTextModel

from seesr_pl.checkpoints.stack import byte_tokenizer
from seesr_pl.models.ram import RAM
from seesr_pl.models.seesr import SeeSRControlNet, SeeSRUNet
from seesr_pl.models.stack import SeeSRStack

TEXT_WIDTH = 32
SIZES = {
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "block_out_channels": [16, 32],
    "layers_per_block": 1,
    "attention_head_dim": [2, 4],
}
CONTROLNET = official.CONTROLNET | SIZES
UNET = official.UNET | SIZES | {"up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}
VAE = official.VAE | {"block_out_channels": [8, 8, 16, 16], "norm_num_groups": 4}
TAGGER = dataclasses.replace(official.TAGGER, depths=(1, 1, 1), num_heads=(1, 2, 4), head_num_layers=1)
TAGS = ("old", "stone", "wall", "wood", "grass", "sky", "water", "leaf")


def small_stack(*, dape=True):
    """Networks with weights by the rule of `official`, DAPE's LoRA where asked for, and a text encoder of seed 0.

    Each call gives networks of its own; the tokenizer is shared.
    """
    stack = _stack(dape)
    networks = {name: copy.deepcopy(part) for name, part in stack._asdict().items() if name != "tokenizer"}
    return stack._replace(**networks)


def small_ram(*, dape=True):
    """The tagger of `small_stack`."""
    return copy.deepcopy(_stack(dape).ram)


def small_text_encoder(tokenizer):
    """A text encoder for the vocabulary of `tokenizer`, with the weights of seed 0."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=TEXT_WIDTH,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIPTextModel(config)
        # transformers' own deviation of 0.02 suits widths of 512 and more; here tokens would hardly differ.
        torch.nn.init.normal_(model.get_input_embeddings().weight, std=TEXT_WIDTH**-0.5)
    return model.eval()


@functools.cache
def _stack(dape):
    tokenizer = byte_tokenizer()
    return SeeSRStack(
        vae=official.filled(AutoencoderKL.from_config(VAE), "vae"),
        text_encoder=small_text_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=official.filled(SeeSRUNet.from_config(UNET), "unet"),
        controlnet=official.filled(SeeSRControlNet.from_config(CONTROLNET), "controlnet"),
        ram=_tagger(dape),
        scheduler=official.scheduler(),
    )


def _tagger(dape):
    ram = RAM(TAGGER, TAGS, [0.5] * len(TAGS))
    if dape:
        ram.add_lora(4)
    for name, parameter in ram.named_parameters():
        parameter.data = official.by_rule(f"ram.{name.replace('.base_layer', '')}", parameter.shape)
    return ram


class Listener:
    """What a text encoder is told from now on: `texts`, one list a call, as its tokenizer spells them."""

    def __init__(self, text_encoder, tokenizer):
        self.tokenizer, self.texts = tokenizer, []
        text_encoder.register_forward_pre_hook(self._hear, with_kwargs=True)

    def spelt(self, texts):
        """`texts` in the tokenizer's spelling."""
        return self._words(self.tokenizer(texts, truncation=True).input_ids)

    def _hear(self, module, arguments, keywords):
        self.texts.append(self._words((*arguments, *keywords.values())[0]))

    def _words(self, ids):
        return self.tokenizer.batch_decode(ids, skip_special_tokens=True)
