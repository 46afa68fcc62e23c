"""Methods: sizes, identities, and that a result depends on the image and its name alone."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from stacks import small_stack

from seesr_pl import keyed
from seesr_pl.evaluation import Bicubic, GaussianBlur, Images, NonLocalMeans, Pair, SeeSRMethod, restore
from seesr_pl.imaging.io import read_rgb, write_image
from seesr_pl.sampling import OFFICIAL
from seesr_pl.sampling.pipeline import SeeSRPipeline


@pytest.mark.parametrize("method", [Bicubic(), GaussianBlur(), NonLocalMeans()])
def test_a_method_enlarges_four_times_and_keeps_a_constant(method):
    flat = np.full((12, 20, 3), (200, 30, 90), np.uint8)
    enlarged = method(flat, name="flat")
    assert enlarged.shape == (48, 80, 3)
    # Non-local means goes through the Lab color space, whose 8-bit values are coarser.
    np.testing.assert_allclose(enlarged.astype(int), np.broadcast_to((200, 30, 90), (48, 80, 3)), atol=1)


def test_bicubic_is_the_interpolation_of_torch(make_image):
    lq = make_image(0, 24)
    pixels = torch.from_numpy(lq).permute(2, 0, 1)[None].float()
    theirs = torch.nn.functional.interpolate(pixels, scale_factor=4, mode="bicubic").round().clamp(0, 255)
    difference = Bicubic()(lq, name="").astype(int) - theirs[0].permute(1, 2, 0).numpy()
    assert np.abs(difference).max() <= 1


def test_denoising_methods_bring_a_noisy_image_nearer_to_the_clean_one(make_image):
    clean = cv2.GaussianBlur(make_image(0, 48), (0, 0), 4)
    noise = np.random.default_rng(0).normal(0, 12, clean.shape)
    noisy = np.clip(clean + noise, 0, 255).astype(np.uint8)

    def error(method):
        return np.mean((method(noisy, name="").astype(float) - Bicubic()(clean, name="")) ** 2)

    assert error(GaussianBlur()) < error(Bicubic())
    assert error(NonLocalMeans(strength=12)) < error(Bicubic())


def test_images_are_found_by_name_whatever_their_ending(tmp_path, make_image):
    image = make_image(0)
    write_image(tmp_path / "a.png", image)
    np.testing.assert_array_equal(Images(str(tmp_path))(np.zeros((16, 16, 3), np.uint8), name="a"), image)


def test_images_that_are_missing_are_listed(tmp_path, make_image):
    write_image(tmp_path / "a.png", make_image(0))
    with pytest.raises(ValueError, match=r"method.dir=.*: 2 of 3 missing: b, c"):
        Images(str(tmp_path)).require({name: tmp_path / f"{name}.png" for name in "abc"})


def test_a_folder_that_does_not_exist_is_a_missing_file(tmp_path):
    assert Images.missing_files(str(tmp_path)) == []
    assert [file.fix for file in Images.missing_files(str(tmp_path / "nowhere"))] == ["method.dir=FOLDER"]
    with pytest.raises(ValueError, match=r"method.dir: folder .*nowhere does not exist"):
        Images(str(tmp_path / "nowhere"))


QUICK = {"num_inference_steps": 2, "guidance_scale": 1.0, "process_size": 64}


@pytest.fixture(scope="module")
def pipeline():
    pipeline = SeeSRPipeline(*small_stack())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_the_noise_of_seesr_depends_on_seed_and_name_and_not_on_the_order(pipeline, make_image):
    lq = make_image(0, 16)
    first, second, other = (SeeSRMethod(pipeline, seed=seed, sampler=QUICK) for seed in (1, 1, 2))
    first(lq, name="other")
    np.testing.assert_array_equal(first(lq, name="a"), second(lq, name="a"))
    assert (first(lq, name="a") != first(lq, name="b")).any()
    assert (first(lq, name="a") != other(lq, name="a")).any()


def test_images_of_a_benchmark_are_restored_together_as_alone(pipeline, make_image, tmp_path):
    for name, side in (("a", 16), ("b", 12), ("c", 16)):
        write_image(tmp_path / "lq" / f"{name}.png", make_image(ord(name), side))
    (tmp_path / "lq" / "broken.png").write_bytes(b"no image")
    pairs = [Pair(name, name, tmp_path / "lq" / f"{name}.png", None) for name in ("a", "b", "broken", "c")]
    calls, found = [], {}
    handle = pipeline.unet.register_forward_pre_hook(lambda unet, arguments: calls.append(len(arguments[0])))
    for size in (1, 2):
        method = SeeSRMethod(pipeline, seed=1, sampler=QUICK | {"batch_size": size})
        results = restore(lambda device, method=method: method, pairs, tmp_path / str(size), settings={})
        found[size] = {item.pair.name: read_rgb(item.path).astype(int) for item in results if not item.failure}
    handle.remove()
    assert sorted(calls) == [1] * 8 + [2] * 2
    assert list(found[1]) == list(found[2]) == ["a", "b", "c"]
    assert all(np.abs(found[1][name] - found[2][name]).max() <= 1 for name in found[1])


def test_a_changed_tag_changes_the_prompt_and_nothing_else(pipeline, make_image):
    lq = make_image(0, 16)
    tags = pipeline.look([lq])[1][0].split(", ")
    surest = pipeline.ranked_tags(lq)[0]
    assert set(pipeline.ranked_tags(lq)) == set(tags)
    changes = {"surest": f"without {surest!r}", f"{surest}:zebra": f"'zebra' for {surest!r}"}
    for change, note in changes.items():
        method = SeeSRMethod(pipeline, seed=1, sampler=QUICK, tag_change=change)
        found = method(lq, name="a")
        text = ", ".join("zebra" if tag == surest else tag for tag in tags if tag != surest or "zebra" in change)
        generator = keyed.torch_generator(1, "restore", "a")
        expected = pipeline(Image.fromarray(lq), generator=generator, tags=text, **QUICK).images[0]
        np.testing.assert_array_equal(found, np.asarray(expected))
        assert method.notes == {"a": note}
        np.testing.assert_array_equal(method.restore_all([lq], names=["a"])[0], found)
    with pytest.raises(ValueError, match="no tag to change: 'zebra' is not among"):
        SeeSRMethod(pipeline, sampler=QUICK, tag_change="zebra")(lq, name="a")
    with pytest.raises(ValueError, match="without tags, prompter=none"):
        SeeSRMethod(SeeSRPipeline(*small_stack(), prompter="none"), tag_change="zebra")


def test_what_seesr_is_not_told_is_the_pipelines_own_setting(pipeline):
    assert SeeSRMethod(pipeline).sampling == OFFICIAL
    own = OFFICIAL.changed({"num_inference_steps": 7, "tile": 40})
    assert SeeSRMethod(SimpleNamespace(sampling=own), sampler={"tile": 50}).sampling == own.changed({"tile": 50})


def test_every_setting_of_seesr_reaches_the_pipeline(pipeline, make_image):
    lq = make_image(0, 16)[:12]
    settings = {
        "prompt": "old stone wall",
        "added_prompt": "clean",
        "negative_prompt": "blur",
        "num_inference_steps": 3,
        "guidance_scale": 4.0,
        "guidance_fraction": 0.5,
        "conditioning_scale": 0.5,
        "start_from": "noise",
        "color_fix": "wavelet",
        "process_size": 72,
        "tile": 8,
        "overlap": 2,
        "vae_tile": 64,
        "recipe": "official",
        "scheduler": "ddim",
    }
    torch.manual_seed(0)
    found = SeeSRMethod(pipeline, seed=3, scale=2, prompter="none", sampler=settings)(lq, name="a")
    pipeline.describe_by("own")
    torch.manual_seed(0)
    generator = keyed.torch_generator(3, "restore", "a")
    expected = pipeline(Image.fromarray(lq), generator=generator, upscale=2, tags=[""], **settings).images[0]
    np.testing.assert_array_equal(found, np.asarray(expected))


@pytest.mark.slow
def test_seesr_restores_with_the_real_pipeline_and_repeats_itself(make_image):
    method = SeeSRMethod(SeeSRPipeline(*small_stack()), sampler={"num_inference_steps": 1, "guidance_scale": 1.0})
    first = method(make_image(0, 20), name="a")
    assert first.shape == (80, 80, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, method(make_image(0, 20), name="a"))


@pytest.mark.slow
def test_the_prompter_of_seesr_says_the_text_instead_of_the_pipeline(make_image):
    pipeline, lq = SeeSRPipeline(*small_stack(dape=False)), make_image(0, 20)
    settings = {"num_inference_steps": 1, "process_size": 8}
    tags = pipeline(Image.fromarray(lq), **settings).tags
    own, none, ram = (
        SeeSRMethod(pipeline, prompter=style, sampler=settings)(lq, name="a") for style in ("own", "none", "ram")
    )
    assert tags != [""]
    assert (own != none).any()
    np.testing.assert_array_equal(own, ram)  # this stack has no DAPE
