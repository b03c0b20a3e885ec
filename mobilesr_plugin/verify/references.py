"""What files are compared with: results of networks, each computed once and several at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

import numpy as np
from torch import nn

from mobilesr_plugin.side_by_side import side_by_side
from mobilesr_plugin.verify.parity import Runner, network_runner

_LARGE = 2**19  # pixels; of images beyond, only one at a time


class References:
    """Runs networks on images in the background, see ``side_by_side``; a context manager."""

    def __init__(self) -> None:
        self._results: dict[tuple[nn.Module, tuple[int, ...], bytes], Future[np.ndarray]] = {}
        self._large = threading.Lock()
        self._open = ExitStack()

    def __enter__(self) -> References:
        self._pool = self._open.enter_context(side_by_side())
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.close()

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
