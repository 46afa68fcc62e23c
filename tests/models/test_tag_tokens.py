"""The tokens of tags that are looked up are those of their text."""

import pytest
import torch
from stacks import TAGS

from seesr_pl.checkpoints.stack import byte_tokenizer
from seesr_pl.models.denoiser import tokens
from seesr_pl.models.tag_tokens import TagTokens

# Of the kinds in RAM's list, and some that a list of one's own may have.
NAMES = [*TAGS, "t-shirt", "Tea Pot", "1950s", "women's shoe", "u.s.", "caf\u00e9", "black/white", "two  spaces"]


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer([("w", "o"), ("t", "e"), ("'", "s</w>")])


def test_looked_up_tokens_are_those_of_the_text_however_many_tags_are_on(tokenizer):
    generator = torch.Generator().manual_seed(0)
    chances = torch.linspace(0, 1, 40)[:, None]
    mask = torch.rand(40, len(NAMES), generator=generator) < chances
    texts = [", ".join(name for name, on in zip(NAMES, row, strict=True) if on) + "," for row in mask.tolist()]
    expected = tokens(tokenizer, texts)
    assert torch.equal(TagTokens(tokenizer, NAMES)(mask), expected)
    assert texts[0] == ","
    assert (expected[:, -1] == tokenizer.eos_token_id).any(), "none of these texts is too long"


def test_a_change_of_precision_changes_no_token(tokenizer):
    mask = torch.eye(len(NAMES), dtype=torch.bool)
    lookup = TagTokens(tokenizer, NAMES)
    before = lookup(mask)
    assert torch.equal(lookup.to(torch.bfloat16)(mask), before)
    assert not lookup.state_dict()
