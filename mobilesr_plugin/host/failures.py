"""How train.py and test.py end when something goes wrong.

A stated failure (``MobileSRError``) is one line on stderr and an exit code; so is a full disk; Ctrl-C says
how to go on; so does the end of another process of a distributed run; everything else keeps its traceback.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from types import TracebackType

from mobilesr_plugin.errors import DataError, MobileSRError
from mobilesr_plugin.host.lost_process import lost_process

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_resumable = False
_starting = True


def install_excepthook(*, resumable: bool) -> None:
    """Replace ``sys.excepthook`` for this run of train.py or test.py.

    Args:
        resumable: Whether ``--auto_resume`` can continue the run (train.py).
    """
    global _resumable, _starting
    _resumable, _starting = resumable, True
    logging.raiseExceptions = False  # a full disk would print a traceback for each line of the log
    previous = sys.excepthook
    if getattr(previous, "mobilesr", False):
        return

    def excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if isinstance(error, MobileSRError):
            if _worth_saying(error):
                _say(one_line(error))
            code = error.exit_code
        elif isinstance(error, KeyboardInterrupt):
            if _rank() == "0":
                _say(_interrupted())
            code = 1
        elif isinstance(error, OSError) and error.errno in _DISK:
            _say(
                f"{error.filename or 'a file of this run'} cannot be written: {error.strerror}; {_to_go_on()}"
            )
            code = 1
        elif lost := lost_process(error):
            _say(lost)
            code = 1
        else:
            previous(kind, error, traceback)
            return
        sys.exit(code)  # Python takes the exit code from a SystemExit raised in this hook

    excepthook.mobilesr = True  # type: ignore[attr-defined]
    sys.excepthook = excepthook


def stay_first() -> None:
    """Put the hook in front of one that came later.

    torch.distributed prefixes tracebacks with the rank: its hook calls the one before with standard error
    replaced, and what that has said is lost if it ends with SystemExit, as ours does.
    """
    if not getattr(sys.excepthook, "mobilesr", False):
        install_excepthook(resumable=_resumable)


def starting_is_over() -> None:
    """From now on the processes of a distributed run can fail each for a reason of its own."""
    global _starting
    _starting = False


def warn(message: str) -> None:
    """Say what the user should know, though the run goes on; once in a distributed run."""
    if _rank() == "0":
        _say(f"warning: {message}")


def one_line(error: MobileSRError) -> str:
    """The message of an error, also where torch brought it from a worker of a data loader.

    torch raises such an error again with the worker's traceback as its message; the last line that names
    the error's type holds the message itself.
    """
    kind = type(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    prefix = f"{kind.__module__}.{kind.__qualname__}: "
    for line in reversed(lines):
        if line.startswith(prefix):
            return line.removeprefix(prefix)
    return " ".join(lines)


def _worth_saying(error: MobileSRError) -> bool:
    """Whether this process should speak: all meet the same failure, except in their shares of the data."""
    return _rank() == "0" or (isinstance(error, DataError) and not _starting)


def _interrupted() -> str:
    return f"interrupted; {_to_go_on()}" if _resumable else "interrupted"


def _to_go_on() -> str:
    if not _resumable:
        return "make room, then run it again"
    arguments = [argument for argument in sys.argv if argument != "--auto_resume"]
    return f"to continue from the last saved state: python {' '.join(arguments)} --auto_resume"


def _rank() -> str:
    return os.environ.get("RANK", "0")


def _say(message: str) -> None:
    who = "mobilesr" if _rank() == "0" else f"mobilesr (rank {_rank()})"
    sys.stderr.write(f"{who}: {message}\n")
    sys.stderr.flush()
