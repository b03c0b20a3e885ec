"""Peak memory of running a file, measured in a fresh process.

The process imports the runtime, notes its resident memory, resets the kernel's high-water mark, then
loads the file and runs it. The difference holds weights, packed weights, activations and the runtime's
own buffers, and the pages of the runtime's code that are touched for the first time (some MB).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from mobilesr_plugin.errors import DataError

RUNS = 2


def peak_memory(
    path: Path, size: tuple[int, int], *, threads: int, kernels: str, opt_path: Path | None = None
) -> int | None:
    """Returns the most bytes that a fresh process holds beyond its start while it runs ``path``.

    Arguments are those of ``open_runnable``. None where the system keeps no such mark; Linux does.

    Raises:
        DataError: the process failed, for example for want of memory.
    """
    if not Path("/proc/self/clear_refs").exists():
        return None
    arguments = json.dumps([str(path), *size, threads, kernels, str(opt_path) if opt_path else None])
    done = subprocess.run(
        [sys.executable, "-m", "mobilesr_plugin.bench.memory", arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise DataError(f"the memory of {path} could not be measured: {reason}")
    return int(done.stdout.split()[-1])


def _measure_here(
    path: Path, size: tuple[int, int], threads: int, kernels: str, opt_path: Path | None
) -> int:
    from mobilesr_plugin.bench.runnable import open_runnable

    match path.suffix:  # what is imported is not counted
        case ".pth":
            from mobilesr_plugin import checkpoint, register

            register()
            assert checkpoint
        case ".onnx":
            import onnxruntime

            assert onnxruntime
        case ".tflite":
            from ai_edge_litert import interpreter

            assert interpreter
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets VmHWM to VmRSS
    runnable = open_runnable(path, size, threads=threads, kernels=kernels, opt_path=opt_path)
    for _ in range(RUNS):
        runnable.run()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    """Returns a figure of this process in bytes; see proc(5)."""
    (line,) = (
        line
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        if line.startswith(f"{name}:")
    )
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    file, height, width, own_threads, own_kernels, options = json.loads(sys.argv[1])
    found = _measure_here(
        Path(file), (height, width), own_threads, own_kernels, Path(options) if options else None
    )
    sys.stdout.write(f"{found}\n")
