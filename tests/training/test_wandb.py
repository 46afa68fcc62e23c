"""What a run tells W&B, read back from its offline files."""

import json
import struct
import time

import pytest
import torch
from lightning import Trainer
from seesr_runs import random_batch, small_module
from torch.utils.data import DataLoader
from wandb.proto import wandb_internal_pb2

from seesr_pl.training.saving import LastCheckpoint
from seesr_pl.training.validation import SCORES, ValidationImages
from seesr_pl.training.wandb_logger import WandB

pytestmark = pytest.mark.whole

BLOCK = 32768


def records(file):
    """The records of a .wandb file: a LevelDB log behind a header of 7 bytes; a record may be cut over blocks."""
    data, position, parts, found = file.read_bytes(), 7, b"", []
    while position + 7 <= len(data):
        if BLOCK - position % BLOCK < 7:
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # full, last
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            found.append(record)
            parts = b""
    return found


def items(entries):
    return {entry.key or "/".join(entry.nested_key): json.loads(entry.value_json) for entry in entries}


class Logged:
    """One offline part of a run: its id, its config and its history rows."""

    def __init__(self, folder):
        found, deadline = [], time.monotonic() + 30
        # W&B's own process writes the file, and may be behind.
        while not any(record.HasField("exit") for record in found) and time.monotonic() < deadline:
            time.sleep(0.05)
            found = records(next(folder.glob("*.wandb")))
        runs = [record.run for record in found if record.HasField("run")]
        self.id = runs[0].run_id
        updates = [*(run.config.update for run in runs), *(r.config.update for r in found if r.HasField("config"))]
        self.config = {name: value for update in updates for name, value in items(update).items()}
        self.history = [items(record.history.item) for record in found if record.HasField("history")]
        self.metrics = {record.metric.glob_name or record.metric.name: record.metric for record in found
                        if record.HasField("metric")}  # fmt: skip
        self.exit_code = next(record.exit.exit_code for record in found if record.HasField("exit"))


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
