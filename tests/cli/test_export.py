"""`seesr export` writes a folder that loads again, with a card that says how it was made and what it achieves."""

import json

import pytest
import torch
import yaml
from huggingface_hub import HfApi
from hydra.utils import instantiate
from typer.testing import CliRunner

from seesr_pl.checkpoints.published import missing
from seesr_pl.cli import commands
from seesr_pl.config import composed
from seesr_pl.models import RAM
from seesr_pl.runs import RunFolder, load_pipeline, load_ram
from seesr_pl.tiny.stack import tiny_stack

pytestmark = pytest.mark.whole


def saved(folder, *words):
    """A run folder with the first checkpoint of an experiment."""
    cfg = composed("train", [*words, "degradation=bicubic"])
    module = instantiate(cfg.module, _convert_="all")
    module.hash_frozen()
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    run = RunFolder(folder)
    run.last_checkpoint.parent.mkdir(parents=True)
    torch.save(checkpoint, run.last_checkpoint)
    run.record(cfg)
    return folder


def saved_run(folder):
    return saved(folder, "experiment=tiny_seesr", "module.stack.weights=random")


def saved_dape(folder):
    return saved(folder, "experiment=tiny_dape", "++module.lora_rank=4")


def invoke(*arguments):
    result = CliRunner().invoke(commands, ["export", *map(str, arguments)], env={"COLUMNS": "400"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def metadata(folder):
    text = (folder / "README.md").read_text()
    return yaml.safe_load(text.split("---")[1]), text


@pytest.fixture
def evaluation(tmp_path):
    summary = {
        "metrics": {
            "psnr_y": {"mean": 24.5, "ci95": [24.0, 25.0], "n": 3},
            "niqe": {"mean": None, "ci95": [0, 0], "n": 0},
        },
        "benchmark": "realsr",
    }
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "summary.json").write_text(json.dumps(summary))
    return tmp_path / "evaluation"


def test_a_run_becomes_a_pipeline_with_its_card_and_metrics(tmp_path, evaluation):
    run = saved_run(tmp_path / "run")
    assert invoke(run, tmp_path / "out", "--evaluation", evaluation).exit_code == 0
    first, second = (load_pipeline(place).unet.state_dict() for place in (run, tmp_path / "out"))
    assert all((first[name] == second[name]).all() for name in first)
    data, text = metadata(tmp_path / "out")
    assert data["tags"] == ["super-resolution", "image-restoration", "seesr", "pipeline"]
    assert data["license"] == "other"
    (result,) = data["model-index"][0]["results"]
    assert (result["dataset"]["name"], result["metrics"][0]["type"], result["metrics"][0]["value"]) == (
        "realsr",
        "psnr_y",
        24.5,
    )
    assert "| realsr | psnr_y | 24.5000 | 24.0000 to 25.0000 |" in text
    assert f'SeeSRPipeline.from_pretrained("{tmp_path}/out")' in text
    assert '"global_batch_size": 4' in text


def test_a_dape_becomes_a_ram_folder(tmp_path):
    assert invoke(saved_dape(tmp_path / "run"), tmp_path / "out", "--license", "apache-2.0").exit_code == 0
    assert RAM.from_pretrained(tmp_path / "out").lora_rank == 4
    data, text = metadata(tmp_path / "out")
    assert (data["license"], data["tags"][-1]) == ("apache-2.0", "ram")
    assert f"seesr tag photo.jpg --out tags --ram {tmp_path}/out" in text


def test_a_push_uploads_the_folder_that_was_written(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo, **facts: asked.append((repo, facts)))

    def upload(self, *, repo_id, folder_path, commit_message):
        asked.append((repo_id, sorted(path.name for path in folder_path.iterdir())))
        return "address of the commit"

    monkeypatch.setattr(HfApi, "upload_folder", upload)
    result = invoke(saved_dape(tmp_path / "run"), tmp_path / "out", "--push", "me/dape", "--private")
    assert "uploaded: address of the commit" in result.output
    assert asked[0] == ("me/dape", {"private": True, "exist_ok": True})
    assert asked[1] == ("me/dape", sorted(path.name for path in (tmp_path / "out").iterdir()))
    assert 'RAM.from_pretrained("me/dape")' in metadata(tmp_path / "out")[1]


def test_an_evaluation_that_is_none_is_refused_before_anything_is_loaded(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"give a folder that evaluate.py wrote"):
        invoke(tmp_path / "run", tmp_path / "out", "--evaluation", tmp_path)


def test_a_run_of_dape_is_the_dape_of_stage_two_as_it_is(tmp_path):
    run = saved_dape(tmp_path / "run")
    with torch.no_grad():
        checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=False)
        for tensor in checkpoint["state_dict"].values():
            tensor.normal_()
        torch.save(checkpoint, run / "checkpoints" / "last.ckpt")
    trained = load_ram(run).state_dict()
    found = tiny_stack(weights="shipped", dape=run).ram.state_dict()
    assert all((found[name] == tensor).all() for name, tensor in trained.items())
    assert missing(ram=tmp_path, dape=run) == []
    assert [file.path for file in missing(ram=tmp_path, dape=tmp_path)] == [str(tmp_path)]
