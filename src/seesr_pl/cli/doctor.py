"""`seesr doctor`: report what is installed, what is missing, and how to fix it."""

import importlib
import importlib.metadata
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

PACKAGES = ("torch", "lightning", "diffusers", "transformers", "peft", "hydra-core", "webdataset", "wandb", "numpy")
EXTRAS = {
    "iqa": "pyiqa",
    "baselines": "spandrel",
    "coco": "faster_coco_eval",
    "8bit": "bitsandbytes",
    "cloud": "s3fs",
    "demo": "gradio",
    "sweep": "hydra_plugins.hydra_optuna_sweeper",
    "slurm": "hydra_plugins.hydra_submitit_launcher",
}


class Finding(NamedTuple):
    """One line of the report; `fix` is empty where nothing needs fixing."""

    name: str
    found: str
    fix: str = ""


def doctor(
    weights: Annotated[Path, typer.Option(help="folder of the published weights")] = Path("weights"),
    outputs: Annotated[Path, typer.Option(help="folder that runs write to")] = Path("outputs"),
) -> None:
    """Report versions, accelerators, extras, weights and disk space; exit code 1 if something is broken."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    findings = [*_packages(), _torchvision(), _accelerator(), *_extras(), *_weights(weights), _disk(outputs)]
    table = Table("what", "found", "fix", title="seesr doctor")
    for finding in findings:
        table.add_row(*map(escape, finding))  # the name of an extra is in brackets, as Rich's markup is
    Console().print(table)
    if any(finding.found.startswith("broken") for finding in findings):
        raise typer.Exit(1)


def _packages() -> list[Finding]:
    return [Finding(name, importlib.metadata.version(name)) for name in PACKAGES]


def _torchvision() -> Finding:
    # With a torch of another build, torchvision raises RuntimeError on import, and so do lightning and torchmetrics.
    try:
        import torchvision
    except ImportError:
        return Finding("torchvision", "not installed (not needed)")
    except (RuntimeError, OSError) as error:
        fix = "pip uninstall torchvision, or install the build that matches your torch"
        return Finding("torchvision", f"broken: {error}", fix)
    return Finding("torchvision", torchvision.__version__)


def _accelerator() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("accelerator", f"none, {torch.get_num_threads()} CPU threads", "full-size training needs a GPU")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    return Finding("accelerator", f"{len(names)} x {names[0]}, {memory:.0f} GiB")


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
    from seesr_pl.checkpoints.published import PUBLISHED

    for file in PUBLISHED.values():
        path = folder / file.name
        if file.missing(path):
            yield Finding(str(path), "not there", f"if you need it: {file.origin}")
        elif difference := "" if file.parts else file.difference(path):
            yield Finding(str(path), f"broken: {difference}", f"fetch it again: {file.origin}")
        else:
            yield Finding(str(path), "there")


def _disk(folder: Path) -> Finding:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return Finding("disk", f"{shutil.disk_usage(existing).free / 2**30:.0f} GiB free for {folder}/")
