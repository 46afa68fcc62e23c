"""One job in a process that may do others after it: what it leaves behind, and the run folder that it holds."""

import errno
import fcntl
import gc
import os
import socket
import sys
import traceback
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode

from seesr_pl.training.stops import Stopped

LOCK = ".lock"
"""File in a run folder that names the process which writes there; locked as long as that process lives."""
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
_held: list[IO[str]] = []


class JobFailed(CompactHydraException):
    """A job of a sweep that failed, with its reason; the jobs after it run. Hydra prints it without a traceback."""


@contextmanager
def one_job() -> Iterator[None]:
    """Let a job of a sweep fail alone, and give the process back as the job found it.

    Lightning leaves its process group and the variables that number the ranks, and W&B its run: the next job would take
    itself for a part of this one. A signal and a second Ctrl-C end the whole sweep. Raises JobFailed.
    """
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        yield
        return
    environment, arguments = dict(os.environ), list(sys.argv)
    try:
        yield
    except (SystemExit, Exception) as error:
        cause = error.__cause__ or error.__context__ if isinstance(error, SystemExit) else error
        if isinstance(cause, KeyboardInterrupt) or (type(cause) is Stopped):
            raise
        if cause is error:
            traceback.print_exc()
        reason = f"ended by sys.exit({error.code!r})" if isinstance(error, SystemExit) else type(error).__name__
        reason = "; ".join(line.strip() for line in str(cause or "").splitlines() if line.strip()) or reason
        print(f"job {HydraConfig.get().runtime.output_dir} failed; the sweep goes on", file=sys.stderr)
        # The frames of a failed job hold its networks; the sweeper keeps the error until its end.
        traceback.clear_frames(error.__traceback__)
        raise JobFailed(reason) from None
    finally:
        release()
        _clean(environment, arguments)


def hold(run: Path) -> None:
    """Take the folder `run` for this process until `release`, or until it ends.

    Raises ValueError, with host and process, where another process has it. Nothing is done where the file system knows
    no locks, and in ranks beside the first.
    """
    if any(int(os.environ.get(name) or 0) for name in ("LOCAL_RANK", "RANK", "SLURM_PROCID")):
        return
    release()
    run.mkdir(parents=True, exist_ok=True)
    path = run / LOCK
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return
        file.seek(0)
        holder = file.read() or "another process"
        raise ValueError(f"{run} is in use by {holder}; wait for it to end, or choose another run_name") from None
    if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        _held.append(file)
    else:
        hold(run)  # its holder has just ended, and removed the file


def release() -> None:
    """Give back the folder that this process holds, if any."""
    for file in _held:
        with suppress(FileNotFoundError):
            os.unlink(file.name)
        file.close()
    _held.clear()


def submitted_ranks(devices: Any) -> None:
    """Number the ranks of a job that submitit's local executor started, as Lightning expects it.

    Raises ValueError where submitit starts another number of processes than `devices`: Lightning cannot start the
    others itself there, as the program that runs is submitit's.
    """
    if os.environ.get("SUBMITIT_EXECUTOR") != "local":
        return
    tasks = int(os.environ.get("SUBMITIT_LOCAL_NTASKS", "1"))
    if isinstance(devices, int) and devices > 1 and devices != tasks:
        raise ValueError(
            f"trainer.devices={devices}, but submitit starts {tasks} process(es) for a job; "
            f"give hydra.launcher.tasks_per_node={devices}"
        )
    if tasks > 1:
        rank, port = os.environ["SUBMITIT_LOCAL_LOCALID"], zlib.crc32(os.environ["SUBMITIT_LOCAL_JOB_ID"].encode())
        os.environ |= {"LOCAL_RANK": rank, "NODE_RANK": "0", "WORLD_SIZE": str(tasks)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(20000 + port % 12000)}


def _clean(environment: dict[str, str], arguments: list[str]) -> None:
    torch, wandb = sys.modules.get("torch"), sys.modules.get("wandb")
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    if wandb is not None and wandb.run is not None:
        wandb.finish()
    kept = {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}
    os.environ.clear()
    os.environ.update({**environment, **kept})
    sys.argv[:] = arguments
    gc.collect()
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
