"""A run found again: where its files lie, and the networks that it left. A pipeline folder is taken as well."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from seesr_pl.config import plain, preflight
from seesr_pl.files import write_whole

if TYPE_CHECKING:
    import torch

    from seesr_pl.models import RAM
    from seesr_pl.sampling import SeeSRPipeline

_MOVED = {
    "seesr_pl.checkpoints.official.official_ram": "seesr_pl.checkpoints.official_ram",
    "seesr_pl.data.photo_leaves.leaf_shards": "seesr_pl.tiny.leaf_shards",
    "seesr_pl.data.photo_tiles.photo_shards": "seesr_pl.tiny.photo_shards",
    "seesr_pl.models.tiny.tiny_ram": "seesr_pl.tiny.tiny_ram",
    "seesr_pl.models.tiny.tiny_stack": "seesr_pl.tiny.tiny_stack",
    "seesr_pl.training.dape.DAPEDistillation": "seesr_pl.training.DAPEDistillation",
    "seesr_pl.training.tiny.TinyPrior": "seesr_pl.tiny.TinyPrior",
    "seesr_pl.training.tiny.TinySeeSR": "seesr_pl.training.SeeSRDiffusion",
    "seesr_pl.training.tiny.TinyTagging": "seesr_pl.tiny.TinyTagging",
}
"""Targets that runs of earlier versions recorded, and what takes their place now."""


class RunFolder(NamedTuple):
    """Where the files of a run lie; `checkpoint` is the one that is meant, by default the last."""

    path: Path
    chosen: Path | None = None

    @classmethod
    def of(cls, ckpt: str | Path) -> Self:
        """The run that a user means by its folder, or by one of its checkpoint files.

        Raises FileNotFoundError where there is no such checkpoint, or no config beside it or in the folder above.
        """
        path = Path(ckpt).expanduser()
        run = cls(path) if path.is_dir() else cls(path.parent.parent, path)
        if not run.checkpoint.is_file():
            raise FileNotFoundError(
                f"ckpt={ckpt}: {run.checkpoint} does not exist; give a run folder or a .ckpt file of it"
            )
        found = [folder for folder in (run.path, run.checkpoint.parent) if cls(folder).config.is_file()]
        if not found:
            raise FileNotFoundError(f"ckpt={ckpt}: no config.yaml in {run.path}; keep a checkpoint in its run's folder")
        return run._replace(path=found[0])

    @property
    def config(self) -> Path:
        """The composed config, interpolations kept."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """What was logged, a row a step."""
        return self.path / "metrics.csv"

    @property
    def last_checkpoint(self) -> Path:
        """From where the same command goes on."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def checkpoint(self) -> Path:
        """The checkpoint to load."""
        return self.chosen or self.last_checkpoint

    def recorded(self) -> DictConfig:
        """The config that the run recorded, with today's names of what it is made of."""
        content = OmegaConf.to_container(OmegaConf.load(self.config))
        return cast(DictConfig, OmegaConf.create(_renamed(content)))

    def record(self, cfg: DictConfig) -> None:
        """Write the config of the run, so that it is found again."""
        write_whole(self.config, OmegaConf.to_yaml(cfg))


def load_pipeline(ckpt: str | Path, *, device: str = "cpu", dtype: str = "float32") -> "SeeSRPipeline":
    """The pipeline of a run of `experiment=seesr`, which keeps to the run's ablation, or of a pipeline folder.

    `dtype` (float32, bfloat16 or float16) applies to all networks but RAM, which stays in float32.
    Raises FileNotFoundError as `RunFolder.of`, and ValueError for a run that trained something else.
    """
    # Here and not above: what a command line gets wrong is told before the networks' libraries are imported.
    import torch

    from seesr_pl.sampling import SeeSRPipeline

    precision: torch.dtype = getattr(torch, dtype)
    if is_pipeline(ckpt):
        pipeline = SeeSRPipeline.from_pretrained(Path(ckpt).expanduser(), torch_dtype=precision)
    else:
        pipeline = _run_pipeline(ckpt, precision)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def load_ram(ckpt: str | Path) -> "RAM":
    """The RAM, with DAPE's LoRA where it has one, of a run or of a pipeline folder, on the CPU."""
    from seesr_pl.models import RAM

    if is_pipeline(ckpt):
        return RAM.from_pretrained(Path(ckpt).expanduser() / "ram")
    return load_module(ckpt).ram


def load_module(ckpt: str | Path) -> Any:
    """The LightningModule of a run as its checkpoint left it, in eval mode on the CPU.

    Raises FileNotFoundError with what is missing: the checkpoint, its config, or the weights that the run started from.
    """
    import torch

    run = RunFolder.of(ckpt)
    node = plain(run.recorded())["module"]
    node.pop("optimizer", None)  # it trains no more, and the package of its optimizer may not be here
    cfg = OmegaConf.create({"module": node})
    preflight(cfg)
    module = instantiate(cfg.module, _convert_="all")
    checkpoint = torch.load(run.checkpoint, map_location="cpu", weights_only=False, mmap=True)
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"])
    return module.eval()


def is_pipeline(ckpt: str | Path) -> bool:
    """Whether `ckpt` is a folder that `SeeSRPipeline.save_pretrained` wrote, and not one of a run."""
    return (Path(ckpt).expanduser() / "model_index.json").is_file()


def checkpoint_file(ckpt: str | Path) -> str:
    """What `ckpt` stands for on disk: the pipeline folder itself, or the checkpoint file of the run."""
    return str(Path(ckpt).expanduser() if is_pipeline(ckpt) else RunFolder.of(ckpt).checkpoint)


def recorded_sampler(ckpt: str | Path) -> dict[str, Any]:
    """What a run changes of the official sampling settings; {} for a pipeline folder, which holds its own."""
    return {} if is_pipeline(ckpt) else plain(RunFolder.of(ckpt).recorded()).get("sampler", {})


def _renamed(node: Any) -> Any:
    if isinstance(node, list):
        return [_renamed(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: _MOVED.get(value, value) if key == "_target_" else _renamed(value) for key, value in node.items()}


def _run_pipeline(ckpt: str | Path, dtype: "torch.dtype") -> "SeeSRPipeline":
    import torch

    from seesr_pl.training import SeeSRDiffusion

    module = load_module(ckpt)
    if not isinstance(module, SeeSRDiffusion):
        raise ValueError(f"ckpt={ckpt} is a run of {type(module).__name__}; restoring needs one of experiment=seesr")
    networks: tuple[Any, ...] = (module.vae, module.text_encoder, module.unet, module.controlnet)
    for network in networks:
        torch.nn.Module.to(network, dtype=dtype)  # diffusers' own warns of an empty list
    return module.pipeline()
