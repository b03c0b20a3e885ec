"""Which operators of a TFLite file XNNPACK runs, and which are left to TFLite's own kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

XNNPACK, BUILTIN = "XNNPACK", "TFLite"


def kernels_of(nodes: Sequence[dict[str, Any]]) -> list[str]:
    """Returns XNNPACK or BUILTIN for each operator of the file, in order.

    The runtime does not say it; it appends one DELEGATE node for each part that XNNPACK took, with the
    tensors that the part reads and writes. What lies between them was taken.

    Args:
        nodes: ``TFLiteRunner.nodes()``: the file's operators, then the delegates.
    """
    operators = [node for node in nodes if node["op_name"] != "DELEGATE"]
    writer = {int(tensor): index for index, node in enumerate(operators) for tensor in node["outputs"]}
    taken = set()
    for delegate in nodes[len(operators) :]:
        given = set(map(int, delegate["inputs"]))
        pending = list(map(int, delegate["outputs"]))
        while pending:
            tensor = pending.pop()
            if tensor in given or tensor not in writer or writer[tensor] in taken:
                continue
            taken.add(writer[tensor])
            pending += map(int, operators[writer[tensor]]["inputs"])
    return [XNNPACK if index in taken else BUILTIN for index in range(len(operators))]
