"""The figures that docs/benchmarks.md promises, with their bounds, for each class of processors measured.

``docs/figures.json`` keeps them for each class, because one machine is of one class only; the table has a
column for each.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mobilesr_plugin.atomic_file import write_atomically
from mobilesr_plugin.processor import processor

STORE = Path(__file__).resolve().parent.parent / "docs" / "figures.json"
TOLERANCE = 0.1

Store = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Figure:
    """One promise.

    Attributes:
        what: It says what was measured; rows of the table are told apart by it.
        measured: The value.
        bound: What ``measured`` must reach (``least``) or must not exceed, on this class of processors.
        least: Which of the two.
        decimals: To print.
        note: What else to know of the value, such as the two that were subtracted.
    """

    what: str
    measured: float
    bound: float
    least: bool
    decimals: int = 2
    note: str = ""

    @property
    def missed(self) -> bool:
        """Whether it is further off than the tolerance."""
        if self.least:
            return self.measured < self.bound * (1 - TOLERANCE)
        return self.measured > self.bound * (1 + TOLERANCE)

    @property
    def reached(self) -> bool:
        """Whether the bound itself is kept."""
        return self.measured >= self.bound if self.least else self.measured <= self.bound

    def cell(self) -> str:
        """Returns value, bound and verdict."""
        measured, bound = (f"{value:.{self.decimals}f}" for value in (self.measured, self.bound))
        verdict = "" if self.reached else ", MISSED" if self.missed else ", missed by less than a tenth"
        note = f", {self.note}" if self.note else ""
        return f"{measured}{note} ({'>=' if self.least else '<='} {bound}{verdict})"


def read(store: Path = STORE) -> dict[str, dict[str, Any]]:
    """Returns what is stored: processor and figures for each class."""
    return dict(json.loads(store.read_text())) if store.exists() else {}


def add(figures: Sequence[Figure], store: Path = STORE) -> dict[str, dict[str, Any]]:
    """Stores figures under the class of the processor at hand, in place of those of the same names."""
    content = read(store)
    own = processor()
    kept = content.get(own.kind, {}).get("figures", [])
    new = {figure.what: asdict(figure) for figure in figures}
    content[own.kind] = {
        "processor": f"{own.name}, {os.cpu_count()} cores",
        "figures": [new.pop(old["what"], old) for old in kept] + list(new.values()),
    }
    text = json.dumps(content, indent=2) + "\n"
    write_atomically(store, lambda file: file.write(text.encode()))
    return content


def table(content: Store) -> str:
    """Returns a Markdown table: a row for each figure, a column for each class of processors."""
    columns = {
        kind: {row["what"]: Figure(**row) for row in stored["figures"]} for kind, stored in content.items()
    }
    heads = [f"{kind} ({stored['processor']})" for kind, stored in content.items()]
    whats = list(dict.fromkeys(what for figures in columns.values() for what in figures))
    lines = [f"| figure | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    for what in whats:
        cells = [figures[what].cell() if what in figures else "" for figures in columns.values()]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines)
