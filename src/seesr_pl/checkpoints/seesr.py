"""SeeSR's two networks on disk: the official folders, and a small form without Stable Diffusion's weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from seesr_pl.models.seesr import SeeSRControlNet, SeeSRUNet
from seesr_pl.models.weights import weights_file

RCA_FILE = "rca.safetensors"
"""In the small form: the UNet's `image_attentions`, under the official names."""
# Parts of names by which weights of other projects are recognized.
_FOREIGN = {
    ".pixel_attentions.": "PASD",
    ".attn2_plus.": "PASD (light)",
    "controlnet_cond_embedding.to_rgbs.": "PASD",
    "model.diffusion_model.": "an LDM checkpoint (StableSR, DiffBIR)",
}


class Networks(NamedTuple):
    """SeeSR's two networks: the ControlNet, and the UNet of which only RCA was trained."""

    unet: SeeSRUNet
    controlnet: SeeSRControlNet


def load_seesr(
    folder: str | Path, *, base_unet: UNet2DConditionModel | None = None, keep_base_unet: bool = False
) -> Networks:
    """Load UNet and ControlNet from official folders (`unet/`, `controlnet/`) or from the small form.

    With `keep_base_unet`, and always from the small form, the UNet is `base_unet` with SeeSR's RCA put in, as
    the official code runs sd-turbo (unet_2d_condition.py:1028-1071). Raises FileNotFoundError or ValueError as
    `check_layout` does, and ValueError where `base_unet` is needed and not given, or does not fit.
    """
    folder = Path(folder)
    check_layout(folder)
    controlnet = SeeSRControlNet.from_pretrained(folder / "controlnet")
    if (folder / RCA_FILE).is_file():
        rca = load_file(folder / RCA_FILE)
    elif keep_base_unet:
        rca = rca_state_dict(SeeSRUNet.from_pretrained(folder / "unet"))
    else:
        return Networks(SeeSRUNet.from_pretrained(folder / "unet"), controlnet)
    if base_unet is None:
        raise ValueError(f"{folder} holds RCA alone: give the Stable Diffusion UNet that it was trained on")
    return Networks(with_rca(base_unet, rca), controlnet)


def export_official(networks: Networks, folder: str | Path) -> None:
    """Write `unet/` and `controlnet/` as the official code reads them (train_seesr.py, its checkpoint folders)."""
    for part, model, official in (
        ("unet", networks.unet, "UNet2DConditionModel"),
        ("controlnet", networks.controlnet, "ControlNetModel"),
    ):
        model.save_pretrained(Path(folder) / part)
        path = Path(folder) / part / "config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps(config | {"_class_name": official}, indent=2) + "\n")


def export_small(networks: Networks, folder: str | Path) -> None:
    """Write `rca.safetensors` and `controlnet/`: all that training changed, two thirds of the official size."""
    networks.controlnet.save_pretrained(Path(folder) / "controlnet")
    rca = {name: tensor.contiguous() for name, tensor in rca_state_dict(networks.unet).items()}
    save_file(rca, Path(folder) / RCA_FILE, metadata={"format": "pt"})


def rca_state_dict(unet: SeeSRUNet) -> dict[str, Tensor]:
    """Return the weights of the representation cross-attention by their official names."""
    return {name: tensor for name, tensor in unet.state_dict().items() if ".image_attentions." in name}


def with_rca(unet: UNet2DConditionModel, rca: Mapping[str, Tensor]) -> SeeSRUNet:
    """Return a SeeSR UNet of a stock UNet and the given RCA; ValueError where names or shapes do not fit."""
    model = SeeSRUNet.from_unet(unet)
    own = rca_state_dict(model)
    wrong = sorted(own.keys() ^ rca.keys()) or [name for name in own if own[name].shape != rca[name].shape]
    if wrong:
        raise ValueError(f"{len(wrong)} RCA weights do not fit the UNet, the first {wrong[0]}: another base model?")
    for name, tensor in rca.items():
        own[name].copy_(tensor)
    return model


def check_layout(folder: Path) -> None:
    """Accept the official layout and the small form.

    Raises FileNotFoundError if there is no folder, and ValueError that says which other layout or weights it holds.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; SeeSR's weights are a folder with unet/ and controlnet/")
    if weights_file(folder) and not (folder / "unet").is_dir():
        raise ValueError(
            f"{folder} holds one network without unet/ and controlnet/: the official script's last save, in which the "
            "UNet overwrites the ControlNet (train_seesr.py:1072-1077); take a checkpoint-* folder beside it"
        )
    has_unet = (folder / RCA_FILE).is_file() or (folder / "unet").is_dir()
    if not has_unet or not (folder / "controlnet").is_dir():
        found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise ValueError(f"{folder} must hold controlnet/ and unet/ (or {RCA_FILE}); it holds {found}")
    for part in ("unet", "controlnet"):
        _refuse_foreign(folder / part)


def _refuse_foreign(folder: Path) -> None:
    path = weights_file(folder)
    names = [] if path is None else _names(path)
    for mark, origin in _FOREIGN.items():
        if any(mark in name for name in names):
            raise ValueError(f"{folder} holds weights of {origin}, not of SeeSR; the two do not exchange weights")


def _names(path: Path) -> list[str]:
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            return list(file.keys())
    content: dict[str, Any] = torch.load(path, map_location="meta", weights_only=True, mmap=True)
    return list(content)
