"""Runs a TFLite file once in a process of its own, before it may run in ours.

LiteRT checks that a file is a well-formed flatbuffer, not that its operators make sense together: one with a
shape, an index or a stride that was damaged can end the process that runs it, without an exception. A child
process, which imports nothing but the interpreter, takes 0.2 s of processor time to start, and then runs
the file.

    python -m mobilesr_plugin.tflite_probe xnnpack < file.tflite
"""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from typing import Any

from mobilesr_plugin.errors import DataError

LIMIT = 60  # seconds; a file for 1080x1920 takes a few
_SIDE = 16  # of the image for a file that takes any
_passed: set[tuple[str, str]] = set()  # of this process: sha256 of files, and kernels


def check_survives(content: bytes, name: str, kernels: str) -> None:
    """Checks that a TFLite file does not crash the interpreter; does nothing if this process asked before.

    Args:
        content: The file.
        name: What messages call it.
        kernels: Those that it will run on; on the others it is prepared, not always run.

    Raises:
        DataError: it crashes the interpreter, or does not end. A file that the interpreter refuses passes:
            whoever opens it is told why.
    """
    key = (hashlib.sha256(content).hexdigest(), kernels)
    if key in _passed:
        return
    command = [sys.executable, "-m", "mobilesr_plugin.tflite_probe", kernels]
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired as error:
        raise DataError(
            f"{name} did not end within {LIMIT} s when it was run once; export or copy the file again"
        ) from error
    if done.returncode:
        how = signal.Signals(-done.returncode).name if done.returncode < 0 else f"code {done.returncode}"
        raise DataError(
            f"{name} ends TFLite's interpreter with {how}, so it was not "
            "run here: it is damaged, or needs more memory than there is; export or copy the file again"
        )
    _passed.add(key)


def _run_once(content: bytes, kernels: str) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    for resolver, own in (
        (OpResolverType.AUTO, "xnnpack"),
        (OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES, "tflite_builtin"),
    ):
        interpreter: Any = Interpreter(
            model_content=content, num_threads=1, experimental_op_resolver_type=resolver
        )
        interpreter.allocate_tensors()
        any_size = False
        for detail in interpreter.get_input_details():
            signature = detail["shape_signature"]
            if -1 in signature:
                any_size = True
                sides = [1, _SIDE, _SIDE, *signature[3:]][: len(signature)]
                shape = [
                    side if size == -1 else int(size) for side, size in zip(sides, signature, strict=True)
                ]
                interpreter.resize_tensor_input(detail["index"], shape)
        interpreter.allocate_tensors()
        if (
            any_size or own == kernels
        ):  # the other kernels only prepare files for one size, which may be large
            interpreter.invoke()
            for detail in interpreter.get_output_details():
                interpreter.get_tensor(detail["index"])


if __name__ == "__main__":
    try:
        _run_once(sys.stdin.buffer.read(), sys.argv[1])
    except Exception as refused:  # told where the file is opened
        sys.stderr.write(f"{refused}\n")
