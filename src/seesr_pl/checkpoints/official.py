"""The official RAM and DAPE weights: state dicts in and out, and the loader that configs point to."""

from pathlib import Path
from typing import TYPE_CHECKING

from seesr_pl.models.ram_files import missing_ram_files
from seesr_pl.models.ram_official import dape_state_dict, load_dape, load_ram, ram_state_dict

if TYPE_CHECKING:
    from seesr_pl.models.ram import RAM

__all__ = ["dape_state_dict", "load_dape", "load_ram", "official_ram", "ram_state_dict"]


def official_ram(
    ram_path: str | Path,
    dape_path: str | Path | None = None,
    *,
    tag_list: str | Path | None = None,
    thresholds: str | Path | None = None,
) -> "RAM":
    """`RAM.from_official` as a function that also tells which of its files are missing (`.missing_files`)."""
    # Here and not above: a missing file is reported before transformers and peft, seconds of import, are needed.
    from seesr_pl.models.ram import RAM

    return RAM.from_official(ram_path, dape_path, tag_list=tag_list, thresholds=thresholds)


official_ram.missing_files = missing_ram_files  # type: ignore[attr-defined]
