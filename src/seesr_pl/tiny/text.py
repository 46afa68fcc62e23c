"""A real CLIP tokenizer and text model whose vocabulary is a short list of words, bytes for everything else."""

from collections.abc import Sequence
from typing import cast

from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from seesr_pl.checkpoints.stack import byte_tokenizer

# The words of the official added and negative prompts (test_seesr.py:242-266).
PROMPT_WORDS = ("clean", "high", "resolution", "dotted", "noise", "blur", "lowres", "smooth")
MAX_LENGTH = 32
_END = "</w>"


def word_tokenizer(words: Sequence[str], *, max_length: int = MAX_LENGTH) -> CLIPTokenizer:
    """Return a `CLIPTokenizer` that knows each of `words` as one token and spells out every other word in bytes."""
    return byte_tokenizer(byte_pair_merges(words), max_length=max_length)


def byte_pair_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return merge rules, in order of rank, after which each of `words` (lower-case letters) is a single token.

    Each rule is applied to all words before the next one is chosen, as byte-pair encoding itself does.
    """
    pieces = [[*word[:-1], word[-1] + _END] for word in dict.fromkeys(words)]
    merges: list[tuple[str, str]] = []
    while unfinished := next((piece for piece in pieces if len(piece) > 1), None):
        pair = (unfinished[0], unfinished[1])
        merges.append(pair)
        pieces = [_merged(piece, pair) for piece in pieces]
    return merges


def tiny_text_encoder(tokenizer: CLIPTokenizer, *, width: int = 32, num_layers: int = 2) -> CLIPTextModel:
    """Return a `CLIPTextModel` with random weights for the vocabulary of `tokenizer`."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=num_layers,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=width,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = CLIPTextModel(config)
    # transformers' own deviation of 0.02 suits widths of 512 and more; here tokens would hardly differ.
    nn.init.normal_(cast(nn.Embedding, model.get_input_embeddings()).weight, std=width**-0.5)
    return model.eval()


def _merged(piece: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for token in piece:
        if merged and (merged[-1], token) == pair:
            merged[-1] += token
        else:
            merged.append(token)
    return merged
