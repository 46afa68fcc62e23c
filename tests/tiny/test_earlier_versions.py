"""What earlier versions saved of the tiny stack still loads."""

import json

import numpy as np

from seesr_pl.sampling import SAMPLERS, SeeSRPipeline, restore
from seesr_pl.tiny import tiny_stack


def test_a_pipeline_that_an_earlier_version_saved_restores_the_same_pixels(tmp_path):
    pipeline = SeeSRPipeline(*tiny_stack())
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    parts = {name: value for name, value in index.items() if isinstance(value, list)}
    parts |= {name: ["seesr_pl.models.tiny_networks", parts[name][1]] for name in ("unet", "controlnet")}
    parts["vae"] = ["seesr_pl.models.tiny_latent", parts["vae"][1]]
    (tmp_path / "model_index.json").write_text(json.dumps(parts | {"_class_name": "RunPipeline"}))
    again = SeeSRPipeline.from_pretrained(tmp_path)
    rgb = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    sampling = SAMPLERS["official"].changed({"num_inference_steps": 1, "guidance_scale": 1.0, "process_size": 64})
    first, second = (restore(pipe, rgb, seed=0, key=0, sampling=sampling).rgb for pipe in (pipeline, again))
    np.testing.assert_array_equal(first, second)
