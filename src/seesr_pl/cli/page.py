"""`seesr demo`: serve a web page that restores an uploaded image."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seesr_pl.cli.options import DTYPE_HELP, DType, Trust, pipeline_builder

if TYPE_CHECKING:
    import gradio
    import numpy as np

    from seesr_pl.sampling.pipeline import SeeSRPipeline

_MAX_SIDE = 4096


def demo(
    ckpt: Annotated[Path | None, typer.Option(help="a run, its .ckpt file, or a saved pipeline folder")] = None,
    base: Annotated[Path | None, typer.Option(help="Stable Diffusion 2 folder (official weights)")] = None,
    seesr: Annotated[Path | None, typer.Option(help="SeeSR folder with unet/ and controlnet/")] = None,
    ram: Annotated[Path | None, typer.Option(help="ram_swin_large_14m.pth, or a saved RAM folder")] = None,
    dape: Annotated[Path | None, typer.Option(help="DAPE.pth")] = None,
    turbo: Annotated[bool, typer.Option(help="--base is sd-turbo; choose the sampler turbo on the page")] = False,
    dtype: Annotated[DType, typer.Option(help=DTYPE_HELP)] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")] = "auto",
    host: Annotated[str, typer.Option(help="address to listen on; 0.0.0.0 for all")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="port to listen on")] = 7860,
    trust: Trust = None,
) -> None:
    """Serve a page that restores images. Upload, see and edit the tags, compare; needs the extra [demo]."""
    try:
        import gradio  # noqa: F401  # a missing extra is reported before weights are loaded
    except ImportError as error:
        raise ImportError("the demo needs gradio: pip install 'seesr-pl[demo]'") from error
    from seesr_pl.jobs.pool import existing_device

    build = pipeline_builder(ckpt, base, seesr, ram, dape, dtype=dtype, keep_base_unet=turbo, trust=trust or ())
    page(build(existing_device(device))).queue().launch(server_name=host, server_port=port)


def page(pipeline: "SeeSRPipeline") -> "gradio.Blocks":
    """Build the page of one pipeline, which restores one image at a time; its choices are those of `Sampling`.

    DAPE's LoRA is merged into the pipeline's RAM; results name the weights from before, as `seesr restore` does.
    """
    import gradio

    from seesr_pl.jobs.restore import weights_hashes
    from seesr_pl.sampling.settings import SAMPLERS, settings

    upscale_setting = next(setting for setting in settings() if setting.name == "upscale")
    own = pipeline.sampling
    preset = f"own: that of the run, steps {own.num_inference_steps}, guidance {own.guidance_scale:g}"
    weights = weights_hashes(pipeline)
    pipeline.merge_lora()
    look = _look(pipeline)
    with gradio.Blocks(title="SeeSR") as blocks:
        gradio.Markdown("# SeeSR\nUpload an image or take an example, check its tags, restore it.")
        with gradio.Row():
            with gradio.Column():
                image = gradio.Image(label="Image", type="pil", image_mode="RGB")
                tags = gradio.Textbox(label="Tags", info="what the tagger sees in the image; edit freely")
                if shown := _examples():
                    gradio.Examples(shown, image, tags, fn=look, run_on_click=True, label="Examples: degraded images")
                prompt = gradio.Textbox(label="Prompt", info="words between the tags and the added prompt")
                sampler = gradio.Radio(["own", *SAMPLERS], value="own", label="Sampler", info=preset)
                with gradio.Row():
                    upscale = gradio.Slider(1, 8, value=4, step=1, label="Upscale", info=upscale_setting.help)
                    seed = gradio.Number(value=0, precision=0, label="Seed")
                button = gradio.Button("Restore", variant="primary")
            with gradio.Column():
                slider = gradio.ImageSlider(label="Before | after", type="numpy", format="png")
                made = gradio.JSON(label="How the result was made")
        image.upload(look, image, tags)
        button.click(_restore(pipeline, weights), [image, tags, prompt, sampler, upscale, seed], [slider, made])
    return blocks


def _examples() -> list[str]:
    """Write a degraded crop of four of the photographs that are installed; return the files."""
    from seesr_pl.imaging.io import write_image
    from seesr_pl.tiny.pairs import photo_pairs
    from seesr_pl.tiny.photographs import photographs

    photos = [photo for photo in photographs(("held-out",), source="pip") if not photo.missing_files()][:4]
    folder, files = Path(tempfile.mkdtemp(prefix="seesr-examples-")), []
    for pair in photo_pairs(photos, crop_size=256, crops_per_photo=1):
        write_image(folder / f"{pair.name}.png", pair.lq)
        files.append(str(folder / f"{pair.name}.png"))
    return files


def _look(pipeline: "SeeSRPipeline") -> Any:
    from seesr_pl.sampling.images import as_rgb

    def look(image: Any) -> str:
        return pipeline.look([as_rgb(image)])[1][0]

    return look


def _restore(pipeline: "SeeSRPipeline", weights: dict[str, str]) -> Any:
    import gradio
    import numpy as np
    from PIL import Image

    from seesr_pl.files import versions
    from seesr_pl.jobs.restore import settings_of
    from seesr_pl.sampling.images import as_rgb
    from seesr_pl.sampling.restoring import restore as restore_one
    from seesr_pl.sampling.settings import SAMPLERS

    def restore(
        image: Image.Image | None, tags: str, prompt: str, sampler: str, upscale: int, seed: int
    ) -> "tuple[tuple[np.ndarray, np.ndarray], dict[str, Any]]":
        if image is None:
            raise gradio.Error("Upload an image first.")
        size = image.width * upscale, image.height * upscale
        if max(size) > _MAX_SIDE:
            raise gradio.Error(f"The result would be {size[0]}x{size[1]}; the limit is {_MAX_SIDE} pixels a side.")
        sampling = SAMPLERS.get(sampler, pipeline.sampling).changed({"upscale": upscale})
        progress, done = gradio.Progress(), iter(range(1, sampling.num_inference_steps + 1))
        restored = restore_one(
            pipeline,
            as_rgb(image),
            seed=seed,
            key=0,
            sampling=sampling,
            tags=tags,
            prompt=prompt,
            on_step=lambda _: progress((next(done), sampling.num_inference_steps), unit="steps"),
        )
        before = image.resize((restored.rgb.shape[1], restored.rgb.shape[0]), Image.Resampling.BICUBIC)
        made = {"seed": seed, "tags": restored.tags, "prompt": prompt, "sampler": sampler}
        made |= {"settings": settings_of(pipeline, sampling), "weights": weights, "versions": versions()}
        return (np.asarray(before), restored.rgb), made

    return restore
