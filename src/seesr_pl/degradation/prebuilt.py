"""Importing this builds the noise banks: a fork server that preloads it shares them with all workers."""

from seesr_pl.degradation.noise import build_banks

build_banks()
