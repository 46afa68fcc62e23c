"""Positions are split over ranks and micro batches so that nothing is lost or taken twice."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seesr_pl.data.loader import MicroBatches, RankBatches, accumulation


def layouts(global_batch: int) -> list[tuple[int, int]]:
    """Every (world size, micro batch) that divides the global batch."""
    sizes = range(1, global_batch + 1)
    return [(world_size, micro) for world_size in sizes for micro in sizes if global_batch % (world_size * micro) == 0]


def steps(start: int, num_steps: int, global_batch: int, layout: tuple[int, int]) -> list[list[int]]:
    """The positions of each optimizer step, over all ranks."""
    world_size, micro = layout
    ranks = [
        list(
            MicroBatches(
                start=start,
                num_steps=num_steps,
                global_batch_size=global_batch,
                micro_batch_size=micro,
                rank=rank,
                world_size=world_size,
            )
        )
        for rank in range(world_size)
    ]
    each = accumulation(global_batch, micro, world_size=world_size)
    return [
        [position for rank in ranks for batch in rank[step * each : (step + 1) * each] for position in batch]
        for step in range(num_steps)
    ]


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from([1, 4, 6, 12, 24]), st.integers(0, 50), st.integers(1, 6), st.integers(0, 6))
def test_killed_at_any_step_and_resumed_in_any_layout_the_steps_are_the_same(data, global_batch, start, total, kill):
    kill = min(kill, total)
    before, after = (data.draw(st.sampled_from(layouts(global_batch))) for _ in range(2))
    sequence = steps(start, kill, global_batch, before)
    sequence += steps(start + kill * global_batch, total - kill, global_batch, after)
    expected = list(range(start, start + total * global_batch))
    assert [position for step in sequence for position in step] == expected


@given(st.integers(0, 60), st.integers(1, 7), st.integers(1, 9))
def test_validation_reads_every_sample_and_gives_each_rank_one(num_positions, batch_size, world_size):
    ranks = [RankBatches(num_positions, batch_size, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert all(len(list(batches)) == len(batches) for batches in ranks)
    read = [p for batches in ranks for batch in batches for p in batch]
    assert sorted(set(read)) == list(range(num_positions))
    assert len(read) == (max(num_positions, world_size) if num_positions else 0)
    assert all(list(batches) for batches in ranks) or not num_positions


def test_a_global_batch_that_does_not_divide_is_refused_with_the_numbers():
    with pytest.raises(ValueError, match=r"global_batch_size=12 must be a positive multiple of .* = 5 \* 2 = 10"):
        accumulation(12, 2, world_size=5)
