"""What the tests of whole runs add to them, named in a run's config as `callbacks.witness._target_`."""

import hashlib
from pathlib import Path

from lightning import Callback


class ParameterHash(Callback):
    """At the end of training each rank writes a hash of its trainable parameters to `<folder>/rank_<n>.txt`."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def on_train_end(self, trainer, pl_module):
        digest = hashlib.sha256()
        for parameter in pl_module.parameters():
            if parameter.requires_grad:
                digest.update(parameter.detach().cpu().numpy().tobytes())
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"rank_{trainer.global_rank}.txt").write_text(f"{trainer.global_step} {digest.hexdigest()}")
