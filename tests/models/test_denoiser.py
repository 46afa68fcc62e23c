"""Images to latents and back: the posterior, and large images in tiles."""

import official
import pytest
import torch

SCALE = official.VAE["scaling_factor"]


@pytest.fixture(scope="module")
def vae():
    return official.vae().requires_grad_(False)


@pytest.fixture
def sizes(vae):
    """(height, width) in pixels of what the encoder and the decoder are given, whole or in tiles."""
    seen = {"encoder": [], "decoder": []}

    def keep(name, factor):
        def hook(module, arguments):
            seen[name].append(tuple(factor * side for side in arguments[0].shape[-2:]))

        return getattr(vae, name).register_forward_pre_hook(hook)

    handles = [keep("encoder", 1), keep("decoder", 8)]
    yield seen
    for handle in handles:
        handle.remove()


def test_latents_are_the_mean_of_the_posterior_or_its_sample_at_the_official_scale(vae):
    images = official.image("pipeline/untiled_lr/image", 1, 3, 64, 64)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    posterior = vae.encode(images * 2 - 1).latent_dist
    torch.testing.assert_close(official.encoded(vae, images), posterior.mean * SCALE)
    sample = (posterior.mean + posterior.std * noise) * SCALE
    torch.testing.assert_close(official.encoded(vae, images, posterior_noise=noise), sample)


def test_latents_of_a_vae_in_half_precision_are_scaled_in_full(vae):
    half = official.vae().to(torch.bfloat16)
    images = official.image("pipeline/untiled_lr/image", 1, 3, 64, 64)
    latents = official.encoded(half, images)
    posterior = half.encode((images * 2 - 1).bfloat16()).latent_dist
    assert latents.dtype == torch.float32
    assert torch.equal(latents, posterior.mean.float() * SCALE)


def test_images_are_left_as_they_are(vae):
    images = official.image("pipeline/untiled_lr/image", 1, 3, 64, 64)
    before = images.clone()
    official.encoded(vae, images)
    assert torch.equal(images, before)


def test_decoded_images_lie_between_zero_and_one(vae):
    image = official.decoded(vae, 100 * torch.ones(1, 4, 8, 8))
    assert (image.min(), image.max()) == (0, 1)


@pytest.mark.parametrize(("side", "whole"), [(1088, True), (1096, False)])
def test_large_images_are_encoded_in_tiles_from_the_official_limit_on(vae, sizes, side, whole):
    latents = official.encoded(vae, torch.rand(1, 3, 8, side))
    assert latents.shape == (1, 4, 1, side // 8)
    assert (sizes["encoder"] == [(8, side)]) == whole
    assert max(width for _, width in sizes["encoder"]) <= (side if whole else 1024)


@pytest.mark.parametrize(("side", "whole"), [(1968, True), (1976, False)])
def test_large_images_are_decoded_in_tiles_from_the_official_limit_on(vae, sizes, side, whole):
    image = official.decoded(vae, torch.randn(1, 4, 1, side // 8))
    assert image.shape == (1, 3, 8, side)
    assert (sizes["decoder"] == [(8, side)]) == whole


def test_a_tile_size_bounds_what_either_network_gets_at_once(vae, sizes):
    images = torch.rand(1, 3, 96, 160)
    latents = official.encoded(vae, images, tile=64)
    decoded = official.decoded(vae, latents, tile=64)
    assert decoded.shape == images.shape
    for name in ("encoder", "decoder"):
        assert len(sizes[name]) > 4
        assert max(max(size) for size in sizes[name]) == 64


def test_a_tile_that_holds_the_whole_image_changes_nothing_and_none_is_left_behind(vae):
    images = torch.rand(1, 3, 64, 96)
    whole = official.encoded(vae, images)
    official.encoded(vae, images, tile=64)
    official.decoded(vae, whole, tile=64)
    assert not vae.use_tiling
    assert torch.equal(official.encoded(vae, images, tile=96), whole)
    assert torch.equal(official.encoded(vae, images), whole)
