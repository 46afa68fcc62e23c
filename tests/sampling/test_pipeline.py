"""The whole pipeline, on the small stack."""

import numpy as np
import official
import pytest
import torch
from diffusers import DiffusionPipeline, EulerDiscreteScheduler
from PIL import Image
from safetensors.torch import load_file, save_file
from stacks import small_stack

from seesr_pl.imaging.tensors import to_uint8
from seesr_pl.models.denoiser import decode
from seesr_pl.sampling import OFFICIAL
from seesr_pl.sampling.pipeline import SeeSRPipeline

QUICK = {"num_inference_steps": 1, "guidance_scale": 1.0, "process_size": 64}


@pytest.fixture(scope="module")
def pipeline():
    pipe = SeeSRPipeline(*small_stack())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    levels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(levels).resize((width, height))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(output) -> list[np.ndarray]:
    return [np.asarray(image) for image in output.images]


@pytest.mark.parametrize("recipe", ["default", "official"])
@pytest.mark.parametrize("size", [(1, 1), (7, 20), (19, 17)])
def test_the_result_is_exactly_upscale_times_the_input(pipeline, size, recipe):
    result = pipeline(picture(*size), recipe=recipe, **QUICK).images[0]
    assert result.size == (4 * size[0], 4 * size[1])


def test_it_is_a_diffusers_pipeline(pipeline):
    assert isinstance(pipeline, DiffusionPipeline)
    assert set(pipeline.components) == {"vae", "text_encoder", "tokenizer", "unet", "controlnet", "ram", "scheduler"}


def test_a_saved_pipeline_restores_the_same_pixels(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    again = SeeSRPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    first, second = (pixels(pipe(picture(16, 16), generator=generator(), **QUICK)) for pipe in (pipeline, again))
    np.testing.assert_array_equal(first, second)


def test_half_precision_leaves_ram_alone(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    half = SeeSRPipeline.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert (half.unet.dtype, half.vae.dtype, half.ram.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)


def test_a_given_part_is_not_read_and_a_word_for_the_type_means_float32(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    for name, stem in {"vae": "diffusion_pytorch_model", "text_encoder": "model"}.items():
        path = tmp_path / name / f"{stem}.safetensors"
        half = {key: value.half() for key, value in load_file(path).items()}
        save_file(half, path.with_name(f"{stem}.fp16.safetensors"), metadata={"format": "pt"})
        path.unlink()
    (tmp_path / "vae" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"no weights")
    again = SeeSRPipeline.from_pretrained(tmp_path, torch_dtype="auto", vae=pipeline.vae)
    assert again.vae is pipeline.vae
    assert (again.text_encoder.dtype, again.unet.dtype) == (torch.float32, torch.float32)


def test_a_picture_is_restored_alike_alone_among_others_and_in_a_batch(pipeline):
    pictures = [picture(16, 16, 1), picture(19, 16, 2), picture(16, 16, 3)]
    together = pixels(pipeline(pictures, generator=generator(), **QUICK))
    batched = pixels(pipeline(pictures, generator=generator(), batch_size=2, **QUICK))
    for index, one in enumerate(pictures):
        alone = pixels(pipeline(one, generator=generator(), **QUICK))[0]
        np.testing.assert_array_equal(together[index], alone)
        assert np.abs(batched[index].astype(int) - alone).max() <= 1


@pytest.mark.parametrize(
    ("asks", "merges"), [({}, True), ({"prompter": "ram"}, False), ({"representation": "ram"}, False)]
)
def test_the_lora_is_merged_where_nothing_asks_for_plain_ram(asks, merges):
    pipe = SeeSRPipeline(*small_stack(), **asks)
    pipe.set_progress_bar_config(disable=True)
    before = pixels(pipe(picture(16, 16), generator=generator(), **QUICK))[0].astype(int)
    pipe.merge_lora()
    after = pixels(pipe(picture(16, 16), generator=generator(), **QUICK))[0]
    assert np.abs(before - after).max() <= 1
    assert pipe.ram.is_merged == merges


def test_another_seed_gives_another_picture(pipeline):
    first, second = (pixels(pipeline(picture(16, 16), generator=generator(seed), **QUICK)) for seed in (0, 1))
    assert (first[0] != second[0]).any()


def test_the_official_recipe_hands_one_generator_from_picture_to_picture(pipeline):
    pictures = [picture(16, 16)] * 2
    official, default = (
        pixels(pipeline(pictures, generator=generator(), recipe=recipe, **QUICK)) for recipe in ("official", "default")
    )
    assert (official[0] != official[1]).any()
    np.testing.assert_array_equal(default[0], default[1])


@pytest.mark.parametrize(("recipe", "moves"), [("official", True), ("default", False)])
def test_only_the_official_recipe_draws_from_the_global_generator(pipeline, recipe, moves):
    before = torch.get_rng_state()
    pipeline(picture(16, 16), generator=generator(), recipe=recipe, **QUICK)
    assert moves != torch.equal(torch.get_rng_state(), before)


def test_the_callback_sees_each_step_and_may_change_the_latents(pipeline):
    seen = []

    def zero(pipe, index, timestep, values):
        seen.append((index, values["latents"].shape))
        return {"latents": torch.zeros_like(values["latents"])}

    settings = QUICK | {"num_inference_steps": 2, "color_fix": "none"}
    result = pixels(pipeline(picture(16, 16), callback_on_step_end=zero, **settings))[0].astype(int)
    assert [index for index, _ in seen] == [0, 1]
    expected = to_uint8(decode(pipeline.vae, torch.zeros(1, 4, 8, 8)))[0].numpy()
    assert np.abs(result - expected).max() <= 1


def test_with_any_scheduler_a_certain_network_gives_what_it_is_certain_of():
    parts = small_stack()
    latents = torch.randn(1, 4, 8, 8, generator=generator(1))
    parts.unet.register_forward_hook(lambda *_: (latents,))  # predicts them, whatever the noise
    own = official.scheduler(prediction_type="sample")
    expected = to_uint8(decode(parts.vae, latents))[0].numpy().astype(int)
    for scheduler in (own, EulerDiscreteScheduler.from_config(own.config)):
        pipe = SeeSRPipeline(*parts._replace(scheduler=scheduler))
        pipe.set_progress_bar_config(disable=True)
        settings = QUICK | {"num_inference_steps": 2, "color_fix": "none"}
        found = pixels(pipe(picture(16, 16), generator=generator(), **settings))[0]
        assert np.abs(found - expected).max() <= 1


def test_arrays_and_tensors_are_pictures_too(pipeline):
    image = picture(16, 16)
    array = np.asarray(image)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1) / 255
    results = [pixels(pipeline(form, generator=generator(), **QUICK))[0] for form in (image, array, tensor)]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": ["a", "b"]}, "prompt has 2 entries for 1 images"),
        ({"generator": [torch.Generator()] * 2}, "generator has 2 entries"),
        ({"scheduler": "rk4"}, "rk4"),
        ({"start_from": "zero"}, "start_from='zero'"),
    ],
)
def test_wrong_arguments_are_named(pipeline, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipeline(picture(16, 16), **QUICK | arguments)


@pytest.mark.parametrize("ablation", [{"representation": "none"}, {"representation": "ram"}, {"prompter": "none"}])
def test_a_saved_pipeline_keeps_its_ablation(tmp_path, ablation):
    stack = small_stack()
    pipe = SeeSRPipeline(*stack, **ablation, sampler=QUICK | {"tile": 40})
    pipe.save_pretrained(tmp_path)
    again = SeeSRPipeline.from_pretrained(tmp_path)
    rgb = [np.asarray(picture(24, 16))]
    whole = SeeSRPipeline(*stack).look(rgb)
    (representation, texts), (kept, kept_texts) = pipe.look(rgb), again.look(rgb)
    assert torch.equal(representation, kept)
    assert texts == kept_texts
    assert not torch.equal(representation, whole[0]) or texts != whole[1]
    assert again.sampling == pipe.sampling
    assert again.sampling.tile == 40


def test_plain_diffusers_says_which_class_loads_a_saved_pipeline(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    with pytest.raises(AttributeError, match=r"seesr_pl\.sampling\.SeeSRPipeline"):
        DiffusionPipeline.from_pretrained(tmp_path)


def test_settings_come_from_the_pipeline_the_value_and_the_changes_in_that_order():
    pipe = SeeSRPipeline(*small_stack(), sampler=QUICK | {"num_inference_steps": 3})
    pipe.set_progress_bar_config(disable=True)
    steps = []

    def count(pipe, index, timestep, values):
        steps.append(index)
        return values

    pipe(picture(16, 16), callback_on_step_end=count)
    pipe(picture(16, 16), callback_on_step_end=count, num_inference_steps=2)
    pipe(picture(16, 16), callback_on_step_end=count, sampling=OFFICIAL.changed(QUICK))
    assert steps == [0, 1, 2, 0, 1, 0]
    with pytest.raises(ValueError, match="did you mean guidance_scale"):
        pipe(picture(16, 16), guidance_scal=2)
