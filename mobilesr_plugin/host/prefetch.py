"""Repair of BasicSR's CPU prefetcher (``prefetch_mode: cpu``)."""

from __future__ import annotations

from typing import Any

from mobilesr_plugin.host.replacing import mentions


def repair_prefetch_generator() -> None:
    """Hand errors of the loading thread to the training loop.

    Fault: ``PrefetchGenerator.run`` ends without a word to its queue when the data loader raises, say for
    a damaged image, and training waits forever. To see it: train with ``prefetch_mode: cpu`` on a folder
    with an empty PNG.
    """
    from basicsr.data.prefetch_dataloader import PrefetchGenerator

    if mentions(PrefetchGenerator.run, "BaseException") or mentions(PrefetchGenerator.run, "Exception"):
        return

    def run(self: Any) -> None:
        try:
            for item in self.generator:
                self.queue.put(item)
        except BaseException as error:
            self.queue.put(_Failure(error))
        else:
            self.queue.put(None)

    def take_next(self: Any) -> Any:
        item = self.queue.get()
        if item is None:
            raise StopIteration
        if isinstance(item, _Failure):
            raise item.error
        return item

    PrefetchGenerator.run = run
    PrefetchGenerator.__next__ = take_next


class _Failure:
    """An error on its way from the loading thread to the training loop."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
