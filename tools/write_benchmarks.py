"""Puts accuracy tables into a document: between ``<!-- accuracy:NAME -->`` and ``<!-- end -->``.

The table comes from a file of ``mobilesr bench accuracy --out``, so that no figure is typed:

    python tools/write_benchmarks.py result.json --section abpn_x3
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from mobilesr_plugin.atomic_file import write_atomically
from mobilesr_plugin.bench.accuracy_result import markdown

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"


def replace_section(text: str, name: str, table: str) -> str:
    """Returns ``text`` with ``table`` between ``<!-- name -->`` and ``<!-- end -->``.

    Raises:
        ValueError: the text has no such section, or it has two.
    """
    start, end = f"<!-- {name} -->", "<!-- end -->"
    section = re.compile(rf"({re.escape(start)}\n)(?:(?!<!-- ).)*?({end})", re.DOTALL)
    replaced, count = section.subn(lambda found: f"{found[1]}\n{table}\n{found[2]}", text)
    if count != 1:
        raise ValueError(f"{count} sections between the lines {start} and {end}; there must be one")
    return replaced


def main() -> None:
    """Writes one section."""
    parser = argparse.ArgumentParser(description="Puts accuracy tables into a document.")
    parser.add_argument("result", type=Path, help="file that `mobilesr bench accuracy --out FILE.json` wrote")
    parser.add_argument("--section", required=True, help="NAME in the marker <!-- accuracy:NAME -->")
    parser.add_argument("--into", type=Path, default=DOCUMENT, help="document (default: docs/benchmarks.md)")
    arguments = parser.parse_args()
    try:
        table = markdown(json.loads(arguments.result.read_text()))
        text = replace_section(arguments.into.read_text(), f"accuracy:{arguments.section}", table)
        write_atomically(arguments.into, lambda file: file.write(text.encode()))
    except OSError as error:
        raise SystemExit(f"{error.filename}: {error.strerror}") from error
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise SystemExit(
            f"{arguments.result} is no result of `mobilesr bench accuracy --out FILE.json`"
        ) from error
    except ValueError as error:
        raise SystemExit(f"{arguments.into} has {error}") from error


if __name__ == "__main__":
    main()
