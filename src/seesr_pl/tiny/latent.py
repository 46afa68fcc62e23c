"""A fixed latent behind diffusers' AutoencoderKL interface: 16 coefficients of a 4x4 block DCT of YCbCr."""

import math

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

BLOCK = 4
SCALING_FACTOR = 1.5
_TRIANGLE = tuple((row, order - row) for order in range(BLOCK) for row in range(order + 1))
# (color plane, row frequency, column frequency): the ten lowest of luma, the three lowest of each chroma.
COEFFICIENTS = (
    *((0, *frequency) for frequency in _TRIANGLE),
    *((plane, *frequency) for plane in (1, 2) for frequency in _TRIANGLE[:3]),
)
# JPEG's color space (ITU-T T.871), written for values in [-1, 1], where it has no offsets.
RGB_TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


class DCTAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers has no types
    """Encode RGB (b, 3, h, w) in [-1, 1] to (b, 16, h/4, w/4) and back; nothing in it is learned.

    It keeps 16 of a block's 48 coefficients, and has the part of `AutoencoderKL`'s interface that this project uses.
    The posterior has no variance, so its sample is its mode. `scaling_factor` gives latents about unit variance.
    """

    @register_to_config  # type: ignore[untyped-decorator]  # diffusers has no types for it
    def __init__(
        self,
        scaling_factor: float = SCALING_FACTOR,
        latent_channels: int = len(COEFFICIENTS),
        block_out_channels: tuple[int, ...] = (1, 1, 1),
    ) -> None:
        """`block_out_channels` holds no width: its length tells diffusers' pipelines the factor 2 ** (3 - 1) = 4."""
        super().__init__()
        self.register_buffer("analysis", analysis_kernels())
        self.register_buffer("synthesis", synthesis_kernels())

    def encode(self, x: Tensor) -> AutoencoderKLOutput:
        """Return the posterior of `x`; raises ValueError if a side is not a multiple of 4."""
        if x.shape[-1] % BLOCK or x.shape[-2] % BLOCK:
            raise ValueError(f"image of {x.shape[-2]}x{x.shape[-1]} pixels: both sides must be multiples of {BLOCK}")
        mean = F.conv2d(x, self.analysis.to(x.dtype), stride=BLOCK)
        moments = torch.cat([mean, torch.zeros_like(mean)], dim=1)
        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(moments, deterministic=True))

    def decode(self, z: Tensor) -> DecoderOutput:
        """Return the image of the coefficients `z`; coefficients that were not kept are zero."""
        return DecoderOutput(sample=F.conv_transpose2d(z, self.synthesis.to(z.dtype), stride=BLOCK))

    def enable_tiling(self) -> None:
        """Do nothing: blocks do not overlap, so memory is linear in the size of the image already."""

    def disable_tiling(self) -> None:
        """Do nothing, as in `enable_tiling`."""


def analysis_kernels() -> Tensor:
    """Return convolution weights (16, 3, 4, 4) that take RGB blocks to coefficients."""
    color = torch.tensor(RGB_TO_YCBCR, dtype=torch.float64)
    return torch.stack([_kernel(color[plane], row, column) for plane, row, column in COEFFICIENTS]).float()


def synthesis_kernels() -> Tensor:
    """Return transposed-convolution weights (16, 3, 4, 4) that take coefficients to RGB blocks."""
    color = torch.linalg.inv(torch.tensor(RGB_TO_YCBCR, dtype=torch.float64))
    return torch.stack([_kernel(color[:, plane], row, column) for plane, row, column in COEFFICIENTS]).float()


def _kernel(color: Tensor, row: int, column: int) -> Tensor:
    return torch.einsum("c,y,x->cyx", color, _cosine(row), _cosine(column))


def _cosine(frequency: int) -> Tensor:
    """Return one orthonormal DCT-II basis vector of length 4."""
    positions = torch.arange(BLOCK, dtype=torch.float64) + 0.5
    norm = math.sqrt((1 if frequency == 0 else 2) / BLOCK)
    return norm * torch.cos(math.pi * frequency * positions / BLOCK)
