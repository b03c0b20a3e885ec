"""Several images at a time, each on a thread of its own, instead of one on all threads.

Threads that share an image wait for each other after every layer. Beside another busy process each layer then
waits for the thread that has to share its processor.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from mobilesr_plugin.cpus import usable_cpus

_MOST_AT_A_TIME = 4  # each needs memory for its values


@contextmanager
def side_by_side() -> Iterator[ThreadPoolExecutor]:
    """A pool of threads that share this process's processors out among PyTorch's operators.

    The settings are those of the whole process while it is open; then they are put back. What has not begun
    when it is left never does.
    """
    parallel = min(usable_cpus(), _MOST_AT_A_TIME)
    threads_before = torch.get_num_threads()
    pool = ThreadPoolExecutor(parallel, thread_name_prefix="side-by-side")
    torch.set_num_threads(max(1, usable_cpus() // parallel))
    try:
        # Integer networks set this while they run and put back what was there, which threads cannot at once.
        with torch.backends.cudnn.flags(enabled=False):
            try:
                yield pool
            finally:
                pool.shutdown(cancel_futures=True)
    finally:
        torch.set_num_threads(threads_before)
