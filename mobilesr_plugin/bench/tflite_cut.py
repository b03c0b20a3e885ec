"""Parts of a TFLite file as files of their own: its first operators, or its convolutions alone."""

from __future__ import annotations

import numpy as np

from mobilesr_plugin.errors import DataError
from mobilesr_plugin.tflite_model import CONVOLUTIONS, TFLiteModel


def first_operators(content: bytes, count: int) -> bytes:
    """Returns the file cut after its first ``count`` operators.

    Everything that a later operator would read is an output, so that no runtime drops its computation.
    """
    model = TFLiteModel(content)
    kept = range(count)
    read_later = {tensor for index in range(count, len(model.kinds)) for tensor in model.inputs(index)}
    wanted = read_later | set(map(int, model.graph.outputs))
    written = [tensor for index in kept for tensor in model.outputs(index)]
    model.graph.operators = model.graph.operators[:count]
    model.graph.outputs = [tensor for tensor in reversed(written) if tensor in wanted]
    return model.packed()


def bare_convolutions(content: bytes) -> bytes:
    """Returns the file with nothing but its convolutions, one after the other.

    Each reads the nearest convolution before it, past whatever stands between. The numbers that come
    out mean nothing; the work is that of the convolutions.

    Raises:
        DataError: the file has no convolution, or one whose input no other has the shape of.
    """
    model = TFLiteModel(content)
    writer = {tensor: index for index in range(len(model.kinds)) for tensor in model.outputs(index)}
    kept = [
        index for index, kind in enumerate(model.kinds) if kind in CONVOLUTIONS and not _copies(model, index)
    ]
    if not kept:
        raise DataError("the file has no convolution")
    # The image: where the first convolution begins, with QUANTIZE left out.
    (start,) = model.inputs(kept[0])
    for index in kept[1:]:
        (wanted,) = model.inputs(index)
        source = _nearest_convolution(model, writer, wanted)
        if source is None and model.shape(wanted) == model.shape(start):
            source = start
        if source is None:
            raise DataError(
                f"operator {index} ({model.kinds[index]}) reads {model.shape(wanted)}, which no convolution "
                "before it writes; there are no bare convolutions to compare with"
            )
        _rewire(model, index, wanted, source)
    read = {tensor for index in kept for tensor in model.inputs(index)}
    model.graph.inputs = [start]
    model.graph.outputs = [tensor for index in kept for tensor in model.outputs(index) if tensor not in read]
    model.graph.operators = [model.graph.operators[index] for index in kept]
    return model.packed()


def _copies(model: TFLiteModel, index: int) -> bool:
    """Whether a convolution only copies channels: 1x1, and one weight for each output is 127, the rest 0."""
    weight = model.graph.operators[index].inputs[1]
    outputs, *kernel, _ = model.shape(weight)
    if kernel != [1, 1] or model.kinds[index] != "CONV_2D":
        return False
    codes = np.asarray(model.model.buffers[model.graph.tensors[weight].buffer].data, np.uint8).view(np.int8)
    codes = codes.reshape(outputs, -1)
    return bool((np.count_nonzero(codes, axis=1) == 1).all() and (codes.max(axis=1) == 127).all())


def _nearest_convolution(model: TFLiteModel, writer: dict[int, int], tensor: int) -> int | None:
    """Returns the convolution's output that ``tensor`` is made from, of the same shape."""
    wanted, pending, seen = model.shape(tensor), [tensor], set()
    while pending:
        found = pending.pop(0)
        if found in seen or found not in writer:
            continue
        seen.add(found)
        if model.kinds[writer[found]] in CONVOLUTIONS and model.shape(found) == wanted:
            return found
        pending += model.inputs(writer[found])
    return None


def _rewire(model: TFLiteModel, index: int, old: int, new: int) -> None:
    """Lets operator ``index`` read ``new``; its bias counts in the new input's steps."""
    operator = model.graph.operators[index]
    operator.inputs = [new if tensor == old else int(tensor) for tensor in operator.inputs]
    old_scale, new_scale = model.scale(old), model.scale(new)
    bias = int(operator.inputs[2]) if len(operator.inputs) > 2 else -1
    if old != new and bias >= 0 and len(old_scale) and len(new_scale):
        quantization = model.graph.tensors[bias].quantization
        scales = np.asarray(quantization.scale, np.float32) * (new_scale[0] / old_scale[0])
        quantization.scale = scales.astype(np.float32)
