"""Build the noise banks on import: a fork server can only preload modules, and its children share what they build."""

from seesr_pl.degradation.noise import build_banks

build_banks()
