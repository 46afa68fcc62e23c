"""Weights & Biases for a run folder: offline where there is no account, and one W&B run however often it resumes."""

import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import wandb
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger

from seesr_pl.files import write_whole

Mode = Literal["auto", "online", "offline", "disabled"]


class WandB(WandbLogger):
    """Log a run to W&B; a resumed run goes on in the same curves.

    The W&B run's id is kept in `<folder>/wandb/run_id`: another folder, even of the same name, is another run.

    Args:
        folder: of the run.
        name: shown by W&B; default: the folder's name.
        project: that the run belongs to.
        mode: "auto" is the environment's WANDB_MODE, otherwise online if there is an account and W&B answers, and
            offline if not; nothing is asked.
        log_model: upload `last.ckpt` and kept checkpoints at the end as artifacts; "all": each as it is written.
        entity: user or team; default: the account's.
        group: of runs that belong together, e.g. a sweep.
        tags: to find the run by.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        name: str | None = None,
        project: str = "seesr",
        mode: Mode = "auto",
        log_model: Literal["all"] | bool = False,
        entity: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        self.folder, self.mode = Path(folder), mode
        self._latest = 0
        self._id_file = self.folder / "wandb" / "run_id"
        run_id = self._id_file.read_text() if self._id_file.is_file() else uuid.uuid4().hex[:12]
        super().__init__(
            name=name or self.folder.name,
            save_dir=folder,
            id=run_id,
            project=project,
            log_model=log_model,
            entity=entity,
            group=group,
            tags=list(tags),
        )
        del self._wandb_init["anonymous"]  # W&B has dropped it, and warns of it at each start

    @property
    def experiment(self) -> Any:
        """The W&B run of rank 0, begun at the first use."""
        if self._experiment is None:
            self._prepare()
        return super().experiment

    @property
    def sync_command(self) -> str:
        """The command that uploads what the run, and the earlier parts of it, logged offline; "" if there is none."""
        return f"wandb sync {self.folder}/wandb/offline-run-*" if self._wandb_init.get("mode") == "offline" else ""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log `metrics` at `step`, which W&B also counts by, so that a resumed run repeats no step in the curves."""
        axis = {} if step is None else {"trainer/global_step": step}
        self._latest = max(self._latest, step or 0)  # W&B would drop a row that comes after one of a later step
        self.experiment.log({**metrics, **axis}, step=self._latest)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the W&B run, so that the next run of this process, e.g. of a sweep, gets its own."""
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=0 if status == "success" else 1)
            self._experiment = None

    @rank_zero_only
    def _prepare(self) -> None:
        chosen = self._chosen_mode()
        self._wandb_init |= {"mode": chosen, "resume": "allow" if chosen == "online" else None}
        if not self._id_file.is_file() and chosen != "disabled":
            write_whole(self._id_file, str(self._id))

    def _chosen_mode(self) -> str:
        if self.mode != "auto" or "WANDB_MODE" in os.environ:
            return self.mode if self.mode != "auto" else os.environ["WANDB_MODE"]
        try:
            return "online" if wandb.login(prompt=False) else "offline"
        except wandb.errors.Error as error:
            print(f"W&B: {error}; logging offline")
            return "offline"
