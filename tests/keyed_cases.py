"""Samples whose keyed draws are what a test needs."""

import itertools

import torch

from seesr_pl import keyed


def sample_whose_timestep_is(timestep, *, seed, epoch):
    """The first sample that trains at `timestep` of 1000."""
    return next(number for number in itertools.count() if _timestep(number, seed, epoch) == timestep)


def samples_around_the_chance(chance, *, seed, epoch, purpose, width=0.05):
    """The first sample whose uniform draw is just below `chance`, and the first whose is just above."""
    draws = ((number, _uniform(number, seed, epoch, purpose)) for number in itertools.count())
    near = [next(n for n, u in draws if low <= u < low + width) for low in (chance - width, chance)]
    return tuple(near)


def _timestep(number, seed, epoch):
    return int(keyed.integers(1000, purpose="timestep", **_keys(number, seed, epoch)))


def _uniform(number, seed, epoch, purpose):
    return float(keyed.uniform(purpose=purpose, **_keys(number, seed, epoch)))


def _keys(number, seed, epoch):
    return {"seed": seed, "epochs": torch.tensor([epoch]), "sample_ids": torch.tensor([number])}
