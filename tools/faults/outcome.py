"""How a run ended, what is wrong with that, and the table of all scenarios."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from faults.world import ROOT

ALLOWED = (0, 1, 2, 3)  # exit codes of the command line
_OURS = re.compile(r"mobilesr(?: \(rank \d+\))?: ")
_TRACEBACK = re.compile(r"Traceback \(most recent call last\)|--- Logging error ---")


@dataclass(frozen=True)
class Outcome:
    """How a process ended.

    Attributes:
        code: Exit code; minus the signal that ended it; None if it was still running at its time limit.
        err: Standard error.
        seconds: What it took.
    """

    code: int | None
    err: str
    seconds: float = 0.0


@dataclass
class Row:
    """One scenario: how often it was run, and in how many rounds something went wrong, by kind.

    ``losses`` are files that are incomplete, missing or different, and states from which nothing goes on;
    ``unstated`` are failures that are not told in one line of ours, or exit codes that are not allowed.
    """

    scenario: str
    rounds: int = 0
    losses: int = 0
    tracebacks: int = 0
    crashes: int = 0
    hangs: int = 0
    unstated: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def faults(self) -> int:
        return self.losses + self.tracebacks + self.crashes + self.hangs + self.unstated


def kind_of_fault(outcome: Outcome, *, only_ours: bool = True) -> str | None:
    """Returns the name of the ``Row`` count that an outcome belongs to; None if it is as it should be.

    Args:
        outcome: Of a process that nobody killed.
        only_ours: Whether standard error of a failed run must hold nothing but our one line (and the lines
            of single inputs of ``mobilesr upscale``). BasicSR's scripts log there.
    """
    if outcome.code is None:
        return "hangs"
    if outcome.code < 0:
        return "crashes"
    if _TRACEBACK.search(outcome.err):
        return "tracebacks"
    if outcome.code not in ALLOWED:
        return "unstated"
    if outcome.code:
        lines = [line for line in outcome.err.splitlines() if line and not line.startswith("failed: ")]
        ours = [line for line in lines if _OURS.match(line)]
        if len(ours) != 1 or (only_ours and len(lines) != 1):
            return "unstated"
    return None


def table(rows: list[Row]) -> str:
    """Returns the rows as Markdown."""
    counts = ("rounds", "losses", "tracebacks", "crashes", "hangs", "unstated")
    lines = [f"| scenario | {' | '.join(counts)} | s |", "|---|" + "---:|" * (len(counts) + 1)]
    for row in rows:
        values = " | ".join(str(getattr(row, name)) for name in counts)
        lines.append(f"| {row.scenario} | {values} | {row.seconds:.0f} |")
    return "\n".join(lines)


def without_root(text: str) -> str:
    """Shortens paths of the checkout in messages."""
    return text.replace(f"{ROOT}/", "")
