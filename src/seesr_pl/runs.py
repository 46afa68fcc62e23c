"""Find the files of a run and load its networks; a saved pipeline folder is accepted as well."""

import functools
import hashlib
import inspect
import shutil
import subprocess
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from seesr_pl.config import plain
from seesr_pl.files import Record, fingerprint, versions, write_whole
from seesr_pl.trust import build, read_config

if TYPE_CHECKING:
    import torch

    from seesr_pl.data import ShardDataset
    from seesr_pl.evaluation.benchmark import MadePair
    from seesr_pl.models import RAM
    from seesr_pl.sampling import SeeSRPipeline

_PAIRS = 2
"""What `write_validation` writes; another number writes all samples again."""


class RunFolder(NamedTuple):
    """The folder of a run and the files in it; `chosen` is a checkpoint other than the last."""

    path: Path
    chosen: Path | None = None

    @classmethod
    def of(cls, ckpt: str | Path) -> Self:
        """Return the run of `ckpt`, its folder or one of its checkpoint files.

        Raises FileNotFoundError where the checkpoint does not exist, or has no config beside it or in the folder above.
        """
        path = Path(ckpt).expanduser()
        run = cls(path) if path.is_dir() else cls(path.parent.parent, path)
        if not run.checkpoint.is_file():
            raise FileNotFoundError(f"{ckpt}: {run.checkpoint} does not exist; give a run folder or a .ckpt file of it")
        found = [folder for folder in (run.path, run.checkpoint.parent) if cls(folder).config.is_file()]
        if not found:
            raise FileNotFoundError(f"{ckpt}: no config.yaml in {run.path}; keep a checkpoint in its run's folder")
        return run._replace(path=found[0])

    @property
    def config(self) -> Path:
        """File of the composed config, interpolations kept."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """File of the logged metrics, one row per logged step."""
        return self.path / "metrics.csv"

    @property
    def last_checkpoint(self) -> Path:
        """Checkpoint from which the same command continues."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def checkpoints(self) -> list[Path]:
        """Every checkpoint of the run; those that Lightning writes for a requeued Slurm job lie beside the folder."""
        names = ("checkpoints/last.ckpt", "checkpoints/previous.ckpt", "checkpoints/step_*.ckpt", "hpc_ckpt_*.ckpt")
        return [path for name in names for path in sorted(self.path.glob(name))]

    @property
    def checkpoint(self) -> Path:
        """Checkpoint to load: the chosen one, or the last."""
        return self.chosen or self.last_checkpoint

    def recorded(self) -> DictConfig:
        """Read the recorded config."""
        return read_config(self.config)

    def record(self, cfg: DictConfig) -> None:
        """Write the config of the run, whole or not at all; call it when a checkpoint to go on from is accepted."""
        write_whole(self.config, OmegaConf.to_yaml(cfg))


def load_pipeline(
    ckpt: str | Path, *, device: str = "cpu", dtype: str = "float32", trust: Collection[str] = ()
) -> "SeeSRPipeline":
    """Load the pipeline of a run of `experiment=seesr`, with the run's ablation, or of a pipeline folder.

    `dtype` (float32, bfloat16 or float16) applies to all networks but RAM, which stays in float32. `trust` and the
    errors raised are those of `load_module`; ValueError also for a run that trained something else.
    """
    # Imported here, so that a wrong command line is reported before the slow imports.
    import torch

    from seesr_pl.sampling import SeeSRPipeline

    precision: torch.dtype = getattr(torch, dtype)
    if is_pipeline(ckpt):
        pipeline = SeeSRPipeline.from_pretrained(Path(ckpt).expanduser(), torch_dtype=precision)
    else:
        pipeline = _run_pipeline(ckpt, precision, trust)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def build_method(
    node: dict[str, Any], device: str, *, ckpt: str | None = None, dtype: str = "float32", trust: Collection[str] = ()
) -> Any:
    """Build the method of an evaluation that `node` describes, with the pipeline of `ckpt` where it needs one.

    `dtype`, `trust` and the errors raised are those of `load_pipeline`.
    """
    # By position: Hydra copies what it is given by name, which for a pipeline is gigabytes.
    given = [load_pipeline(ckpt, device=device, dtype=dtype, trust=trust)] if ckpt else []
    takes_device = "device" in inspect.signature(get_object(node["_target_"])).parameters
    method = instantiate(node, *given, **({"device": device} if takes_device else {}), _convert_="all")
    for pipeline in given:
        pipeline.merge_lora()  # once the method has chosen its prompter
    return method


def load_ram(ckpt: str | Path, *, trust: Collection[str] = ()) -> "RAM":
    """Load the RAM of a run or of a pipeline folder on the CPU, with DAPE's LoRA if it has one.

    `trust` and the errors raised are those of `load_module`.
    """
    from seesr_pl.models import RAM

    if is_pipeline(ckpt):
        return RAM.from_pretrained(Path(ckpt).expanduser() / "ram")
    return load_module(ckpt, trust=trust).ram


@functools.lru_cache(maxsize=1)
def load_tagger(path: str, device: str, *, trust: tuple[str, ...] = ()) -> "RAM":
    """Load RAM on `device` to judge tags by: that of a run or of a pipeline folder, or a published file.

    The last one is kept. `trust` and the errors raised are those of `load_module`, and of `RAM.from_official`.
    """
    from seesr_pl.models import RAM

    is_published = Path(path).expanduser().is_file() and Path(path).suffix != ".ckpt"
    ram = RAM.from_official(Path(path).expanduser()) if is_published else load_ram(path, trust=trust)
    return ram.to(device)


def load_module(ckpt: str | Path, *, trust: Collection[str] = ()) -> Any:
    """Load the LightningModule of a run from its checkpoint, in eval mode on the CPU.

    `trust`: dotted names that its config may build besides classes of seesr_pl and torch.optim. Raises
    FileNotFoundError where the checkpoint, its config, or the weights that the run started from are missing,
    ValueError where the checkpoint is damaged, or the config names what is not trusted.
    """
    from seesr_pl.checkpoints.saved import load

    run = RunFolder.of(ckpt)
    module = build_module(run, trust=trust)
    checkpoint = load(run.checkpoint)
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"])
    return module.eval()


def build_module(run: RunFolder, *, trust: Collection[str] = ()) -> Any:
    """Build the LightningModule of a run by its recorded config, with the weights that the run started from.

    Raises FileNotFoundError where they are missing, ValueError where the config names what is not trusted.
    """
    node = plain(run.recorded())["module"]
    node.pop("optimizer", None)  # not needed to load, and its package may not be installed
    return build(node, key="module", origin=run.config, trust=trust)


def write_validation(ckpt: str | Path, folder: Path, *, trust: Collection[str] = ()) -> int:
    """Write the validation samples of a run, degraded as in training, as pairs into `folder`; return their number.

    What an earlier call wrote is kept where the run's data still are what they were, and removed where they are not.

    `trust` is that of `load_module`. Raises ValueError for a pipeline folder, for a run without validation sources, and
    where `folder` holds other images.
    """
    from seesr_pl.evaluation.benchmark import count_pairs, write_pairs

    run = None if is_pipeline(ckpt) else RunFolder.of(ckpt)
    node = plain(run.recorded())["data"] if run else {}
    if run is None or not node.get("validation_sources"):
        raise ValueError(f"{ckpt} has no validation sources; name a set: benchmark=realsr benchmark.root=DIR, ...")
    datasets = build(node, key="data", origin=run.config, trust=trust).validation_datasets
    record, now = Record.beside(folder), fingerprint(_PAIRS, node, [dataset.fingerprint() for dataset in datasets])
    kept = [folder / kind for kind in ("lq", "hq") if (folder / kind).exists()]
    if kept and not record.path.is_file():
        raise ValueError(f"benchmark.root={folder} holds images of another program; give a folder without images")
    if not record.holds(now) or record.read().get("count") != count_pairs(folder):
        record.write("")  # what a kill leaves is no result, and may be removed
        for old in kept:
            shutil.rmtree(old, ignore_errors=True)
        count = write_pairs(folder, (pair for part, dataset in enumerate(datasets) for pair in _pairs(part, dataset)))
        record.write(now, count=count)
    return int(record.read()["count"])


def _pairs(part: int, dataset: "ShardDataset") -> Iterator["MadePair"]:
    """Yield the samples of the validation source number `part`, with how each was degraded."""
    from seesr_pl.degradation import recorded
    from seesr_pl.evaluation.benchmark import MadePair

    for index in range(len(dataset)):
        sample = dataset[index]
        name, params = f"{part}_{sample.key.replace('/', '_')}", dataset.params_of(sample)
        told = ("", None) if params is None else (getattr(params, "kind", ""), recorded(dataset.degradation, params))
        yield MadePair(name, sample.hq, sample.lq, sample.severity, *told)


def about(ckpt: str | Path | None) -> dict[str, Any]:
    """Return what a result must say of its origin: checkpoint with step and hash, frozen weights, commit, versions."""
    facts: dict[str, Any] = {"versions": versions(), "commit": _commit()}
    if ckpt is None or is_pipeline(ckpt):
        return facts | {"checkpoint": None if ckpt is None else {"file": str(Path(ckpt).expanduser())}}
    from seesr_pl.checkpoints.saved import load

    file = RunFolder.of(ckpt).checkpoint
    saved = load(file)
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    step = {"file": str(file), "step": saved["global_step"], "sha256": digest}
    return facts | {"checkpoint": step, "frozen_weights": saved.get("frozen", {})}


def _commit() -> str | None:
    """Return the git commit of the code, with + where files differ from it; None where it is no git checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    head, changed = (
        subprocess.run([*git, *words], capture_output=True, text=True, check=False)
        for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
    )
    return None if head.returncode else head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def learned_tags(ckpt: str | Path) -> bool:
    """Return whether `ckpt` is a run of stage 1, which learns to see, and not to restore."""
    if is_pipeline(ckpt):
        return False
    return str(plain(RunFolder.of(ckpt).recorded())["module"]["_target_"]).endswith(".DAPEDistillation")


def is_pipeline(ckpt: str | Path) -> bool:
    """Return whether `ckpt` is a folder written by `SeeSRPipeline.save_pretrained`, rather than a run."""
    return (Path(ckpt).expanduser() / "model_index.json").is_file()


def checkpoint_file(ckpt: str | Path) -> str:
    """Return the path of the weights of `ckpt`: the pipeline folder itself, or the checkpoint file of the run."""
    return str(Path(ckpt).expanduser() if is_pipeline(ckpt) else RunFolder.of(ckpt).checkpoint)


def recorded_sampler(ckpt: str | Path) -> dict[str, Any]:
    """Return the sampling settings that a run changes; {} for a pipeline folder, which holds its own."""
    return {} if is_pipeline(ckpt) else plain(RunFolder.of(ckpt).recorded()).get("sampler", {})


def _run_pipeline(ckpt: str | Path, dtype: "torch.dtype", trust: Collection[str]) -> "SeeSRPipeline":
    from seesr_pl.models.stack import cast_all_but_ram
    from seesr_pl.training import SeeSRDiffusion

    module = load_module(ckpt, trust=trust)
    if not isinstance(module, SeeSRDiffusion):
        raise ValueError(f"{ckpt} is a run of {type(module).__name__}; restoring needs one of experiment=seesr")
    module.merge_lora()
    cast_all_but_ram(module, dtype)
    return module.pipeline()
