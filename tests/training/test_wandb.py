"""What a run tells W&B, read back from its offline files."""

import json

import numpy as np
import pytest
import torch
from lightning import Trainer
from seesr_runs import random_batch, small_module
from torch.utils.data import DataLoader
from wandb_logs import Logged

from seesr_pl.evaluation import Bicubic, FolderBenchmark, image_metrics, judge_method
from seesr_pl.imaging.io import write_image
from seesr_pl.training import log_evaluation
from seesr_pl.training.saving import LastCheckpoint
from seesr_pl.training.validation import SCORES, ValidationImages
from seesr_pl.training.wandb_logger import WandB

pytestmark = pytest.mark.whole


class Batches(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return random_batch([2 * index, 2 * index + 1])


def train(folder, *, max_steps, callbacks=()):
    logger = WandB(folder, name="a run")
    logger.log_hyperparams({"module": {"learning_rate": 1e-3}})
    trainer = Trainer(
        accelerator="cpu",
        max_steps=max_steps,
        logger=logger,
        log_every_n_steps=1,
        val_check_interval=2,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*callbacks, LastCheckpoint(folder / "checkpoints", every_n_steps=1)],
    )
    last = folder / "checkpoints" / "last.ckpt"
    loaders = [DataLoader(Batches(), batch_size=None), DataLoader(Batches(), batch_size=None)]
    trainer.fit(small_module(), *loaders, ckpt_path=last if last.exists() else None, weights_only=False)
    return logger


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A run that was stopped after 2 of 4 steps and resumed, without an account and without WANDB_MODE."""
    folder = tmp_path_factory.mktemp("outputs") / "run"
    images = ValidationImages(folder / "validation", num_images=1, sampler={"num_inference_steps": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_MODE", raising=False)
        patch.delenv("WANDB_API_KEY", raising=False)
        patch.setenv("NETRC", str(folder / "none"))
        train(folder, max_steps=2, callbacks=[images])
        logger = train(folder, max_steps=4)
    return logger, [Logged(path) for path in sorted(folder.glob("wandb/offline-run-*"))]


def test_a_resumed_run_is_the_same_run_and_goes_on_in_its_curves(parts):
    logger, (first, second) = parts
    assert first.id == second.id == logger.version == (logger.folder / "wandb" / "run_id").read_text()
    steps = [[row["_step"] for row in part.history if "train/loss" in row] for part in (first, second)]
    assert steps == [[0, 1], [2, 3]]
    assert all(row["trainer/global_step"] == row["_step"] for row in first.history + second.history)
    assert logger.sync_command == f"wandb sync {logger.folder}/wandb/offline-run-*"


def test_the_config_and_the_axis_of_every_curve_are_recorded(parts):
    (first, second) = parts[1]
    assert first.config["module"] == second.config["module"] == {"learning_rate": 1e-3}
    assert first.metrics["*"].step_metric == "trainer/global_step"
    assert (first.exit_code, second.exit_code) == (0, 0)


def test_a_table_of_validation_images_has_names_columns_and_scores(parts):
    logger, (first, _) = parts
    (file,) = [row["val/images/path"] for row in first.history if "val/images/path" in row]
    content = json.loads(next(logger.folder.glob(f"wandb/offline-run-*/files/{file}")).read_text())
    assert content["columns"] == ["key", "lq, bicubic", "restored", "hq", *SCORES, "tags"]
    (row,) = content["data"]
    scores = {name: values[f"val/{name}"] for name in SCORES for values in first.history if f"val/{name}" in values}
    assert row[0] == "0000"
    assert dict(zip(SCORES, row[4:8], strict=True)) == pytest.approx(scores, rel=1e-4)


def test_a_folder_of_the_same_name_elsewhere_is_another_run(tmp_path):
    assert WandB(tmp_path / "a" / "seesr").version != WandB(tmp_path / "b" / "seesr").version


def test_what_is_logged_after_a_later_step_is_not_lost(tmp_path):
    logger = WandB(tmp_path, mode="offline")
    logger.log_metrics({"train/loss": 1.0}, step=5)
    logger.log_metrics({"val/loss": 2.0}, step=4)
    logger.finalize("success")
    (row,) = Logged(next(tmp_path.glob("wandb/offline-run-*"))).history
    assert (row["train/loss"], row["val/loss"]) == (1.0, 2.0)


def test_an_evaluation_is_a_table_with_images_its_means_and_its_report(tmp_path):
    for number in range(2):
        hq = np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        for name, pixels in (("hq", hq), ("lq", hq[::4, ::4])):
            (tmp_path / name).mkdir(exist_ok=True)
            write_image(tmp_path / name / f"{number}.png", np.ascontiguousarray(pixels))
    benchmark, folder = FolderBenchmark(str(tmp_path)), tmp_path / "out"
    given = {"name": "bicubic", "settings": {"scale": 4}, "metrics": image_metrics(["psnr_y"])}
    judge_method(benchmark, lambda device: Bicubic(), folder, **given)
    logger = WandB(folder)
    logger.experiment.config.update({"evaluation": {"scale": 2}})  # as a run that goes on online has it
    log_evaluation(logger, folder, benchmark.pairs())
    logged = Logged(next(folder.glob("wandb/offline-run-*")))
    told = json.loads((folder / "summary.json").read_text())["metrics"]["psnr_y"]
    assert [logged.summary[name] for name in ("psnr_y", "psnr_y/low", "psnr_y/high")] == [told["mean"], *told["ci95"]]
    assert logged.config["evaluation"] == {"scale": 4}
    (table,) = [row["images/path"] for row in logged.history if "images/path" in row]
    content = json.loads((next(folder.glob("wandb/offline-run-*")) / "files" / table).read_text())
    assert content["columns"] == ["image", "LQ", "restored", "HQ", "psnr_y"]
    assert [row[0] for row in content["data"]] == ["0", "1"]
    (images,) = [artifact for artifact in logged.artifacts if artifact.type == "run_table"]
    assert sum(entry.path.startswith("media/images/") for entry in images.manifest.contents) == 2 * 3
    report = [artifact for artifact in logged.artifacts if artifact.type == "evaluation"]
    assert {entry.path for entry in report[0].manifest.contents} == {
        "report.html", "summary.json", "scores.csv", "table.md"
    }  # fmt: skip
