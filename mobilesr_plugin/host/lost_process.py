"""What an error of torch.distributed says of the other processes of the run."""

from __future__ import annotations

import os
from datetime import timedelta

START_LIMIT = timedelta(minutes=5)  # from the start of the first process to that of the last
# In messages of gloo's TCP transport and of torch.distributed's store.
_BROKEN_CONNECTION = (
    *("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Connection refused"),
    *("gloo/transport/tcp", "recvValueWithTimeout failed", "failed to recv"),
)
_NOT_ALL_THERE = ("waiting for clients", "client socket has timed out", "failed to connect to remote")


def lost_process(error: BaseException) -> str | None:
    """Says in one line that another process of the run has ended or never came, if an error means that.

    gloo and the store that the processes meet at notice it as a broken connection, in whatever operation
    comes next, and raise a RuntimeError that names addresses. Their time limit (30 minutes) stays: on it
    depends a rank that waits while another one validates alone, as BasicSR's own models do.
    """
    ranks = os.environ.get("WORLD_SIZE", "1")
    if not ranks.isdecimal() or int(ranks) < 2 or not isinstance(error, RuntimeError):
        return None
    if any(sign in str(error) for sign in _NOT_ALL_THERE):
        minutes = START_LIMIT.total_seconds() / 60
        return (
            f"not all {ranks} processes of this run were there after {minutes:.0f} minutes; see what the "
            "others said, then start all again"
        )
    if not any(sign in str(error) for sign in _BROKEN_CONNECTION):
        return None
    own = os.environ.get("RANK", "0")
    who = f"rank {1 - int(own)}" if ranks == "2" and own in ("0", "1") else "another process of this run"
    return (
        f"{who} has ended, and training cannot go on without it; if it was not stopped on purpose, what it "
        "said last tells why (a kill for lack of memory leaves no message); start all processes again with "
        "--auto_resume to continue from the last saved state"
    )
