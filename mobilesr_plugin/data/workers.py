"""Run one function over many pictures, in several processes, holding few results in memory."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from mobilesr_plugin.cpus import usable_cpus
from mobilesr_plugin.data.images import UnreadableImageError
from mobilesr_plugin.errors import DataError

Task = TypeVar("Task")
Result = TypeVar("Result")

_MOST_WORKERS = 16
_QUEUED_PER_WORKER = 2


def default_workers() -> int:
    """Number of CPUs this process may use, at most 16; see ``usable_cpus``."""
    return min(usable_cpus(), _MOST_WORKERS)


def run_tasks(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int
) -> Generator[tuple[Task, Result | UnreadableImageError], None, None]:
    """Yield every task with its result, in the order in which they get ready.

    Args:
        function: a function of a module (it must pickle).
        tasks: what to call it with.
        workers: number of processes; with 1 the work is done here.

    Yields:
        A task, and its result or the reason why its picture cannot be used.

    Raises:
        DataError: ``function`` raised one, or a worker was killed.
    """
    workers = min(workers, len(tasks))
    if workers <= 1:
        for task in tasks:
            yield task, _attempt(function, task)
        return
    # spawn: forking a process in which torch has started threads can hang
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker)
    try:
        running: dict[Future[Result | UnreadableImageError], Task] = {}
        waiting = iter(tasks)
        exhausted = False
        while running or not exhausted:
            while not exhausted and len(running) < workers * _QUEUED_PER_WORKER:
                try:
                    task = next(waiting)
                except StopIteration:
                    exhausted = True
                else:
                    running[pool.submit(_attempt, function, task)] = task
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    except BrokenProcessPool as error:
        raise DataError("a worker process was killed (out of memory?); try fewer --workers") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _attempt(function: Callable[[Task], Result], task: Task) -> Result | UnreadableImageError:
    try:
        return function(task)
    except UnreadableImageError as error:
        return error


def _prepare_worker() -> None:
    import cv2
    import torch

    # one picture per process already keeps every core busy
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    # A parent killed with SIGKILL cannot stop its pool, and the workers would wait for tasks forever.
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
