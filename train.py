"""Train DAPE or SeeSR: `python train.py experiment=dape`. Run the same command again to resume."""

import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from seesr_pl import config, launch, process, sweeps
from seesr_pl.files import versions
from seesr_pl.runs import RunFolder

CONFIG_DIR = Path(__file__).resolve().parent / "conf"


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Check the composed config, build its objects, train; return the metric that `optimized_metric` names."""
    with process.one_job(), launch.user_errors():
        launch.enter_run(cfg)
        config.preflight(cfg, quick=True)
        config.check(cfg)
        config.preflight(cfg)
        process.submitted_ranks(cfg.trainer.get("devices"))
        if not cfg.trainer.get("fast_dev_run"):
            process.hold(Path(cfg.paths.run))
        return prepare(cfg)()


def prepare(cfg: DictConfig) -> Callable[[], float | None]:
    """Instantiate data, module and trainer, find the checkpoint to resume, and return the call that trains."""
    from lightning import seed_everything
    from lightning.pytorch.callbacks import LambdaCallback

    from seesr_pl.training import notice

    run, checkpoint = RunFolder(Path(cfg.paths.run)), launch.checkpoint_to_resume(cfg)
    seed_everything(cfg.seed)
    data, module, callbacks, loggers = (
        instantiate(cfg[name], _convert_="all") for name in ("data", "module", "callbacks", "logger")
    )
    data.open_sources()
    shown = wanted(callbacks.values(), progress_bar=cfg.trainer.get("enable_progress_bar") is not False)
    begun: list[Any] = []
    shown.append(LambdaCallback(on_train_start=lambda *_: begin()))
    watching = {"callbacks": shown, "logger": list(loggers.values())}
    trainer = instantiate(cfg.trainer, **watching, _convert_="all")
    trainer.accumulate_grad_batches = data.accumulation(trainer.world_size)
    if isinstance(trainer.val_check_interval, int):  # stated in optimizer steps; Lightning counts micro batches
        trainer.val_check_interval *= trainer.accumulate_grad_batches
    if trainer.is_global_zero:
        for logger in trainer.loggers:
            logger.log_hyperparams({**config.plain(cfg), "versions": versions()})
        print(notice.opening(trainer, module, data, run=cfg.paths.run, checkpoint=checkpoint), flush=True)

    def begin() -> None:
        # Here the checkpoint is accepted: a refused one must not leave a config that its weights do not fit.
        begun.append(trainer)
        if trainer.is_global_zero and not trainer.fast_dev_run:
            run.record(cfg)

    def fit() -> float | None:
        try:
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
        except launch.USER_ERRORS:
            if begun:  # an error in the middle of a run may be ours: show where
                traceback.print_exc()
            raise
        if trainer.is_global_zero and not trainer.interrupted and not trainer.fast_dev_run:
            print(notice.closing(trainer, module, run=cfg.paths.run), flush=True)
        return sweeps.optimized(cfg, trainer.callback_metrics)

    return fit


def wanted(callbacks: Iterable[Any], *, progress_bar: bool) -> list[Any]:
    """Return the callbacks that are not null, without progress bars where the Trainer would refuse them."""
    from lightning.pytorch.callbacks import ProgressBar

    return [each for each in callbacks if each and (progress_bar or not isinstance(each, ProgressBar))]


if __name__ == "__main__":
    with launch.user_errors():
        sys.argv[1:] = launch.overrides(sys.argv[1:], CONFIG_DIR, "train")
        launch.require_experiment(sys.argv[1:], CONFIG_DIR)
    main()
