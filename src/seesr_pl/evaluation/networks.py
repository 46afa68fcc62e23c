"""Peers that run through other libraries: any network that spandrel reads, and latent diffusion through diffusers."""

from pathlib import Path

import torch

from seesr_pl import keyed
from seesr_pl.files import MissingFile
from seesr_pl.imaging.tensors import to_float, to_uint8
from seesr_pl.types import RGB


class SpandrelMethod:
    """Restore with the network in the published file `weights`, of any architecture that spandrel knows.

    Raises ImportError without the extra [baselines], ValueError for a network that does not enlarge `scale` times.
    """

    def __init__(self, weights: str | Path, *, name: str = "spandrel", scale: int = 4, device: str = "cpu") -> None:
        try:
            import spandrel
            import spandrel_extra_arches
        # torchvision beside a torch of another build raises RuntimeError.
        except (ImportError, RuntimeError) as error:
            reason = f"{error}: method={name} needs the extra [baselines] and a torchvision built for this torch"
            raise ImportError(reason) from error
        spandrel_extra_arches.install(ignore_duplicates=True)
        self.name, self.device = name, torch.device(device)
        self.network = spandrel.ModelLoader(device=self.device).load_from_file(str(Path(weights).expanduser())).eval()
        if self.network.scale != scale:
            raise ValueError(f"method.weights={weights} enlarges {self.network.scale} times, the benchmark is x{scale}")

    @torch.no_grad()
    def __call__(self, lq: RGB, *, name: str) -> RGB:
        """Enlarge `lq`, uint8 RGB HxWx3."""
        enlarged = self.network(to_float(torch.from_numpy(lq.copy())[None].to(self.device)))
        return to_uint8(enlarged.clamp(0, 1))[0].cpu().numpy()

    @classmethod
    def missing_files(cls, weights: str | Path) -> list[MissingFile]:
        """List the file if it does not exist."""
        return _missing(weights, "the release of the method's authors", is_there=Path(weights).expanduser().is_file())


class LatentDiffusion:
    """Restore x4 with the folder `weights` of diffusers' LDMSuperResolutionPipeline; noise keyed by (seed, name)."""

    def __init__(
        self, weights: str | Path, *, name: str = "ldm", seed: int = 0, num_steps: int = 100, device: str = "cpu"
    ) -> None:
        from diffusers import LDMSuperResolutionPipeline

        self.name, self.seed, self.num_steps = name, seed, num_steps
        self.pipeline = LDMSuperResolutionPipeline.from_pretrained(str(Path(weights).expanduser())).to(device)
        self.pipeline.set_progress_bar_config(disable=True)

    def __call__(self, lq: RGB, *, name: str) -> RGB:
        """Enlarge `lq`, uint8 RGB HxWx3, four times."""
        image = to_float(torch.from_numpy(lq.copy())[None]) * 2 - 1
        generator = keyed.torch_generator(self.seed, name, "ldm")
        options = {"num_inference_steps": self.num_steps, "eta": 1.0, "generator": generator, "output_type": "np"}
        restored = self.pipeline(image.to(self.pipeline.device), **options).images[0]
        return (restored * 255).round().astype("uint8")

    @classmethod
    def missing_files(cls, weights: str | Path) -> list[MissingFile]:
        """List the folder if it does not exist."""
        origin = "CompVis/ldm-super-resolution-4x-openimages on Hugging Face"
        return _missing(weights, origin, is_there=(Path(weights).expanduser() / "model_index.json").is_file())


def _missing(weights: str | Path, origin: str, *, is_there: bool) -> list[MissingFile]:
    return [] if is_there else [MissingFile(str(weights), origin, "method.weights=PATH")]
