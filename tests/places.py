"""Where the parts of the checkout lie."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
