"""What training on 1 to 64 cards costs, computed from a card's figures: the table of docs/scaling.md.

    python benchmarks/scaling.py                                         # with the rates that are assumed here
    python benchmarks/scaling.py --images-per-second 55 --price 3        # with what benchmarks/gpu.py measured

A step is its arithmetic, and of the reduction of gradients what the last backward pass does not hide. Volumes follow
from the 750 million parameters that train: a ring sends 2 (n - 1) / n of the gradients from and to each card. A card is
taken to be as fast with small micro batches as with large ones, which is too kind to many cards.
"""

import argparse
from typing import NamedTuple

from seesr_pl.data.loader import largest_micro_batch

TRAINED = 749_881_040
CHECKPOINT_BYTES = 3 * 4 * TRAINED
GLOBAL_BATCH, STEPS = 192, 150_000
CARDS_IN_A_NODE = 8


class Card(NamedTuple):
    """The rates of a card: images a second alone, GB/s to its neighbors in the node and in another node, GB/s to disk.

    `backward` is the share of a step in which gradients can be sent while others are computed.
    """

    images_per_second: float
    node_gigabytes: float
    network_gigabytes: float
    disk_gigabytes: float
    backward: float = 0.55


class Row(NamedTuple):
    """What a number of cards takes; seconds of a step, days and price of the run, GB and seconds of a reduction."""

    cards: int
    micro_batches: str
    reduced_gigabytes: float
    exposed: float
    images_per_second: float
    efficiency: float
    days: float
    price: float


def row(cards: int, card: Card, *, bytes_each: int, price: float) -> Row:
    """Return what `cards` cards need for the paper's run; gradients have `bytes_each` bytes."""
    share = GLOBAL_BATCH // cards
    compute = share / card.images_per_second
    volume = 2 * (cards - 1) / cards * TRAINED * bytes_each / 1e9
    rate = card.node_gigabytes if cards <= CARDS_IN_A_NODE else card.network_gigabytes
    # Gradients are reduced after the last micro batch alone.
    micro = largest_micro_batch(GLOBAL_BATCH, 8, world_size=cards)
    hidden = card.backward * compute * micro / share
    exposed = max(0.0, volume / rate - hidden)
    step = compute + exposed
    days = STEPS * step / 86_400
    return Row(
        cards,
        f"{share // micro} x {micro}",
        volume,
        exposed,
        GLOBAL_BATCH / step,
        compute / step,
        days,
        cards * days * 24 * price,
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images-per-second", type=float, default=61.0, help="of a card; 35 %% of an H200's peak")
    parser.add_argument("--node", type=float, default=300.0, help="GB/s between cards of a node (NVLink 4)")
    parser.add_argument("--network", type=float, default=25.0, help="GB/s between nodes for each card (200 Gbit/s)")
    parser.add_argument("--disk", type=float, default=1.0, help="GB/s of a checkpoint's writing")
    parser.add_argument("--price", type=float, default=3.0, help="of an hour of a card")
    parser.add_argument("--compression", choices=["none", "bf16"], default="none")
    given = parser.parse_args()
    card = Card(given.images_per_second, given.node, given.network, given.disk)
    bytes_each = 2 if given.compression == "bf16" else 4
    print("| cards | micro batches | GB reduced | s not hidden | images/s | efficiency | days | price |")
    print(" ".join(["| ---"] * 8) + " |")
    rows = [row(cards, card, bytes_each=bytes_each, price=given.price) for cards in (1, 2, 4, 8, 16, 32, 64)]
    for one in rows:
        print(
            f"| {one.cards} | {one.micro_batches} | {one.reduced_gigabytes:.2f} | {one.exposed:.3f} | "
            f"{one.images_per_second:,.0f} | {one.efficiency:.0%} | {one.days:.1f} | {one.price:,.0f} |"
        )
    seconds = CHECKPOINT_BYTES / 1e9 / card.disk_gigabytes
    share = seconds * rows[3].images_per_second / (500 * GLOBAL_BATCH)
    print(f"\nA checkpoint is {CHECKPOINT_BYTES / 1e9:.1f} GB: {seconds:.0f} s at {card.disk_gigabytes:g} GB/s;")
    print(f"one in 500 steps is {share:.1%} of the time of {rows[3].cards} cards.")
    cores = CARDS_IN_A_NODE * card.images_per_second / 45
    print(f"A node of {CARDS_IN_A_NODE} needs {cores:.0f} cores for JPEG at 45 images/s a core.")
    print(f"Breaks first: {_breaks_first(rows)}.")


def _breaks_first(rows: list[Row]) -> str:
    bad = next((one for one in rows if one.efficiency < 0.9), None)
    if bad is None:
        return f"the batch: beyond {GLOBAL_BATCH} cards there is no image for each"
    return f"the network between nodes, at {bad.cards} cards ({bad.efficiency:.0%} efficiency)"


if __name__ == "__main__":
    main()
