"""The order is a function of the seed and the epoch, and visits each sample as often as its weight says."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seesr_pl.data.order import EpochOrder

sizes = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=40), min_size=1, max_size=3)

weights = st.sampled_from([0.25, 0.5, 1.5, 2.0, 3.75])


def slots(order: EpochOrder, epoch: int) -> list[int]:
    return [order.slot(epoch, position) for position in range(len(order))]


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(0, 2**31), st.integers(0, 5))
def test_at_weight_one_an_epoch_is_a_permutation(shard_sizes, seed, epoch):
    order = EpochOrder(shard_sizes, [1.0] * len(shard_sizes), seed=seed)
    assert sorted(slots(order, epoch)) == list(range(order.num_samples))


@settings(max_examples=60, deadline=None)
@given(
    sizes.filter(lambda sources: sum(map(sum, sources)) > 9),
    st.sampled_from([0.25, 0.5, 1.5, 2.0, 3.75]),
    st.integers(0, 5),
)
def test_a_weight_repeats_each_sample_and_chooses_a_share(shard_sizes, weight, epoch):
    order = EpochOrder(shard_sizes, [weight] * len(shard_sizes), seed=1)
    found = slots(order, epoch)
    visits = Counter(slot % order.num_samples for slot in found)
    assert len(set(found)) == len(found)
    assert {visits[sample] for sample in range(order.num_samples)} <= {int(weight), -int(-weight // 1)}
    expected = sum(round(weight % 1 * sum(source)) + int(weight) * sum(source) for source in shard_sizes)
    assert len(found) == expected


def test_the_share_of_a_fraction_changes_with_the_epoch_and_reaches_every_sample():
    order = EpochOrder([[10, 13, 7]], [0.5], seed=0)
    seen = [set(slots(order, epoch)) for epoch in range(20)]
    assert all(len(chosen) == 15 for chosen in seen)
    assert seen[0] != seen[1]
    assert set.union(*seen) == set(range(30))


def test_seed_and_epoch_change_the_order_and_asking_does_not():
    first, second = (EpochOrder([[20] * 40], [1.0], seed=seed) for seed in (0, 1))
    assert slots(first, 0) != slots(second, 0)
    assert slots(first, 0) != slots(first, 1)
    backwards = [first.slot(0, position) for position in reversed(range(800))]
    assert backwards[::-1] == slots(EpochOrder([[20] * 40], [1.0], seed=0), 0)


def first_block(seed: int, epoch: int) -> set[int]:
    """The shards whose samples an epoch begins with."""
    order = EpochOrder([[2] * 100], [1.0], seed=seed)
    return {order.slot(epoch, position) // 2 for position in range(2 * 16)}


def test_seed_and_epoch_each_change_which_shards_come_first():
    blocks = [first_block(seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert [len(block) for block in blocks] == [16] * 4
    assert len(set(map(frozenset, blocks))) == 4


def test_seed_and_epoch_each_change_the_order_within_a_shard():
    found = [slots(EpochOrder([[40]], [1.0], seed=seed), epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(map(tuple, found))) == 4


def test_each_block_is_shuffled_in_an_order_of_its_own():
    # Shards of equal size: were two blocks shuffled alike, the places within their shards would come alike.
    places = np.array(slots(EpochOrder([[4] * 32], [1.0], seed=0), 0)) % 4
    assert (places[:64] != places[64:]).any()


def test_a_fraction_chooses_other_places_in_each_shard():
    chosen = np.array(slots(EpochOrder([[10] * 8], [0.5], seed=0), 0))
    places = {frozenset((chosen[chosen // 10 == shard] % 10).tolist()) for shard in range(8)}
    assert len(places) > 4


def test_a_block_of_the_order_needs_few_shards():
    order = EpochOrder([[50] * 100], [1.0], seed=3)
    block = np.array(slots(order, 2)[: 16 * 50]) // 50
    assert len(set(block.tolist())) == 16
    assert len(set(block[:50].tolist())) > 8


def test_a_block_is_shuffled():
    order = EpochOrder([[50] * 32], [1.0], seed=3)
    steps = np.diff(slots(order, 0))
    assert (np.abs(steps) == 1).mean() < 0.02


@pytest.mark.parametrize(("shard_sizes", "weights"), [([[3]], [0.0]), ([[3]], [-1.0]), ([[]], [1.0]), ([[1]], [0.1])])
def test_sources_that_give_nothing_are_refused(shard_sizes, weights):
    with pytest.raises(ValueError, match="weights"):
        EpochOrder(shard_sizes, weights, seed=0)
