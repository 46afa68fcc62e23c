"""What the two networks predict for a latent of any size: both halves of guidance, whole or in weighted tiles."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from seesr_pl.imaging.tiling import gaussian_weights, tile_grid
from seesr_pl.models.seesr import SeeSRControlNet, SeeSRUNet


class Condition(NamedTuple):
    """What a prediction depends on besides the latent; b pictures of one size.

    `texts` is (negative, positive) or (positive,), each (b, 77, d); `image` is in [0, 1] and a whole number of times as
    large as the latent.
    """

    texts: tuple[Float[Tensor, "b 77 d"], ...]
    representation: Float[Tensor, "b m 512"]
    image: Float[Tensor, "b 3 H W"]
    conditioning_scale: float


class Tiling(NamedTuple):
    """Square tiles in latent units; a latent of at most tile^2 points is taken whole (pipeline_seesr.py:1003)."""

    tile: int
    overlap: int
    batch_size: int


class Predictor:
    """Calls ControlNet and UNet for latents (b, c, h, w); picture crops, texts and representations follow the tiles."""

    def __init__(
        self,
        unet: SeeSRUNet,
        controlnet: SeeSRControlNet,
        *,
        condition: Condition,
        tiling: Tiling,
        guidance_in_one_batch: bool,
    ) -> None:
        self.unet = unet
        self.controlnet = controlnet
        self.condition = condition
        self.tiling = tiling
        self.guidance_in_one_batch = guidance_in_one_batch
        # Equal inputs stay one object from step to step, which is how exact_caches knows them again.
        self._repeated: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        self._images: dict[int, Tensor] = {}

    def __call__(
        self, latents: Float[Tensor, "b c h w"], timestep: Tensor, guidance_scale: float
    ) -> Float[Tensor, "b c h w"]:
        """The (guided) prediction in the dtype of `latents`; `guidance_scale` 1 leaves the negative text out."""
        if not self.is_tiled(latents):
            return self._predict(latents, None, timestep, guidance_scale).to(latents.dtype)
        tile = min(self.tiling.tile, *latents.shape[-2:])
        weights = gaussian_weights(tile).to(latents.device, torch.float32)
        total = torch.zeros(latents.shape, dtype=torch.float32, device=latents.device)
        weight = torch.zeros(latents.shape[-2:], dtype=torch.float32, device=latents.device)
        for corners in self._chunks(latents, tile):
            samples = torch.cat([_crop(latents, top, left, tile) for top, left in corners])
            images = torch.cat([self._image_crop(latents, top, left, tile) for top, left in corners])
            predictions = self._predict(samples, images, timestep, guidance_scale).chunk(len(corners))
            for (top, left), prediction in zip(corners, predictions, strict=True):
                _crop(total, top, left, tile).add_(prediction * weights)
                weight[top : top + tile, left : left + tile] += weights
        return (total / weight).to(latents.dtype)

    def is_tiled(self, latents: Tensor) -> bool:
        """Whether latents of this size are predicted in tiles."""
        height, width = latents.shape[-2:]
        return height * width > self.tiling.tile**2

    def _predict(self, samples: Tensor, images: Tensor | None, timestep: Tensor, guidance_scale: float) -> Tensor:
        if guidance_scale == 1 or len(self.condition.texts) == 1:
            return self._forward(samples, images, timestep, self.condition.texts[-1:])
        if self.guidance_in_one_batch:
            negative, positive = self._forward(samples, images, timestep, self.condition.texts).chunk(2)
        else:
            negative, positive = (self._forward(samples, images, timestep, (text,)) for text in self.condition.texts)
        return guided(negative, positive, guidance_scale)

    def _forward(self, samples: Tensor, images: Tensor | None, timestep: Tensor, texts: Sequence[Tensor]) -> Tensor:
        text, representation = self._repeat(texts, samples.shape[0] // self.condition.image.shape[0])
        sample = samples.to(self.unet.dtype).repeat(len(texts), 1, 1, 1)
        image = self._whole_image(len(texts)) if images is None else images.repeat(len(texts), 1, 1, 1)
        down, mid = self.controlnet(
            sample,
            timestep,
            encoder_hidden_states=text,
            controlnet_cond=image.to(self.unet.dtype),
            conditioning_scale=self.condition.conditioning_scale,
            return_dict=False,
            image_encoder_hidden_states=representation,
        )
        return self.unet(
            sample,
            timestep,
            encoder_hidden_states=text,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
            return_dict=False,
            image_encoder_hidden_states=representation,
        )[0].float()

    def _repeat(self, texts: Sequence[Tensor], num_tiles: int) -> tuple[Tensor, Tensor]:
        key = (num_tiles, *(id(text) for text in texts))
        if key not in self._repeated:
            text = torch.cat([text.repeat(num_tiles, 1, 1) for text in texts])
            representation = self.condition.representation.repeat(num_tiles * len(texts), 1, 1)
            self._repeated[key] = text.to(self.unet.dtype), representation.to(self.unet.dtype)
        return self._repeated[key]

    def _whole_image(self, copies: int) -> Tensor:
        if copies not in self._images:
            self._images[copies] = self.condition.image.to(self.unet.dtype).repeat(copies, 1, 1, 1)
        return self._images[copies]

    def _image_crop(self, latents: Tensor, top: int, left: int, tile: int) -> Tensor:
        factor = self.condition.image.shape[-1] // latents.shape[-1]
        return _crop(self.condition.image, top * factor, left * factor, tile * factor)

    def _chunks(self, latents: Tensor, tile: int) -> Iterator[list[tuple[int, int]]]:
        corners = tile_grid(*latents.shape[-2:], tile=tile, overlap=self.tiling.overlap)
        for start in range(0, len(corners), self.tiling.batch_size):
            yield corners[start : start + self.tiling.batch_size]


def guided(negative: Tensor, positive: Tensor, guidance_scale: float) -> Tensor:
    """Classifier-free guidance, Ho & Salimans (2022), in the common parametrisation: 1 is no guidance."""
    return negative + guidance_scale * (positive - negative)


def _crop(images: Tensor, top: int, left: int, size: int) -> Tensor:
    return images[..., top : top + size, left : left + size]
