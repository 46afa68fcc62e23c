"""Lightning's batch counters, restated for a resumed run in the micro batches of now.

Lightning counts micro batches and decides from the count when to step, validate and stop. A checkpoint's count is
in the micro batches of the run that wrote it, and may lie within an optimizer step whose gradients are gone. Without
this a run resumed on other devices would step at the wrong micro batch.
"""

from lightning.pytorch import Trainer


def restate_batches(trainer: Trainer, *, accumulation: int) -> None:
    """Set the counters restored from a checkpoint to the end of the last completed optimizer step.

    They are left as a checkpoint saved in `on_train_batch_end` has them: Lightning counts that batch as completed
    when it resumes (loops/training_epoch_loop.py: reset). Call it before the training loop reads its loader.
    """
    loop = trainer.fit_loop.epoch_loop
    num_batches = loop.global_step * accumulation
    counts = {"ready": num_batches, "started": num_batches, "processed": num_batches}
    counts["completed"] = max(0, num_batches - 1)
    loop.batch_progress.load_state_dict({"total": counts, "current": counts, "is_last_batch": False})
    loop._batches_that_stepped = max(0, loop.global_step - 1)
    if loop.global_step == 0:
        # Nothing to resume: as restarted, Lightning would take step 0 for one that was already validated.
        loop.restarting = False
