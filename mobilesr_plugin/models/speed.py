"""What makes a training step faster; the ``speed:`` block of an option file."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import nn

from mobilesr_plugin.models.compiled_shuffle import backend
from mobilesr_plugin.options import SpeedOptions
from mobilesr_plugin.processor import computes_bfloat16, processor

OPTIMIZERS = ("Adam", "AdamW", "SGD")
# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK, _LARGEST_REST = 2**30, 2**31 - 1


class Speed:
    """The ways in which one model is made faster.

    Args:
        options: The ``speed:`` block.
        device: Where the model trains.
    """

    def __init__(self, options: SpeedOptions, device: torch.device) -> None:
        self.options, self.device = options, device
        self.memory_format = torch.channels_last if options.channels_last else torch.contiguous_format
        self.bfloat16 = options.amp == "bfloat16" or (options.amp == "auto" and computes_bfloat16(device))
        if self.bfloat16 and not computes_bfloat16(device):
            get_root_logger().warning(
                f"speed: amp: bfloat16 is emulated here, because {_name(device)} has no bfloat16 unit: ABPN "
                "trained at a tenth of its float32 speed on such a processor; use amp: auto"
            )

    def arrange(self, network: nn.Module) -> nn.Module:
        """Returns the network, its weights in the memory order of the images."""
        return network.to(memory_format=self.memory_format)  # type: ignore[call-overload]

    def autocast(self) -> AbstractContextManager[Any]:
        """Returns a context in which convolutions run in bfloat16, where ``amp`` says so."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def optimizer(
        self, kind: str, params: Iterable[Any], lr: float, **settings: Any
    ) -> torch.optim.Optimizer | None:
        """Returns an optimizer, with one kernel for the whole step if possible; None for other kinds."""
        if kind not in OPTIMIZERS:
            return None
        make, groups = getattr(torch.optim, kind), list(params)
        fused = {"fused": True} if self.options.fused_optimizer else {}
        optimizer: torch.optim.Optimizer
        try:
            optimizer = make(groups, lr=lr, **{**fused, **settings})
        except RuntimeError as error:  # the device has no such kernel
            get_root_logger().info(f"speed: fused_optimizer is left out: {_first_line(error)}")
            optimizer = make(groups, lr=lr, **settings)
        return optimizer

    def compile(self, *modules: nn.Module | None) -> None:
        """Compiles modules in place, so that the names of their parameters stay; says so where it cannot."""
        if not self.options.compile:
            return
        problem = _compiler_problem(self.device)
        if problem:
            get_root_logger().warning(f"speed: compile is left out: {problem}")
            return
        graphs = self.options.cuda_graphs and self.device.type == "cuda"
        if self.options.cuda_graphs and not graphs:
            get_root_logger().warning("speed: cuda_graphs is left out: there is no GPU")
        # It would cut the network so that DistributedDataParallel can send some gradients while others are
        # computed. These networks are smaller than one such part, and quantizers cannot be cut.
        torch._dynamo.config.optimize_ddp = False
        for module in modules:
            if module is not None:
                if self.device.type == "cuda":
                    module.compile(mode="reduce-overhead" if graphs else None)
                else:
                    module.compile(backend=backend)

    def begin_step(self) -> None:
        """Tells CUDA graphs that results of the step before are needed no more."""
        if self.options.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()

    def keep_memory(self) -> None:
        """Lets malloc keep what is freed.

        The activations of a batch are so large that glibc takes them from the system and gives them back each
        time, and the system clears every page anew: a tenth of a step on a CPU.
        """
        if not self.options.keep_memory or sys.platform != "linux":
            return
        with contextlib.suppress(AttributeError, OSError):  # another C library
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK)
            mallopt(_M_TRIM_THRESHOLD, _LARGEST_REST)


def uncompiled() -> AbstractContextManager[Any]:
    """Returns a context in which compiled modules run as they were written.

    For images of many sizes, each of which would be compiled anew, and for what happens once.
    """
    return torch.compiler.set_stance("force_eager")


def averaged_towards(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    """``averaged = averaged * decay + network * (1 - decay)`` for all parameters, as BasicSR computes it."""
    theirs = dict(network.named_parameters())
    pairs = [(value, theirs[name]) for name, value in averaged.named_parameters()]
    with torch.no_grad():
        torch._foreach_mul_([mine for mine, _ in pairs], decay)
        torch._foreach_add_([mine for mine, _ in pairs], [new for _, new in pairs], alpha=1 - decay)


def _compiler_problem(device: torch.device) -> str | None:
    """Returns why nothing can be compiled for a device; None if it can, which a small function tries."""
    try:
        torch.compile(_double)(torch.zeros(8, device=device))
    except Exception as error:  # of a dozen types, by what is missing: compiler, headers, Triton, disk space
        return _first_line(error)
    return None


def _name(device: torch.device) -> str:
    """Returns what a person calls the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"the processor ({processor().name}, {processor().kind})"


def _double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
