"""Metrics with a network, computed by pyiqa in the settings of the published tables (extra `[iqa]`)."""

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch

from seesr_pl.checkpoints.published import METRICS_FOLDER, metric_files
from seesr_pl.files import fingerprint
from seesr_pl.imaging.io import read_rgb, write_image
from seesr_pl.types import RGB

CLASH = (
    "torchvision does not fit the installed torch (it is built for CUDA, or for another version); this metric needs "
    "both of one build: docs/install.md"
)
INSTALL = "pyiqa is not installed: pip install 'seesr-pl[iqa]' in an environment of its own (docs/install.md)"


class IQASetting(NamedTuple):
    """The name that pyiqa gives a metric, how to read its values, and its argument for a file of weights, "" for none.

    "load_weights" stands for a file that is loaded after the network was built, "url" for one in place of its address.
    """

    pyiqa_name: str
    needs_reference: bool
    higher_is_better: bool
    weights: str = ""


# LPIPS with AlexNet, MUSIQ trained on KonIQ-10k, MANIQA trained on PIPAL, CLIP-IQA without "+": the settings of
# OSEDiff's test_metrics.py, which reports SeeSR beside itself. The variants below them are in no published table.
IQA_METRICS = {
    "lpips": IQASetting("lpips", True, False, "pretrained_model_path"),
    "dists": IQASetting("dists", True, False, "pretrained_model_path"),
    "musiq": IQASetting("musiq", False, True, "pretrained_model_path"),
    "maniqa": IQASetting("maniqa-pipal", False, True, "load_weights"),
    "clipiqa": IQASetting("clipiqa", False, True, "backbone"),
    "fid": IQASetting("fid", True, False, "url"),
    "lpips-vgg": IQASetting("lpips-vgg", True, False, "pretrained_model_path"),
    "musiq-ava": IQASetting("musiq-ava", False, True),
    "musiq-paq2piq": IQASetting("musiq-paq2piq", False, True, "pretrained_model_path"),
    "musiq-spaq": IQASetting("musiq-spaq", False, True, "pretrained_model_path"),
    "maniqa-koniq": IQASetting("maniqa", False, True, "load_weights"),
    "maniqa-kadid": IQASetting("maniqa-kadid", False, True, "load_weights"),
    "clipiqa+": IQASetting("clipiqa+", False, True),
    "clipiqa+_rn50_512": IQASetting("clipiqa+_rn50_512", False, True),
    "clipiqa+_vitL14_512": IQASetting("clipiqa+_vitL14_512", False, True),
}


class IQA(NamedTuple):
    """What computes a metric, by `setting`, on `device`; `version` names it with its weights."""

    metric: Any
    setting: IQASetting
    device: str
    version: str

    def image(self, sr: RGB, hr: RGB | None) -> float:
        """Score a restored image, with its reference where the metric needs one, both uint8 RGB."""
        images = (sr, hr) if self.setting.needs_reference else (sr,)
        return float(self.metric(*(_network_input(image, self.device) for image in images if image is not None)))

    def files(self, files: Sequence[tuple[Path, Path]]) -> float:
        """Score the images of a set by their files, (restored, reference) each: FID in clean-fid's mode.

        Raises ValueError for fewer than two images, of which there is no covariance.
        """
        if len(files) < 2:
            raise ValueError(f"at least 2 images are needed, got {len(files)}")
        with TemporaryDirectory() as folder:
            for kind, paths in zip(("sr", "hq"), zip(*files, strict=True), strict=True):
                (Path(folder) / kind).mkdir()
                for number, path in enumerate(paths):
                    _put(path, Path(folder) / kind, f"{number:06}")
            options = {"num_workers": 0, "batch_size": 8, "verbose": False}
            return float(self.metric(f"{folder}/sr", f"{folder}/hq", **options))


def iqa(name: str, *, device: str, weights: str | None, folder: str | Path | None = None) -> IQA | str:
    """Build the metric `name` of `IQA_METRICS`, or return the reason why it cannot be computed here.

    Args:
        name: of the metric.
        device: of its network.
        weights: a local file in place of the one that pyiqa downloads; backbones trained on ImageNet (LPIPS, DISTS) are
            looked for as without it.
        folder: of weights, as `seesr weights` fills it; used where it holds a file of this metric.

    Raises ValueError for a file that does not exist, or for a metric whose weights are no single file.
    """
    setting = IQA_METRICS[name]
    if find_spec("pyiqa") is None:
        return INSTALL
    if weights is not None and not (setting.weights and Path(weights).expanduser().is_file()):
        known = "does not exist" if setting.weights else f"cannot be given: {setting.pyiqa_name} takes no file"
        raise ValueError(f"metric_weights: {weights} {known}")
    at_hand = [] if folder is None else [path for path in metric_files(name, folder) if path.is_file()]
    if at_hand and folder is not None:
        # pyiqa, torchvision and CLIP keep their files in torch.hub's folder, and have no argument for another.
        torch.hub.set_dir(Path(folder).expanduser() / METRICS_FOLDER)
    try:
        pyiqa = importlib.import_module("pyiqa")
        cache: Any = importlib.import_module("pyiqa.utils.download_util")
        cache.DEFAULT_CACHE_DIR = f"{torch.hub.get_dir()}/pyiqa"  # as pyiqa does, but when it is first imported
        with _without_backbone():
            metric = _built(pyiqa, setting, device, weights and str(Path(weights).expanduser()))
    # torchvision beside a torch of another build raises RuntimeError; a download without a network, OSError.
    except (ImportError, RuntimeError, OSError) as error:
        return _reason(error)
    used = fingerprint(*at_hand, *([] if weights is None else [Path(weights).expanduser()]))
    return IQA(metric, setting, device, f"pyiqa {getattr(pyiqa, '__version__', '')} {setting.pyiqa_name} {used}")


def _built(pyiqa: Any, setting: IQASetting, device: str, weights: str | None) -> Any:
    on = torch.device(device)
    if weights is None:
        return pyiqa.create_metric(setting.pyiqa_name, device=on)
    if setting.weights == "load_weights":
        # pyiqa's own argument for a file looks for a key that the published file does not have.
        metric = pyiqa.create_metric(setting.pyiqa_name, device=on, pretrained=False)
        metric.load_weights(weights, weight_keys=None)
        return metric
    if setting.weights == "url":
        inception: Any = importlib.import_module("pyiqa.archs.inception")
        address, inception.FID_WEIGHTS_URL = inception.FID_WEIGHTS_URL, weights
        try:
            return pyiqa.create_metric(setting.pyiqa_name, device=on)
        finally:
            inception.FID_WEIGHTS_URL = address
    return pyiqa.create_metric(setting.pyiqa_name, device=on, **{setting.weights: weights})


@contextmanager
def _without_backbone() -> Iterator[None]:
    """Let timm download nothing: the published files of MANIQA, loaded strictly, hold its backbone too."""
    timm: Any = importlib.import_module("timm")
    create = timm.create_model
    timm.create_model = lambda name, **options: create(name, **{**options, "pretrained": False})
    try:
        yield
    finally:
        timm.create_model = create


def _put(path: Path, folder: Path, name: str) -> None:
    """Let `folder` hold the image `path` in a form that pyiqa reads."""
    if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp"):
        (folder / f"{name}{path.suffix}").symlink_to(path.absolute())
    else:
        write_image(folder / f"{name}.png", read_rgb(path))


def _reason(error: Exception) -> str:
    lines = [line for link in (error, error.__context__) if link for line in str(link).splitlines() if line]
    text = " ".join(lines)
    if "torchvision::nms" in text or "libtorch_cuda" in text or "libcudart" in text:
        return CLASH
    first = lines[0] if lines else type(error).__name__
    if isinstance(error, OSError):
        return f"its weights could not be had ({first}); seesr weights NAME fetches them, metric_weights names a file"
    return f"pyiqa is installed but cannot be used: {first}"


def _network_input(image: RGB, device: str) -> torch.Tensor:
    pixels = np.ascontiguousarray(image.transpose(2, 0, 1))
    return torch.from_numpy(pixels).to(device).float()[None] / 255
