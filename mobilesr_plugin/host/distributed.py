"""Repairs of BasicSR's distributed training for machines without a GPU."""

from __future__ import annotations

import atexit
import functools
import os
import subprocess
from typing import Any

from mobilesr_plugin.host import failures
from mobilesr_plugin.host.lost_process import START_LIMIT
from mobilesr_plugin.host.replacing import mentions, replace_everywhere


def repair_init_dist() -> None:
    """Let ``--launcher pytorch`` and ``--launcher slurm`` start on a CPU-only machine, over gloo.

    Fault: ``init_dist`` takes the rank modulo the number of GPUs ("ZeroDivisionError: integer modulo
    by zero") and asks for nccl. To see it: ``torchrun --nproc_per_node 2 basicsr/train.py -opt F
    --launcher pytorch`` where torch sees no GPU.
    """
    from basicsr.utils import dist_util

    original = dist_util.init_dist
    if not mentions(dist_util._init_dist_pytorch, "device_count"):
        return

    @functools.wraps(original)
    def init_dist(launcher: str, backend: str = "nccl", **options: Any) -> None:
        import torch

        if torch.cuda.is_available():
            original(launcher, backend, **options)
        else:
            _init_on_cpu(launcher, **options)
        failures.stay_first()

    if not hasattr(original, "__wrapped__"):
        replace_everywhere(original, init_dist)


def _init_on_cpu(launcher: str, port: int | None = None, **options: Any) -> None:
    """What ``init_dist`` does, without GPUs.

    Args:
        launcher: ``pytorch`` (torchrun has set the environment) or ``slurm`` (srun has).
        port: Slurm only: the port of the first node. Default: ``MASTER_PORT``, else 29500.
        options: For ``torch.distributed.init_process_group``.
    """
    import torch.distributed
    import torch.multiprocessing

    if torch.multiprocessing.get_start_method(allow_none=True) is None:
        torch.multiprocessing.set_start_method("spawn")
    if launcher == "slurm":
        _describe_slurm_job(port)
    # Whoever does not come within this time has ended; torch itself would wait for half an hour.
    meeting = torch.distributed.rendezvous("env://", timeout=START_LIMIT)
    store, rank, world_size = next(iter(meeting))
    torch.distributed.init_process_group(
        backend="gloo", store=store, rank=rank, world_size=world_size, **options
    )
    # A process that ends with gloo's threads running is now and then aborted by the system.
    atexit.register(_leave_group)


def _leave_group() -> None:
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _describe_slurm_job(port: int | None) -> None:
    """Translate Slurm's environment variables into those that torch.distributed reads."""
    nodes = os.environ["SLURM_NODELIST"]
    hostnames = subprocess.run(
        ["scontrol", "show", "hostname", nodes], check=True, capture_output=True, text=True
    ).stdout.split()
    if port is not None:
        os.environ["MASTER_PORT"] = str(port)
    os.environ.setdefault("MASTER_PORT", "29500")
    os.environ["MASTER_ADDR"] = hostnames[0]
    os.environ["WORLD_SIZE"] = os.environ["SLURM_NTASKS"]
    os.environ["RANK"] = os.environ["SLURM_PROCID"]
    os.environ["LOCAL_RANK"] = os.environ.get("SLURM_LOCALID", "0")


def repair_model_to_device() -> None:
    """Let a network on the CPU be wrapped for distributed training.

    Fault: ``BaseModel.model_to_device`` always passes ``device_ids=[torch.cuda.current_device()]`` to
    DistributedDataParallel ("Torch not compiled with CUDA enabled", or "No CUDA GPUs are available").
    To see it: as for ``repair_init_dist``, after that repair.
    """
    from basicsr.models.base_model import BaseModel

    original = BaseModel.model_to_device
    if hasattr(original, "__wrapped__") or not mentions(original, "current_device"):
        return

    @functools.wraps(original)
    def model_to_device(self: Any, net: Any) -> Any:
        if not (self.opt["dist"] and self.device.type == "cpu"):
            return original(self, net)
        from torch.nn.parallel import DistributedDataParallel

        unused = self.opt.get("find_unused_parameters", False)
        return DistributedDataParallel(net.to(self.device), find_unused_parameters=unused)

    BaseModel.model_to_device = model_to_device
