"""The tiny stack: its latent, its tokenizer, its LQ skip, and what the package ships for it."""

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer

from seesr_pl.models import ram_official
from seesr_pl.sampling.pipeline import SeeSRPipeline
from seesr_pl.tiny.latent import DCTAutoencoder
from seesr_pl.tiny.networks import lq_latent, signal
from seesr_pl.tiny.photographs import photographs
from seesr_pl.tiny.stack import TAGS, tiny_ram, tiny_stack
from seesr_pl.tiny.tags import APPEARANCE_TAGS
from seesr_pl.tiny.text import PROMPT_WORDS, byte_pair_merges, word_tokenizer

LOOP = {"guidance_scale": 1.0, "color_fix": "none", "num_inference_steps": 1, "process_size": 32}


@pytest.fixture(scope="module")
def stack():
    return tiny_stack(weights="skip")


def picture(height=16, width=20, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_every_latent_is_the_latent_of_its_picture():
    vae, latent = DCTAutoencoder().double(), torch.randn(2, 16, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(vae.encode(vae.decode(latent).sample).latent_dist.mode(), latent, atol=1e-6, rtol=0)


def test_the_latent_keeps_a_plain_picture_and_a_gray_ramp():
    flat = torch.tensor([0.3, -0.7, 0.9]).reshape(1, 3, 1, 1).expand(1, 3, 8, 8)
    vae = DCTAutoencoder()
    torch.testing.assert_close(vae.decode(vae.encode(flat).latent_dist.mode()).sample, flat, atol=1e-5, rtol=0)


def test_the_posterior_has_no_width():
    posterior = DCTAutoencoder().encode(torch.rand(1, 3, 8, 8)).latent_dist
    assert torch.equal(posterior.sample(), posterior.mode())
    assert not posterior.std.any()


def test_the_autoencoder_survives_saving(tmp_path):
    image = torch.rand(1, 3, 8, 8)
    DCTAutoencoder().save_pretrained(tmp_path)
    loaded = DCTAutoencoder.from_pretrained(tmp_path)
    assert torch.equal(loaded.encode(image).latent_dist.mode(), DCTAutoencoder().encode(image).latent_dist.mode())


def test_a_side_that_is_no_multiple_of_4_is_refused():
    with pytest.raises(ValueError, match="multiples of 4"):
        DCTAutoencoder().encode(torch.rand(1, 3, 8, 10))


def test_each_tag_is_one_token(stack):
    assert all(len(stack.tokenizer.tokenize(word)) == 1 for word in (*TAGS, *PROMPT_WORDS))


def test_an_unknown_word_is_spelled_and_read_back(stack):
    assert stack.tokenizer.decode(stack.tokenizer("zebra 7").input_ids, skip_special_tokens=True) == "zebra 7"


def test_words_that_share_letters_become_single_tokens():
    words = ["ab", "abc", "bcab", "caba", "aab", "b"]
    tokenizer = word_tokenizer(words)
    assert [tokenizer.tokenize(word) for word in words] == [[f"{word}</w>"] for word in words]
    assert len(byte_pair_merges(words)) == len(set(byte_pair_merges(words)))


def test_the_tokenizer_survives_saving(stack, tmp_path):
    stack.tokenizer.save_pretrained(tmp_path)
    loaded = CLIPTokenizer.from_pretrained(tmp_path)
    assert loaded("sky, water").input_ids == stack.tokenizer("sky, water").input_ids
    assert loaded.model_max_length == stack.tokenizer.model_max_length


def test_the_tag_list_is_what_photographs_are_tagged_with():
    regions = {tag for photo in photographs(("train", "choice", "held-out")) for tag in photo.regions}
    assert regions | set(APPEARANCE_TAGS) == set(TAGS)


def test_a_zero_last_layer_passes_the_lq_latent_at_the_conditioning_scale(stack):
    image, latents, text = torch.rand(2, 3, 32, 32), torch.randn(2, 16, 8, 8), torch.randn(2, 32, 32)
    inputs = {"image_encoder_hidden_states": torch.randn(2, 37, 512), "return_dict": False}
    down, middle = stack.controlnet(latents, 999, text, image, 0.5, **inputs)
    residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
    (output,) = stack.unet(latents, 999, text, **residuals, **inputs)
    torch.testing.assert_close(output, 0.5 * lq_latent(image))


def test_the_share_of_signal_is_the_schedulers(stack):
    timesteps = torch.tensor([0, 1, 250, 999])
    expected = stack.scheduler.alphas_cumprod[timesteps].reshape(-1, 1, 1, 1)
    torch.testing.assert_close(signal(timesteps, like=torch.zeros(4)), expected)


def test_at_the_first_sampling_step_the_noise_is_not_seen():
    trained = tiny_stack()
    image, text = torch.rand(1, 3, 32, 32), torch.randn(1, 32, 32)
    outputs = []
    for latents in torch.randn(2, 1, 16, 8, 8):
        down, middle = trained.controlnet(latents, 999, text, image, return_dict=False)
        residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        outputs.append(trained.unet(latents, 999, text, **residuals, return_dict=False)[0])
    torch.testing.assert_close(*outputs)


def test_the_skip_carries_the_latent_that_the_autoencoder_makes(stack):
    image = torch.rand(1, 3, 16, 16)
    encoded = stack.vae.encode(2 * image - 1).latent_dist.mode() * stack.vae.config.scaling_factor
    torch.testing.assert_close(lq_latent(image), encoded)


def test_without_a_controlnet_the_unet_is_a_plain_one(stack):
    latents, text = torch.randn(1, 16, 8, 8), torch.randn(1, 32, 32)
    output = stack.unet(latents, 0, text, image_encoder_hidden_states=torch.randn(1, 37, 512)).sample
    assert not output.any()


@pytest.mark.parametrize("settings", [{}, {"tile": 8, "overlap": 2}, {"guidance_scale": 3.0}, {"batch_size": 2}])
def test_the_untrained_stack_gives_the_enlarged_picture_however_it_samples(stack, settings):
    pipeline = SeeSRPipeline(*stack)
    pipeline.set_progress_bar_config(disable=True)
    pictures = [picture(seed=0), picture(seed=1)]
    restored = pipeline(pictures, **{**LOOP, **settings}).images
    plain = SeeSRPipeline(*stack)
    plain.set_progress_bar_config(disable=True)
    expected = plain(pictures, **LOOP).images
    for one, other in zip(restored, expected, strict=True):
        assert np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max() <= 1


def test_equal_seeds_make_equal_stacks_and_leave_the_global_generator_alone():
    state = torch.get_rng_state()
    first, second, other = (tiny_stack(seed=seed).unet.state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["conv_in.weight"], other["conv_in.weight"])


def test_a_new_lora_changes_nothing():
    pixels = torch.randn(1, 3, 96, 96)
    plain, adapted = tiny_ram(), tiny_stack(lora_rank=4).ram
    torch.testing.assert_close(adapted.representation(pixels), plain.representation(pixels))


def test_a_dape_file_is_loaded(tmp_path):
    from safetensors.torch import save_file

    trained = tiny_ram()
    trained.add_lora(2)
    for name, parameter in trained.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    save_file(ram_official.dape_state_dict(trained), tmp_path / "dape.safetensors")
    loaded, pixels = tiny_stack(dape=tmp_path / "dape.safetensors").ram, torch.randn(1, 3, 96, 96)
    torch.testing.assert_close(loaded.representation(pixels), trained.representation(pixels))


def test_a_dape_file_and_a_rank_contradict_each_other():
    with pytest.raises(ValueError, match="lora_rank=4"):
        tiny_stack(dape="some.safetensors", lora_rank=4)


def test_the_representation_moves_the_result_once_rca_is_trained(stack):
    unet = tiny_stack().unet
    latents, text = torch.randn(1, 16, 8, 8), torch.randn(1, 32, 32)
    outputs = [unet(latents, 9, text, image_encoder_hidden_states=torch.randn(1, 37, 512)).sample for _ in range(2)]
    assert not torch.allclose(*outputs)


def test_pictures_of_any_size_come_back_four_times_as_large(stack):
    pipeline = SeeSRPipeline(*stack)
    pipeline.set_progress_bar_config(disable=True)
    rgb = picture(17, 21)
    assert pipeline(rgb, **LOOP).images[0].size == (84, 68)
