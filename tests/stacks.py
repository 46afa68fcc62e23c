"""Every network of SeeSR in the stock classes of Stable Diffusion, at a tiny size, with no weight at zero."""

import official
import torch

from seesr_pl.models.stack import SeeSRStack
from seesr_pl.tiny.text import PROMPT_WORDS, tiny_text_encoder, word_tokenizer

WORDS = ("old", "stone", "wall", "wood", "grass", "sky", *PROMPT_WORDS)
"""What the tokenizer knows as one token each; other words are spelt."""


def small_stack(*, dape=True):
    """The networks of `official`, its tagger (with DAPE's LoRA or without), and a text encoder of seed 0."""
    tokenizer = word_tokenizer(WORDS, max_length=77)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text_encoder = tiny_text_encoder(tokenizer)
    parts = official.vae(), text_encoder, tokenizer, official.unet(), official.controlnet()
    return SeeSRStack(*parts, official.ram(dape=dape), official.scheduler())


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
