"""Train and judge semantics-aware real-world super-resolution."""

import os

__version__ = "0.1.0"

# Read when torch loads OpenMP. By default its threads spin while they wait for each other: if another process needs the
# same cores, a training step on two threads then takes ten times as long as on one.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
