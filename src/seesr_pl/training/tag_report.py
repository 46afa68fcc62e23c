"""After each validation of DAPE: the table of what it sees as CSV and the example pictures as PNG, and to W&B."""

from pathlib import Path

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from seesr_pl.evaluation.semantics import TagResult, TagRow, tag_sheet, write_tags
from seesr_pl.training.dape import DAPEDistillation


class TagReport(Callback):
    """Writes `<folder>/<step>/tags.csv` and `example_<i>.png`; a W&B logger gets the same table and pictures."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report, on rank 0, what the validation that has just ended saw."""
        assert isinstance(pl_module, DAPEDistillation)
        if not trainer.is_global_zero or pl_module.tag_result is None:
            return
        write_tags(pl_module.tag_result, self.folder / f"{trainer.global_step:06d}")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                _log_to_wandb(logger, pl_module.tag_result, step=trainer.global_step)


def _log_to_wandb(logger: WandbLogger, result: TagResult, *, step: int) -> None:
    logger.log_table("val/tags", columns=list(TagRow._fields), data=[list(row) for row in result.rows], step=step)
    logger.log_image("val/examples", images=[tag_sheet(example) for example in result.examples], step=step)
