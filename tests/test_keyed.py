"""Equal words give equal values, and each word counts."""

import hashlib

import numpy as np
import pytest
import torch

from seesr_pl import keyed

DRAW = {"seed": 1, "epochs": torch.tensor([2, 2]), "sample_ids": torch.tensor([3, 4]), "purpose": "noise"}
CHANGES = {
    "seed": {"seed": 5},
    "epoch": {"epochs": torch.tensor([6, 6])},
    "sample": {"sample_ids": torch.tensor([7, 8])},
    "purpose": {"purpose": "other"},
}
LAWS = {
    "normal": lambda **words: keyed.normal((4,), **words),
    "uniform": keyed.uniform,
    "integers": lambda **words: keyed.integers(1 << 40, **words),
}


def test_a_key_is_the_hash_of_its_words_with_their_types():
    # Recorded runs can be replayed only while this rule stands.
    digest = hashlib.blake2b(b"int:7\x1fstr:crop", digest_size=8).digest()
    assert keyed.key(7, "crop") == sum(byte << (8 * place) for place, byte in enumerate(digest))


@pytest.mark.parametrize(
    ("words", "others"), [((1,), ("1",)), (("ab", "c"), ("a", "bc")), ((1, 23), (12, 3)), ((1, 2), (2, 1))]
)
def test_other_words_are_another_key(words, others):
    assert keyed.key(*words) != keyed.key(*others)


def test_the_generators_are_seeded_by_the_key_and_by_nothing_else():
    expected = np.random.Generator(np.random.Philox(key=keyed.key(1, "a"))).random(3)
    assert keyed.numpy_generator(1, "a").random(3).tolist() == expected.tolist()
    first, again = (torch.rand(3, generator=keyed.torch_generator(1, "a")) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, torch.rand(3, generator=keyed.torch_generator(2, "a")))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("word", CHANGES)
def test_each_word_changes_each_row(law, word):
    first, second = LAWS[law](**DRAW), LAWS[law](**(DRAW | CHANGES[word]))
    assert torch.equal(first, LAWS[law](**DRAW))
    assert (first != second).flatten(1).any(1).all() if first.ndim > 1 else (first != second).all()


@pytest.mark.parametrize("law", LAWS)
def test_a_row_is_the_same_in_any_batch(law):
    alone = LAWS[law](**(DRAW | {"epochs": torch.tensor([2]), "sample_ids": torch.tensor([4])}))
    together = LAWS[law](**DRAW)
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[1])


def many(number: int) -> dict:
    return {"seed": 0, "epochs": torch.zeros(number).long(), "sample_ids": torch.arange(number), "purpose": "law"}


def test_normal_draws_are_standard_normal():
    draws = keyed.normal((10,), **many(400))
    assert draws.dtype == torch.float32
    assert abs(draws.mean()) < 0.06
    assert draws.std() == pytest.approx(1, abs=0.05)
    assert (draws.abs() > 1.96).float().mean() == pytest.approx(0.05, abs=0.014)


def test_uniform_draws_fill_the_unit_interval():
    draws = keyed.uniform(**many(1000))
    assert draws.min() < 0.01
    assert 0.99 < draws.max() < 1
    assert draws.mean() == pytest.approx(0.5, abs=0.04)


def test_integers_reach_both_ends():
    assert set(keyed.integers(5, **many(200)).tolist()) == {0, 1, 2, 3, 4}
