"""The tokens of RAM's tags by lookup, so that a prompt needs no word from the device that tags."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from transformers import CLIPTokenizer


class TagTokens(nn.Module):
    """The tokens of "a, b," for the tags a and b that are on; equal to those of the tokenizer for that text.

    Tags are tokenized once, each with its comma: a tokenizer of CLIP's kind joins nothing across a space.
    """

    places: Tensor
    table: Tensor
    lengths: Tensor

    def __init__(self, tokenizer: CLIPTokenizer, tag_names: Sequence[str]) -> None:
        super().__init__()
        # The last piece is the text of an image without tags.
        pieces = tokenizer([f"{name}," for name in (*tag_names, "")], add_special_tokens=False).input_ids
        longest = max(len(piece) for piece in pieces)
        self.size = tokenizer.model_max_length
        self.begin, self.end, self.padding = (
            int(number) for number in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
        )
        # Of whole numbers, which a change of precision does not round.
        self.register_buffer("places", torch.arange(longest, device="cpu"), persistent=False)
        self.register_buffer("lengths", torch.tensor([len(p) for p in pieces], device="cpu"), persistent=False)
        padded = [[*piece, *[self.padding] * (longest - len(piece))] for piece in pieces]
        self.register_buffer("table", torch.tensor(padded, device="cpu"), persistent=False)

    def forward(self, mask: Bool[Tensor, "b k"]) -> Int[Tensor, "b n"]:
        """Return the tokens of the tags that are on in each row, cut off to the tokenizer's length."""
        on = torch.cat([mask, ~mask.any(1, keepdim=True)], 1)
        ends = (self.lengths * on).cumsum(1) + 1
        places = (ends - self.lengths)[:, :, None] + self.places
        is_used = on[:, :, None] & (self.places < self.lengths[:, None]) & (places < self.size - 1)
        # One column more takes what is not used.
        rows = mask.new_full((len(mask), self.size + 1), self.padding, dtype=torch.int64)
        rows.scatter_(1, places.where(is_used, self.size).flatten(1), self.table.expand(len(mask), -1, -1).flatten(1))
        rows[:, 0].fill_(self.begin)
        return rows.scatter_(1, ends[:, -1:].clamp_max(self.size - 1), self.end)[:, : self.size]
