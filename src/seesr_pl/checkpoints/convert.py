"""Convert RAM and DAPE weights between the published format, safetensors, and checkpoints of runs."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from seesr_pl.checkpoints.published import LAST
from seesr_pl.checkpoints.saved import load
from seesr_pl.files import write_whole
from seesr_pl.models import ram_files, ram_official


def convert_ram(source: str | Path, target: str | Path, *, trust: bool = False) -> dict[str, Tensor]:
    """Write the tensors of RAM that tagging uses into `target`; return them by their official names.

    A `.pth` target has the published format, a dict whose `model` is the state dict; a `.safetensors` one holds the
    state dict alone. Raises ValueError if `source` is not a RAM. `trust`: see `ram_files.read_published`.
    """
    state = ram_files.read_published(source, trust=trust)
    _check_ram(state)
    used = {
        name: tensor for name, tensor in ram_files.official_names(state).items() if not ram_official.is_unused(name)
    }
    _write(used, Path(target), wrapped={"model": used})
    return used


def convert_dape(source: str | Path, target: str | Path, *, trust: bool = False) -> dict[str, Tensor]:
    """Write the LoRA of a DAPE file, or of a checkpoint of `experiment=dape`, into `target`; return what was written.

    A `.pth` target has the published format, a flat dict, without the tensors of networks that never run.
    Raises ValueError where `source` is not a DAPE.
    """
    used = read_dape(source, trust=trust)
    _write(used, Path(target), wrapped=used)
    return used


def read_dape(source: str | Path, *, trust: bool = False) -> dict[str, Tensor]:
    """Return the LoRA of a DAPE file, or of a run of `experiment=dape` (its folder or a checkpoint), official names.

    Raises FileNotFoundError, and ValueError where `source` is not a DAPE.
    """
    path = Path(source) / LAST if Path(source).is_dir() else Path(source)
    if path.suffix == ".ckpt":
        return ram_official.dape_from_lora(_run_lora(path, trust=trust))
    return ram_official.dape_tensors(ram_files.read_published(path, trust=trust))


def _check_ram(state: Mapping[str, Tensor]) -> None:
    # Imported here, so that the conversion of DAPE does not load transformers.
    from seesr_pl.models.ram import RAM
    from seesr_pl.models.ram_networks import RAMConfig

    config = RAMConfig(**ram_files.sizes(state))
    names = ram_files.official_names(state)
    num_tags = len(names["label_embed"]) if "label_embed" in names else 0
    with torch.device("meta"):
        ram = RAM(config, [str(index) for index in range(num_tags)], [0.0] * num_tags)
    ram_official.load_ram(ram, state)


def _run_lora(path: Path, *, trust: bool) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    state = (torch.load(path, map_location="cpu", weights_only=False, mmap=True) if trust else load(path))["state_dict"]
    lora = {name.removeprefix("ram."): tensor for name, tensor in state.items() if ".lora_" in name}
    if not lora:
        raise ValueError(f"{path} holds no LoRA; give a run of experiment=dape")
    return lora


def _write(state: Mapping[str, Tensor], target: Path, *, wrapped: Mapping[str, object]) -> None:
    if target.suffix not in (".pth", ".safetensors"):
        raise ValueError(f"{target} must end in .pth, the published format, or .safetensors")
    if target.suffix == ".safetensors":
        tensors = {name: tensor.contiguous() for name, tensor in state.items()}
        write_whole(target, lambda draft: save_file(tensors, draft, metadata={"format": "pt"}))
    else:
        write_whole(target, lambda draft: torch.save(wrapped, draft))
