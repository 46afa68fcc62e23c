"""Write the weights of the tiny stack that the package ships, from runs of tiny_ram and tiny_prior.

python scripts/ship_tiny.py --ram outputs/tiny_ram --prior outputs/tiny_prior
"""

import argparse
from pathlib import Path

from seesr_pl import runs
from seesr_pl.tiny import weights as tiny_weights

ASSETS = Path(tiny_weights.__file__).parent / "assets"


def main() -> None:
    """Replace the asset of each run that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ram", help="run folder of experiment=tiny_ram")
    parser.add_argument("--prior", help="run folder of experiment=tiny_prior")
    arguments = parser.parse_args()
    if arguments.ram:
        tiny_weights.save_ram(runs.load_ram(arguments.ram), ASSETS / tiny_weights.RAM_FOLDER)
    if arguments.prior:
        module = runs.load_module(arguments.prior)
        tiny_weights.save_prior(module.unet, module.text_encoder, ASSETS / tiny_weights.PRIOR)


if __name__ == "__main__":
    main()
