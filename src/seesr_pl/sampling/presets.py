"""Settings of the pipeline by name: the official one and faster ones."""

from typing import Any, Literal

ADDED_PROMPT = "clean, high-resolution, 8k"
"""Official (test_seesr.py:244)."""
NEGATIVE_PROMPT = "dotted, noise, blur, lowres, smooth"
"""Official (test_seesr.py:245)."""

Preset = Literal["quality", "fast", "turbo"]
PRESETS: dict[str, dict[str, Any]] = {
    # test_seesr.py:242-266.
    "quality": {"num_inference_steps": 50, "guidance_scale": 5.5, "solver": "own", "tile": 96, "overlap": 4},
    # Other results; 2.4 times fewer FLOPs a picture (benchmarks/restore.py, full size).
    "fast": {"num_inference_steps": 20, "guidance_scale": 5.5, "solver": "unipc", "tile": 96, "overlap": 4},
    # test_seesr_turbo.py; needs sd-turbo as base, with SeeSR's RCA put in.
    "turbo": {"num_inference_steps": 2, "guidance_scale": 1.0, "solver": "own", "tile": 96, "overlap": 32},
}
