"""Repair of BasicSR's CPU prefetcher (``prefetch_mode: cpu``)."""

from __future__ import annotations

import atexit
import queue
import threading
import weakref
from typing import Any

from mobilesr_plugin.host.replacing import mentions

_LOOK = 0.1  # seconds after which a waiting thread looks whether Python ends
_PATIENCE = 10.0  # seconds for the batch that is under way when Python ends

_ending = threading.Event()
_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def repair_prefetch_generator() -> None:
    """Hand errors of the loading thread to the training loop, and end the thread before Python ends.

    Faults: ``PrefetchGenerator.run`` ends without a word to its queue when the data loader raises, say for
    a damaged image, and training waits forever. To see it: train with ``prefetch_mode: cpu`` on a folder
    with an empty PNG.

    And the thread still loads when training is over. Python ends such threads wherever they are; inside a
    kernel of torch that ends the process with "terminate called without an active exception" and exit code
    134, now and then, after everything was saved.
    """
    from basicsr.data.prefetch_dataloader import PrefetchGenerator

    if mentions(PrefetchGenerator.run, "BaseException") or mentions(PrefetchGenerator.run, "Exception"):
        return

    def run(self: Any) -> None:
        _threads.add(self)
        try:
            for item in self.generator:
                if not _put(self.queue, item):
                    return
        except BaseException as error:
            _put(self.queue, _Failure(error))
        else:
            _put(self.queue, None)

    def take_next(self: Any) -> Any:
        item = self.queue.get()
        if item is None:
            raise StopIteration
        if isinstance(item, _Failure):
            raise item.error
        return item

    PrefetchGenerator.run = run
    PrefetchGenerator.__next__ = take_next
    atexit.register(_end_threads)


def _put(target: queue.Queue[Any], item: Any) -> bool:
    """Waits for room; returns False when Python ends instead."""
    while not _ending.is_set():
        try:
            target.put(item, timeout=_LOOK)
            return True
        except queue.Full:
            continue
    return False


def _end_threads() -> None:
    _ending.set()
    for thread in list(_threads):
        thread.join(_PATIENCE)


class _Failure:
    """An error on its way from the loading thread to the training loop."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
