"""What files are compared with: results of networks, each computed once and several at a time.

Each image has a thread of its own. Threads that share one wait for each other after every layer, which beside
another busy process takes longer than the work.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np
import torch
from torch import nn

from mobilesr_plugin.cpus import usable_cpus
from mobilesr_plugin.verify.parity import Runner, network_runner

_MOST_AT_A_TIME = 4  # each needs memory for its values
_LARGE = 2**19  # pixels; of images beyond, only one at a time


class References:
    """Runs networks on images in the background; a context manager that ends its threads.

    While it is open, PyTorch's operators share the processors between so many images.
    """

    def __init__(self) -> None:
        self._parallel = min(usable_cpus(), _MOST_AT_A_TIME)
        self._results: dict[tuple[nn.Module, tuple[int, ...], bytes], Future[np.ndarray]] = {}
        self._large = threading.Lock()

    def __enter__(self) -> References:
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(max(1, usable_cpus() // self._parallel))
        # Integer networks set this while they run and put back what was there, which threads cannot at once.
        self._cudnn = torch.backends.cudnn.flags(enabled=False)
        self._cudnn.__enter__()
        self._pool = ThreadPoolExecutor(self._parallel, thread_name_prefix="reference")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._cudnn.__exit__(kind, error, trace)
        torch.set_num_threads(self._threads_before)

    def of(self, network: nn.Module, images: Sequence[np.ndarray]) -> Runner:
        """Begins to run ``network`` on (H, W, C) uint8 images; returns a function that waits for a result.

        The function takes (1, H, W, C) uint8, one of these images or another one, and returns what
        ``network_runner`` does.
        """

        def result(pixels: np.ndarray) -> np.ndarray:
            return self._begin(network, pixels).result()

        for image in images:
            self._begin(network, image[None])
        return result

    def _begin(self, network: nn.Module, pixels: np.ndarray) -> Future[np.ndarray]:
        key = network, pixels.shape, pixels.tobytes()
        if key not in self._results:
            self._results[key] = self._pool.submit(self._run, network, pixels)
        return self._results[key]

    def _run(self, network: nn.Module, pixels: np.ndarray) -> np.ndarray:
        runner = network_runner(network)
        if pixels.shape[1] * pixels.shape[2] <= _LARGE:
            return runner(pixels)
        with self._large:
            return runner(pixels)
