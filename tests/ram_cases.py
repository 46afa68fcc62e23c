"""The sizes of the tiny RAMs that several floors test with."""

from seesr_pl.models.ram import RAMConfig

TINY = RAMConfig(
    image_size=32,
    patch_size=4,
    embed_dim=8,
    depths=(1, 2, 1),
    num_heads=(1, 2, 4),
    window_size=2,
    representation_dim=16,
    head_hidden_size=12,
    head_intermediate_size=20,
)
TINIEST = RAMConfig(
    image_size=16,
    patch_size=4,
    embed_dim=8,
    depths=(1, 2),
    num_heads=(1, 2),
    window_size=2,
    representation_dim=16,
    head_hidden_size=12,
    head_intermediate_size=20,
)
