"""The official recipe obeys the seed; what diffusers' users pass and save is honoured, or refused by its name."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import load_file, save_file
from stacks import small_stack
from transformers import CLIPTextModel

from seesr_pl.models import denoiser
from seesr_pl.models.seesr import SeeSRControlNet, SeeSRUNet
from seesr_pl.models.weights import from_folder
from seesr_pl.sampling.pipeline import SeeSRPipeline
from seesr_pl.sampling.restoring import restore

QUICK = {"num_inference_steps": 1, "guidance_scale": 1.0, "process_size": 16}


@pytest.fixture(scope="module")
def pipeline():
    pipeline = SeeSRPipeline(*small_stack())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_the_official_recipe_obeys_the_seed_and_leaves_the_global_generator(pipeline):
    rgb = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    sampling = pipeline.sampling.changed({**QUICK, "recipe": "official"})
    state = torch.get_rng_state()
    first = restore(pipeline, rgb, seed=3, key=0, sampling=sampling).rgb
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    np.testing.assert_array_equal(restore(pipeline, rgb, seed=3, key=0, sampling=sampling).rgb, first)
    assert (restore(pipeline, rgb, seed=4, key=0, sampling=sampling).rgb != first).any()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("negative_prompt", ["blur", "noise"]),
        ("output_type", "np"),
        ("return_dict", False),
        ("num_images_per_prompt", 2),
        ("latents", None),
        ("prompt_embeds", None),
        ("negative_prompt_embeds", None),
        ("callback_on_step_end_tensor_inputs", ["latents"]),
    ],
)
def test_what_the_pipeline_does_not_know_is_refused_by_name(pipeline, name, value):
    with pytest.raises(ValueError, match=name):
        pipeline(np.zeros((16, 16, 3), np.uint8), **QUICK, **{name: value})


def test_a_batch_and_a_list_of_batches_are_restored_as_the_images_in_them(pipeline):
    arrays = np.random.default_rng(1).integers(0, 256, (2, 16, 12, 3), dtype=np.uint8)
    tensors = torch.from_numpy(arrays).permute(0, 3, 1, 2) / 255
    settings = QUICK | {"generator": torch.Generator().manual_seed(0)}
    expected = [np.asarray(image) for image in pipeline(list(arrays), **settings).images]
    for batch in (arrays, tensors, [tensors[:1], arrays[1]]):
        settings["generator"].manual_seed(0)
        found = [np.asarray(image) for image in pipeline(batch, **settings).images]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ([], "holds no image"),
        ("photo.png", "not as str"),
        (torch.full((3, 8, 8), 255, dtype=torch.uint8), "values from 255 to 255"),
        (torch.full((3, 8, 8), float("nan")), "values from nan"),
        (-torch.ones(2, 3, 8, 8), "values from -1 to -1"),
        (torch.zeros(8, 8, 3), r"shape \(8, 8, 3\) is no tensor \(3, h, w\)"),
    ],
)
def test_what_is_no_image_is_refused_with_what_it_is(pipeline, image, message):
    with pytest.raises(ValueError, match=message):
        pipeline(image, **QUICK)


def test_what_is_no_text_is_refused(pipeline):
    with pytest.raises(ValueError, match=r"prompt=\[5\] must hold texts alone"):
        pipeline(np.zeros((16, 16, 3), np.uint8), prompt=[5], **QUICK)


def test_sixteen_bits_are_scaled_not_cut_off(pipeline):
    deep = Image.fromarray(np.full((16, 16), 0x8080, np.uint16))
    levels = np.full((16, 16, 3), 0x80, np.uint8)
    found, expected = (
        pipeline(image, generator=torch.Generator().manual_seed(0), **QUICK).images for image in (deep, levels)
    )
    np.testing.assert_array_equal(found, expected)


def test_interrupt_ends_the_steps_of_this_call_alone(pipeline):
    seen = []

    def stop(pipe, index, timestep, values):
        seen.append(index)
        pipe._interrupt = len(seen) == 2
        return values

    settings = QUICK | {"num_inference_steps": 4, "callback_on_step_end": stop}
    pipeline(np.zeros((16, 16, 3), np.uint8), **settings)
    assert (seen, pipeline.interrupt) == ([0, 1], True)
    pipeline(np.zeros((16, 16, 3), np.uint8), **settings)
    assert seen == [0, 1, 0, 1, 2, 3]


@pytest.mark.parametrize("mine", [False, True])
def test_the_tiles_and_slices_of_the_users_vae_stay_as_they_are(pipeline, mine, monkeypatch):
    vae, tiles = pipeline.vae, []
    for name in ("use_tiling", "use_slicing"):
        monkeypatch.setattr(vae, name, mine)
    for name, value in (("tile_latent_min_size", 8), ("tile_sample_min_size", 64)):
        monkeypatch.setattr(vae, name, value)
    state = vars(vae).copy()
    original = vae.decoder.forward
    monkeypatch.setattr(vae.decoder, "forward", lambda z: tiles.append(z.shape[-1]) or original(z))
    pipeline(np.zeros((24, 24, 3), np.uint8), **QUICK, vae_tile=72)
    assert max(tiles) == 9  # of 12 points a side
    tiles.clear()
    monkeypatch.setattr(denoiser, "DECODER_LIMIT", 48)  # as if the image were one that is decoded in tiles
    pipeline(np.zeros((24, 24, 3), np.uint8), **QUICK)
    assert max(tiles) == (8 if mine else 12)
    assert {name: vars(vae)[name] for name in state} == state


PARTS = {"vae": AutoencoderKL, "text_encoder": CLIPTextModel, "unet": SeeSRUNet, "controlnet": SeeSRControlNet}


def relaid(folder: Path, form: str) -> None:
    """Store the weights of a saved pipeline's parts as .bin, as fp16 variant, or as both at once."""
    for part in PARTS:
        path = next((folder / part).glob("*.safetensors"))
        state = load_file(path)
        if "fp16" in form:
            half = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
            save_file(half, path.with_name(f"{path.stem}.fp16.safetensors"), metadata={"format": "pt"})
        if "bin" in form:
            torch.save(state, path.with_name("pytorch_model.bin" if part == "text_encoder" else f"{path.stem}.bin"))
        path.unlink()


@pytest.mark.parametrize("form", ["bin", "fp16", "bin and fp16"])
def test_folders_of_bin_files_and_of_fp16_variants_load_in_silence(pipeline, form, tmp_path):
    pipeline.save_pretrained(tmp_path)
    relaid(tmp_path, form)
    said = logging.Handler()
    said.emit = lambda record: lines.append(record.getMessage())
    lines = []
    logging.getLogger("diffusers").addHandler(said)
    again = SeeSRPipeline.from_pretrained(tmp_path)
    alone = {name: from_folder(network, tmp_path / name) for name, network in PARTS.items()}
    logging.getLogger("diffusers").removeHandler(said)
    assert lines == []
    for name in PARTS:
        for loaded in (alone[name], getattr(again, name)):
            assert loaded.dtype == torch.float32
            for mine, theirs in zip(getattr(pipeline, name).parameters(), loaded.parameters(), strict=True):
                torch.testing.assert_close(theirs, mine.half().float() if form == "fp16" else mine, rtol=0, atol=0)
