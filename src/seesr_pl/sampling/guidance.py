"""The prediction of the two networks for a latent of any size: both halves of guidance, whole or in weighted tiles."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from diffusers.models.attention_processor import Attention
from jaxtyping import Float
from torch import Tensor, nn

from seesr_pl.imaging.tiling import gaussian_weights, tile_grid
from seesr_pl.models.denoiser import Condition, predict
from seesr_pl.models.seesr import SeeSRControlNet, SeeSRUNet


class Tiling(NamedTuple):
    """Square tiles in latent units; a latent of at most tile^2 points is taken whole (pipeline_seesr.py:1003)."""

    tile: int
    overlap: int
    batch_size: int


class Guidance:
    """Predicts latents (b, c, h, w) of one size; image crops, texts and representations follow the tiles.

    Args:
        unet: inputs are cast to its type.
        controlnet: of the same type.
        texts: embeddings, (negative, positive) or (positive,), each (b, 77, d).
        representation: of the LQ image, (b, m, 512).
        image: the enlarged LQ image (b, 3, H, W) in [0, 1], a whole number of times as large as the latent.
        conditioning_scale: weight of the ControlNet's residuals.
        tiling: of latents larger than a tile.
        in_one_batch: run both halves of guidance in one pass.
    """

    def __init__(
        self,
        unet: SeeSRUNet,
        controlnet: SeeSRControlNet,
        *,
        texts: Sequence[Float[Tensor, "b 77 d"]],
        representation: Float[Tensor, "b m 512"],
        image: Float[Tensor, "b 3 H W"],
        conditioning_scale: float,
        tiling: Tiling,
        in_one_batch: bool,
    ) -> None:
        self.unet, self.controlnet = unet, controlnet
        self.texts, self.representation, self.image = tuple(texts), representation, image
        self.conditioning_scale, self.tiling, self.in_one_batch = conditioning_scale, tiling, in_one_batch
        # Equal inputs stay one object from step to step, by which exact_caches recognizes them.
        self._contexts: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        self._images: dict[int, Tensor] = {}

    def __call__(
        self, latents: Float[Tensor, "b c h w"], timestep: Tensor, guidance_scale: float
    ) -> Float[Tensor, "b c h w"]:
        """Return the (guided) prediction in the type of `latents`; `guidance_scale` 1 leaves the negative text out."""
        if not self.is_tiled(latents):
            return self._guided(latents, None, timestep, guidance_scale).to(latents.dtype)
        tile = min(self.tiling.tile, *latents.shape[-2:])
        weights = gaussian_weights(tile).to(latents.device, torch.float32)
        total = torch.zeros(latents.shape, dtype=torch.float32, device=latents.device)
        weight = torch.zeros(latents.shape[-2:], dtype=torch.float32, device=latents.device)
        for corners in self._chunks(latents, tile):
            samples = torch.cat([_crop(latents, top, left, tile) for top, left in corners])
            images = torch.cat([self._image_crop(latents, top, left, tile) for top, left in corners])
            predictions = self._guided(samples, images, timestep, guidance_scale).chunk(len(corners))
            for (top, left), prediction in zip(corners, predictions, strict=True):
                _crop(total, top, left, tile).add_(prediction * weights)
                weight[top : top + tile, left : left + tile] += weights
        return (total / weight).to(latents.dtype)

    def is_tiled(self, latents: Tensor) -> bool:
        """Return whether latents of this size are predicted in tiles."""
        height, width = latents.shape[-2:]
        return height * width > self.tiling.tile**2

    def _guided(self, samples: Tensor, images: Tensor | None, timestep: Tensor, guidance_scale: float) -> Tensor:
        if guidance_scale == 1 or len(self.texts) == 1:
            return self._predict(samples, images, timestep, self.texts[-1:])
        if self.in_one_batch:
            negative, positive = self._predict(samples, images, timestep, self.texts).chunk(2)
        else:
            negative, positive = (self._predict(samples, images, timestep, (text,)) for text in self.texts)
        return guided(negative, positive, guidance_scale)

    def _predict(self, samples: Tensor, images: Tensor | None, timestep: Tensor, texts: Sequence[Tensor]) -> Tensor:
        dtype = self.unet.dtype
        text, representation = self._context(texts, samples.shape[0] // self.image.shape[0])
        image = self._whole_image(len(texts)) if images is None else images.to(dtype).repeat(len(texts), 1, 1, 1)
        condition = Condition(text, representation, image)
        sample = samples.to(dtype).repeat(len(texts), 1, 1, 1)
        scale = self.conditioning_scale
        return predict(self.unet, self.controlnet, sample, timestep, condition, conditioning_scale=scale).float()

    def _context(self, texts: Sequence[Tensor], num_tiles: int) -> tuple[Tensor, Tensor]:
        key = (num_tiles, *(id(text) for text in texts))
        if key not in self._contexts:
            text = torch.cat([text.repeat(num_tiles, 1, 1) for text in texts])
            representation = self.representation.repeat(num_tiles * len(texts), 1, 1)
            self._contexts[key] = text.to(self.unet.dtype), representation.to(self.unet.dtype)
        return self._contexts[key]

    def _whole_image(self, copies: int) -> Tensor:
        if copies not in self._images:
            self._images[copies] = self.image.to(self.unet.dtype).repeat(copies, 1, 1, 1)
        return self._images[copies]

    def _image_crop(self, latents: Tensor, top: int, left: int, tile: int) -> Tensor:
        factor = self.image.shape[-1] // latents.shape[-1]
        return _crop(self.image, top * factor, left * factor, tile * factor)

    def _chunks(self, latents: Tensor, tile: int) -> Iterator[list[tuple[int, int]]]:
        corners = tile_grid(*latents.shape[-2:], tile=tile, overlap=self.tiling.overlap)
        for start in range(0, len(corners), self.tiling.batch_size):
            yield corners[start : start + self.tiling.batch_size]


def guided(negative: Tensor, positive: Tensor, guidance_scale: float) -> Tensor:
    """Apply classifier-free guidance, Ho & Salimans (2022), in the common parametrization: 1 is no guidance."""
    return negative + guidance_scale * (positive - negative)


@contextmanager
def exact_caches(unet: SeeSRUNet, controlnet: SeeSRControlNet, *, hints: bool) -> Iterator[None]:
    """Cache, within the context, keys and values of text and representation, and with `hints` the encoded image too.

    Results stay equal. A compiled network is left as it is: each state of its caches would be compiled anew. Inputs are
    recognized by identity, so the caller passes the same tensors at each step. Leave `hints` off for tiles: the
    features of every tile of the image would be kept.
    """
    plain = [network for network in (unet, controlnet) if not _is_compiled(network)]
    places = [place for network in plain for place in _cross_attention_projections(network)]
    if hints and controlnet in plain:
        places.append((controlnet, "controlnet_cond_embedding"))
    originals = [getattr(owner, name) for owner, name in places]
    try:
        for (owner, name), module in zip(places, originals, strict=True):
            setattr(owner, name, _Remembering(module))
        yield
    finally:
        for (owner, name), module in zip(places, originals, strict=True):
            setattr(owner, name, module)


class _Remembering(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.known: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        for known, output in self.known:
            if known is x:
                return output
        self.known.append((x, self.module(x)))
        return self.known[-1][1]


def _is_compiled(network: nn.Module) -> bool:
    return any(module._compiled_call_impl is not None for module in network.modules())


def _cross_attention_projections(network: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    for name, module in network.named_modules():
        if isinstance(module, Attention) and name.endswith(".attn2"):
            yield module, "to_k"
            yield module, "to_v"


def _crop(images: Tensor, top: int, left: int, size: int) -> Tensor:
    return images[..., top : top + size, left : left + size]
