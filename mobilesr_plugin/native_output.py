"""What native libraries write to standard error, past Python."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

_STDERR = threading.RLock()  # held by the thread that has put something else in place of standard error


@contextlib.contextmanager
def silenced_native_output() -> Iterator[None]:
    """Drops what native libraries write to standard error, past Python.

    TFLite and TensorFlow announce themselves there on every start. Threads wait for each other here: one
    that came while another was inside would put back what that one had put there.
    """
    with _STDERR:
        sys.stderr.flush()
        saved = os.dup(2)
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, 2)
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            os.close(null)
