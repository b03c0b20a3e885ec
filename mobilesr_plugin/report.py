"""What an export did, as JSON and as Markdown. Computes nothing but sums that the graph knows."""

from __future__ import annotations

import contextlib
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from mobilesr_plugin.graph.int8 import QMIN
from mobilesr_plugin.graph.ops import Graph
from mobilesr_plugin.options import ExportOptions
from mobilesr_plugin.verify.files import Verification
from mobilesr_plugin.versions import versions


def build(
    *,
    name: str,
    graph: Graph,
    source: dict[str, str],
    command: str,
    io: str,
    sizes: list[tuple[int, int]],
    operators: dict[str, list[str]],
    verification: Verification,
    calibration: dict[str, float],
    files: list[dict[str, Any]],
    seconds: float,
) -> dict[str, Any]:
    """Returns the content of report.json."""
    return {
        "model": name,
        "verified": not verification.problems,
        "problems": verification.problems,
        "notes": verification.notes,
        "scale": graph.scale,
        "params": graph.parameters,
        "macs": {f"{height}x{width}": graph.macs(height, width) for height, width in sizes},
        "source": source,
        "command": command,
        "io": ends(graph, io),
        "ops": operators,
        "parity": verification.parity,
        "calibration": calibration,
        "files": files,
        "seconds": round(seconds, 2),
        "versions": versions(),
    }


def export_command(ckpt: Path, options: ExportOptions, opt_path: Path | None) -> str:
    """Returns the command that repeats an export; paths below the working directory are relative."""
    given = {"ckpt": ckpt, "opt": opt_path, "calib": options.calib, "out": options.out}
    words = ["mobilesr-export"]
    for flag, path in given.items():
        words += [] if path is None else [f"--{flag}", _shown(Path(path))]
    for size in options.sizes or ():
        words += ["--size", size]
    words += [] if options.io == ExportOptions.io else ["--io", options.io]
    for kernels in options.kernels if options.kernels != ExportOptions.kernels else ():
        words += ["--kernels", kernels]
    return shlex.join(words)


def _shown(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.resolve().relative_to(Path.cwd()))
    return str(path)


def ends(graph: Graph, io: str) -> dict[str, Any]:
    """Returns layout, colour, and type and quantization of input and output, for ends of type ``io``."""
    described: dict[str, Any] = {"layout": "NHWC", "colour": "RGB" if graph.input.channels == 3 else "Y"}
    for end, op in (("input", graph.input), ("output", graph.output)):
        assert op.output is not None
        if io == "float32":
            described[end] = {"dtype": io, "range": [0.0, 1.0]}
            continue
        zero_point = op.output.zero_point - (QMIN if io == "uint8" else 0)
        described[end] = {"dtype": io, "scale": op.output.scale, "zero_point": zero_point}
    return described


def markdown(content: dict[str, Any]) -> str:
    """Returns the content of report.md."""
    state = "verified" if content["verified"] else "NOT VERIFIED"
    lines = [
        f"# {content['model']}: {state}",
        "",
        *(f"- **{problem}**" for problem in content["problems"]),
        *(f"- {note}" for note in content["notes"]),
        *_calibration(content["calibration"]),
        f"- scale: {content['scale']}, parameters: {content['params']:,}",
        *(f"- multiply-accumulates at {size}: {macs / 1e9:.3f} G" for size, macs in content["macs"].items()),
        f"- source: {content['source']['checkpoint']} (sha256 {content['source']['sha256']})",
        f"- input: {_end(content['io']['input'])}; output: {_end(content['io']['output'])}; "
        f"{content['io']['layout']}, {content['io']['colour']}",
        f"- export took {content['seconds']:.1f} s",
        "",
        "## Parity",
        "",
        "int8 files against integer validation on the same kernels, float files against the float network. "
        "ONNX Runtime rounds by rules of its own, so the QDQ file is close and not equal.",
        "",
        "| kernels | file | values | mismatched | largest difference (of 255) |",
        "|---|---|---:|---:|---:|",
    ]
    for kernels, files in content["parity"].items():
        for file, parity in files.items():
            counts = f"{parity['pixels']:,} | {parity['mismatched']:,} | {parity['max_abs_diff']}"
            lines.append(f"| {kernels} | {file} | {counts} |")
    lines += ["", "## Files", "", "| file | bytes | sha256 | operators |", "|---|---:|---|---|"]
    for file in content["files"]:
        counted = Counter(content["ops"].get(file["name"], []))
        names = ", ".join(f"{count}x {kind}" if count > 1 else kind for kind, count in counted.items())
        lines.append(f"| {file['name']} | {file['bytes']:,} | {file['sha256'][:16]} | {names} |")
    packages = ", ".join(f"{package} {version}" for package, version in content["versions"].items())
    return "\n".join([*lines, "", f"Made with {packages}.", ""])


def _calibration(errors: dict[str, float]) -> list[str]:
    if not errors:
        return []
    chosen = min(errors, key=lambda rule: errors[rule])
    tried = ", ".join(f"{rule} {error:.3g}" for rule, error in errors.items())
    return [f"- ranges by rule {chosen}; mean squared error of each on calibration images: {tried}"]


def _end(end: dict[str, Any]) -> str:
    if end["dtype"] == "float32":
        return "float32 in [0, 1]"
    return f"{end['dtype']}, scale {end['scale']:.10g}, zero point {end['zero_point']}"
