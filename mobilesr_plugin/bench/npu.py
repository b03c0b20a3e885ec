"""Estimates for Arm's Ethos-U NPUs by Vela, Arm's compiler (PyPI: ethos-u-vela).

Vela compiles the file for an accelerator and estimates its cycles from a model of the hardware; nothing
runs on a device. Operators that the NPU cannot run stay in the compiled file as they are, for the host
CPU, and their time is not in the estimate.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mobilesr_plugin.errors import DataError, ExportError, MissingExtraError, OptionError
from mobilesr_plugin.tflite_model import TFLiteModel

ACCELERATORS = (
    *("ethos-u55-32", "ethos-u55-64", "ethos-u55-128", "ethos-u55-256", "ethos-u65-256", "ethos-u65-512"),
    *("ethos-u85-128", "ethos-u85-256", "ethos-u85-512", "ethos-u85-1024", "ethos-u85-2048"),
)


@dataclass(frozen=True)
class NpuEstimate:
    """Vela's estimate for one file.

    Attributes:
        accelerator: Such as ``ethos-u65-512``.
        system: Vela's system configuration and memory mode, its defaults for the accelerator.
        megahertz: Clock of the NPU.
        cycles: Of the operators on the NPU.
        milliseconds: The same as time.
        sram_bytes, dram_bytes: Memory used.
        cpu_operators: TFLite's names of the operators that are left to the CPU, in order.
        reasons: Why, where Vela says it; one line each.
    """

    accelerator: str
    system: str
    megahertz: float
    cycles: int
    milliseconds: float
    sram_bytes: int
    dram_bytes: int
    cpu_operators: tuple[str, ...]
    reasons: tuple[str, ...]


def check_accelerator(accelerator: str) -> None:
    """Raises what would stop an estimate: an unknown name (OptionError), no Vela (MissingExtraError)."""
    if accelerator not in ACCELERATORS:
        raise OptionError(f"npu is {accelerator!r}; it must be one of {', '.join(ACCELERATORS)}")
    if importlib.util.find_spec("ethosu") is None:
        raise MissingExtraError("ethos-u-vela", "npu")


def estimate(path: Path, accelerator: str) -> NpuEstimate:
    """Compiles a .tflite file of fixed size for ``accelerator``.

    Raises:
        OptionError: no such accelerator, or no .tflite file.
        MissingExtraError: Vela is not installed.
        DataError: the file cannot be read or takes any size.
        ExportError: Vela failed.
    """
    check_accelerator(accelerator)
    if path.suffix != ".tflite":
        raise OptionError(f"{path} is no .tflite file, which Vela needs; mobilesr-export writes it")
    try:
        model = TFLiteModel(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; mobilesr-export writes it") from error
    if any(-1 in model.shape(int(tensor)) for tensor in model.graph.inputs):
        raise DataError(f"{path} takes images of any size; Vela needs a file with a size in its name")
    with tempfile.TemporaryDirectory() as folder:
        printed = _compile(path, accelerator, Path(folder))
        try:
            (summary,) = Path(folder).glob("*_summary_*.csv")
            (compiled,) = Path(folder).glob("*_vela.tflite")
        except ValueError as error:
            raise ExportError(f"Vela wrote no summary for {path}; its version may be too old") from error
        left = TFLiteModel(compiled.read_bytes()).kinds
        return _read(summary, accelerator, tuple(kind for kind in left if kind != "CUSTOM"), printed)


def _compile(path: Path, accelerator: str, folder: Path) -> str:
    # Its command line, because that is the only interface which its documents describe.
    command = [sys.executable, "-c", "from ethosu.vela.vela import main; main()", str(path.resolve())]
    options = ["--accelerator-config", accelerator, "--output-dir", str(folder)]
    done = subprocess.run(
        [*command, *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "COLUMNS": "200"},
    )
    if done.returncode != 0:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        reason = " ".join(lines[-1].split()) if lines else f"exit code {done.returncode}"
        raise ExportError(f"Vela could not compile {path}: {reason}")
    return done.stdout + done.stderr


def _read(summary: Path, accelerator: str, left: tuple[str, ...], printed: str) -> NpuEstimate:
    with summary.open(newline="") as file:
        row = next(csv.DictReader(file))
    # "Warning (supported operators) operator: DEPTH_TO_SPACE, ofm: '...'" and then "Reason: ..."
    warned = re.findall(r"\(supported operators\) operator: (\w+).*\nReason: (.+)", printed)
    return NpuEstimate(
        accelerator=accelerator,
        system=f"{row['system_config']}, {row['memory_mode']}",
        megahertz=float(row["core_clock"]) / 1e6,
        cycles=int(float(row["cycles_total"])),
        milliseconds=float(row["inference_time"]) * 1e3,
        sram_bytes=round(float(row["sram_memory_used"]) * 1024),
        dram_bytes=round(float(row["dram_memory_used"]) * 1024),
        cpu_operators=left,
        reasons=tuple(dict.fromkeys(f"{kind}: {reason}" for kind, reason in warned)),
    )
