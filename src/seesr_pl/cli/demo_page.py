"""The page of `seesr demo`."""

from typing import Any

import gradio
import numpy as np
from PIL import Image

from seesr_pl import keyed
from seesr_pl.sampling.inputs import as_rgb
from seesr_pl.sampling.pipeline import SeeSRPipeline
from seesr_pl.sampling.presets import PRESETS

_MAX_SIDE = 4096


def page(pipeline: SeeSRPipeline) -> gradio.Blocks:
    """The page for one pipeline; one picture at a time."""
    with gradio.Blocks(title="SeeSR") as blocks:
        gradio.Markdown("# SeeSR\nUpload a picture, check what it was taken for, restore it.")
        with gradio.Row():
            with gradio.Column():
                image = gradio.Image(label="Picture", type="pil", image_mode="RGB")
                tags = gradio.Textbox(label="Tags", info="what the picture shows, as the tagger sees it; edit freely")
                prompt = gradio.Textbox(label="Prompt", info="more words, in front of the usual ones")
                preset = gradio.Radio(list(PRESETS), value="fast", label="Preset")
                with gradio.Row():
                    upscale = gradio.Slider(1, 8, value=4, step=1, label="Upscale")
                    seed = gradio.Number(value=0, precision=0, label="Seed")
                button = gradio.Button("Restore", variant="primary")
            slider = gradio.ImageSlider(label="Before | after", type="numpy")
        image.upload(_look(pipeline), image, tags)
        inputs = [image, tags, prompt, preset, upscale, seed]
        button.click(_restore(pipeline), inputs, slider)
    return blocks


def _look(pipeline: SeeSRPipeline) -> Any:
    def look(image: Image.Image) -> str:
        return pipeline.look([as_rgb(image)])[1][0]

    return look


def _restore(pipeline: SeeSRPipeline) -> Any:
    def restore(
        image: Image.Image | None, tags: str, prompt: str, preset: str, upscale: int, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        if image is None:
            raise gradio.Error("Upload a picture first.")
        size = image.width * upscale, image.height * upscale
        if max(size) > _MAX_SIDE:
            raise gradio.Error(f"The result would be {size[0]}x{size[1]}; this page stops at {_MAX_SIDE} a side.")
        progress = gradio.Progress()

        def step(pipe: Any, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            progress((index + 1, PRESETS[preset]["num_inference_steps"]), unit="steps")
            return values

        generator = keyed.torch_generator(seed, "restore", 0)
        result = pipeline(
            image,
            prompt,
            tags=tags,
            upscale=upscale,
            generator=generator,
            callback_on_step_end=step,
            **PRESETS[preset],
        ).images[0]
        return np.asarray(image.resize(result.size, Image.Resampling.BICUBIC)), np.asarray(result)

    return restore
