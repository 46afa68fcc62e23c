"""The processes that read and degrade for a loader."""

import multiprocessing
import os
import threading
from multiprocessing.context import BaseContext

import cv2
import torch


def worker_context() -> BaseContext:
    """Workers come from a clean process that has imported what they need and drawn the noise that they share.

    Forked from the training process they inherit its threads' locks: OpenCV's pool, once used there, hangs in them.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["seesr_pl.data.stream", "seesr_pl.data.workers", "seesr_pl.degradation.prebuilt_noise"]
    )
    return context


def start_worker(worker: int) -> None:
    """Keep a worker, whatever its number, to one thread, since workers share the cores, and to its parent's life."""
    del worker
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """End this process when the training process is gone, even killed.

    The loader's own watchdog looks at the process that forked, which is the fork server, and that one lives as long
    as its workers: killed runs would leave both for good.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
