"""How the ranks of a run exchange gradients, and how a GPU multiplies float32 matrices."""

from typing import Any, Literal

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch._C._distributed_c10d import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel


class GradientExchange(Callback):
    """Set how DistributedDataParallel (DDP) reduces gradients; without effect on one device and on other strategies.

    Args:
        gradient_as_bucket_view: gradients lie in the buckets that are reduced, in place of a copy there: 4 bytes less
            a trainable parameter on each device.
        static_graph: promise DDP that every step uses the same parameters; for steps of one micro batch alone.
        bucket_megabytes: gradients of so many megabytes are reduced at once, while others are still being computed.
        compression: "bf16" sends gradients in bfloat16: half the traffic, at 8 bits of precision.
    """

    def __init__(
        self,
        *,
        gradient_as_bucket_view: bool = True,
        static_graph: bool = False,
        bucket_megabytes: float = 25.0,
        compression: Literal["none", "bf16"] = "none",
    ) -> None:
        if bucket_megabytes <= 0:
            raise ValueError(f"bucket_megabytes={bucket_megabytes} must be above 0")
        self.gradient_as_bucket_view, self.static_graph = gradient_as_bucket_view, static_graph
        self.bucket_megabytes, self.compression = bucket_megabytes, compression

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Hand the options to the strategy, which builds DDP after this.

        Raises ValueError for a static graph of a step of several micro batches.
        """
        if self.static_graph and trainer.accumulate_grad_batches > 1:
            raise ValueError(
                f"static_graph=true needs steps of one micro batch, and these have {trainer.accumulate_grad_batches}: "
                "torch fails where gradients are accumulated without being reduced; set static_graph=false"
            )
        if isinstance(trainer.strategy, DDPStrategy):
            trainer.strategy._ddp_kwargs |= {
                "gradient_as_bucket_view": self.gradient_as_bucket_view,
                "static_graph": self.static_graph,
                "bucket_cap_mb": self.bucket_megabytes,
            }

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compress what DDP, which is built now, sends."""
        if self.compression == "bf16" and isinstance(trainer.strategy.model, DistributedDataParallel):
            trainer.strategy.model.register_comm_hook(None, _in_bfloat16)


class MatrixProducts(Callback):
    """Set how a GPU multiplies matrices whose type is float32; under autocast and on a CPU nothing changes.

    Args:
        float32: "highest" is exact float32; "high" is TF32, of 10 bits of precision and about 8 times as fast on an
            A100 or H100; "medium" is bfloat16. Convolutions use TF32 in any case, as torch does by itself.
    """

    def __init__(self, *, float32: Literal["highest", "high", "medium"] = "highest") -> None:
        self.float32 = float32

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set it for the process."""
        torch.set_float32_matmul_precision(self.float32)


def _in_bfloat16(group: Any, bucket: GradBucket) -> Future[Tensor]:
    # By another name: torch refuses its own where there is no NCCL, although gloo can do it.
    return bf16_compress_hook(group, bucket)
