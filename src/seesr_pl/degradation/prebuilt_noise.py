"""Import this module to build the noise banks: a fork server can preload modules only, and shares what they build."""

from seesr_pl.degradation.noise import build_banks

build_banks()
