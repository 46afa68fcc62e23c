"""What the networks compute anew at each step although it never changes, computed once; results stay equal."""

from collections.abc import Iterator
from contextlib import contextmanager

from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from seesr_pl.models.seesr import SeeSRControlNet, SeeSRUNet


@contextmanager
def exact_caches(unet: SeeSRUNet, controlnet: SeeSRControlNet, *, hints: bool) -> Iterator[None]:
    """Within: keys and values of text and representation are remembered, and with `hints` the encoded picture too.

    Inputs are known again as objects, so the caller passes the same tensors at each step. Leave `hints` off for tiles:
    a picture's worth of features would be kept.
    """
    places = [place for network in (unet, controlnet) for place in _cross_attention_projections(network)]
    if hints:
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


def _cross_attention_projections(network: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    for name, module in network.named_modules():
        if isinstance(module, Attention) and name.endswith(".attn2"):
            yield module, "to_k"
            yield module, "to_v"
