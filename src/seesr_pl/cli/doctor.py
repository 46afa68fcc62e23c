"""`seesr doctor`: report what is installed, what is missing, what a run will need, and how to fix it."""

import importlib
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from seesr_pl.files import LIBRARIES, versions
from seesr_pl.text import rich_text

if TYPE_CHECKING:
    from seesr_pl.checkpoints.published import Published

PACKAGES = (*LIBRARIES, "hydra-core", "webdataset", "wandb")
EXTRAS = {
    "iqa": "pyiqa",
    "baselines": "spandrel",
    "coco": "faster_coco_eval",
    "8bit": "bitsandbytes",
    "cloud": "s3fs",
    "demo": "gradio",
    "tensorboard": "tensorboard",
    "sweep": "hydra_plugins.hydra_optuna_sweeper",
    "slurm": "hydra_plugins.hydra_submitit_launcher",
}


class Finding(NamedTuple):
    """One line of the report; `fix` is empty where nothing needs fixing. A `broken` one is red and always has a fix."""

    name: str
    found: str
    fix: str = ""
    broken: bool = False


def doctor(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[experiment=NAME [KEY=VALUE]...]",
            help="a training command: also report what it needs, before anything starts",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[Path, typer.Option(help="folder of the published weights")] = Path("weights"),
    outputs: Annotated[Path, typer.Option(help="folder that runs write to")] = Path("outputs"),
) -> None:
    """Report what this machine has, and what a run needs. Exit code 1 if a line is red."""
    from rich.console import Console
    from rich.table import Table

    findings = [*_packages(), _torchvision(), *_accelerator(), *_extras(), _wandb()]
    if words:
        from seesr_pl.cli.doctor_run import examine

        findings += examine(words)
    else:
        findings += [*_weights(weights), _disk(outputs)]
    table = Table(title="seesr doctor")
    for head in ("what", "found", "fix"):
        table.add_column(head, overflow="fold")
    for finding in findings:
        row = (finding.name, finding.found, finding.fix)
        # The name of an extra is in brackets, as Rich's markup is.
        table.add_row(*map(rich_text, row), style="red" if finding.broken else None)
    Console().print(table)
    if any(finding.broken for finding in findings):
        raise typer.Exit(1)


def _packages() -> list[Finding]:
    machine = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return [Finding("python", machine), *(Finding(name, found) for name, found in versions(PACKAGES).items())]


def _torchvision() -> Finding:
    # With a torch of another build, torchvision raises RuntimeError on import, and so do lightning and torchmetrics.
    try:
        import torchvision
    except ImportError:
        return Finding("torchvision", "not installed (not needed)")
    except (RuntimeError, OSError) as error:
        fix = "pip uninstall torchvision, or install the build that matches your torch"
        return Finding("torchvision", f"broken: {error}", fix, broken=True)
    return Finding("torchvision", torchvision.__version__)


def _accelerator() -> Iterator[Finding]:
    import torch

    if not torch.cuda.is_available():
        if shutil.which("nvidia-smi"):
            found = f"broken: nvidia-smi is there, but torch {torch.__version__} sees no GPU"
            fix = "install the torch of your driver's CUDA (docs/install.md), or update the driver"
            yield Finding("accelerator", found, fix, broken=True)
        else:
            found = f"none, {torch.get_num_threads()} CPU threads"
            yield Finding("accelerator", found, "full-size training needs a GPU")
        return
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        yield Finding(f"cuda:{index}", f"{device.name}, {device.total_memory / 2**30:.0f} GiB")
    nccl = ".".join(map(str, torch.cuda.nccl.version())) if torch.distributed.is_nccl_available() else "not there"
    yield Finding("CUDA of torch, NCCL", f"{torch.version.cuda}, {nccl}")


def _wandb() -> Finding:
    if "WANDB_MODE" in os.environ:
        return Finding("W&B", f"WANDB_MODE={os.environ['WANDB_MODE']}")
    import wandb

    # Without verify, nothing is asked of W&B's server, which may not be reached from here.
    if wandb.login(prompt=False, verify=False):
        return Finding("W&B", "logged in")
    return Finding("W&B", "no account: runs are logged offline", "wandb login, if you want to see them while they run")


def _extras() -> list[Finding]:
    findings = []
    for extra, module in EXTRAS.items():
        try:
            importlib.import_module(module)
        except (ImportError, RuntimeError, OSError) as error:
            reason = "not installed" if isinstance(error, ModuleNotFoundError) else f"cannot be imported: {error}"
            findings.append(Finding(f"[{extra}]", reason, f"pip install 'seesr-pl[{extra}]', if you need it"))
        else:
            findings.append(Finding(f"[{extra}]", "installed"))
    return findings


def _weights(folder: Path) -> Iterator[Finding]:
    from seesr_pl.checkpoints.published import METRICS_FOLDER, PUBLISHED

    for name, file in PUBLISHED.items():
        path = folder / file.name
        if file.name.startswith(METRICS_FOLDER) and not path.exists():
            continue  # of twenty files a user wants few
        if file.missing(path):
            yield Finding(str(path), "not there", f"if you need it: seesr weights {name}; {file.origin}")
        else:
            yield weights_at(file, path)


def weights_at(file: "Published", path: Path) -> Finding:
    """Report the size of a published file or folder that is at `path`, and whether it is what was published."""
    difference = "" if file.parts else file.difference(path)
    if difference:
        return Finding(str(path), f"broken: {difference}", f"fetch it again: {file.origin}", broken=True)
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    size = f"{sum(each.stat().st_size for each in files) / 1e9:.2f} GB"
    compared = "SHA-256" if file.sha256 else "size" if file.size else ""
    known = f"{compared} as published" if compared else "nothing known to compare with"
    return Finding(str(path), f"there, {size}, {known}")


def _disk(folder: Path) -> Finding:
    return Finding("disk", f"{free_gib(folder):.0f} GiB free for {folder}/")


def free_gib(folder: Path) -> float:
    """Return the free space of the disk on which `folder` is, or will be."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free / 2**30
