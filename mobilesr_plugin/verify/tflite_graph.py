"""Reads the operators and tensors of a TFLite file from its flatbuffer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mobilesr_plugin.tflite_model import TFLiteModel


@dataclass(frozen=True)
class TFLiteTensor:
    """A tensor: ``scale`` and ``zero_point`` are (1,) or (C,); ``values`` is None unless constant."""

    name: str
    index: int
    dtype: str
    shape: tuple[int, ...]
    scale: np.ndarray
    zero_point: np.ndarray
    values: np.ndarray | None


@dataclass(frozen=True)
class TFLiteOperator:
    """An operator: ``kind`` is TFLite's name, such as ``CONV_2D``."""

    kind: str
    inputs: tuple[TFLiteTensor, ...]
    outputs: tuple[TFLiteTensor, ...]


def read_operators(content: bytes) -> list[TFLiteOperator]:
    """Returns the operators of a TFLite file in order of execution."""
    model = TFLiteModel(content)
    types = vars(model.schema.TensorType).items()
    dtypes = {value: name.lower() for name, value in types if not name.startswith("_")}
    tensors = [
        _tensor(index, tensor, model.model, dtypes) for index, tensor in enumerate(model.graph.tensors)
    ]
    return [
        TFLiteOperator(
            kind,
            tuple(tensors[i] for i in operator.inputs if i >= 0),
            tuple(tensors[i] for i in operator.outputs),
        )
        for kind, operator in zip(model.kinds, model.graph.operators, strict=True)
    ]


def with_all_outputs(content: bytes) -> tuple[bytes, list[TFLiteTensor]]:
    """Returns the same file with every operator's result as an output, and those results in order.

    The kernels stay the same, which they would not in the interpreter's mode that keeps all tensors.
    The first output is still the file's own.
    """
    operators, model = read_operators(content), TFLiteModel(content)
    own = list(model.graph.outputs)
    results = [tensor for operator in operators for tensor in operator.outputs if tensor.index not in own]
    model.graph.outputs = own + [tensor.index for tensor in results]
    return model.packed(), results


def _tensor(index: int, tensor: Any, model: Any, dtypes: dict[int, str]) -> TFLiteTensor:
    dtype = dtypes[tensor.type]
    data = model.buffers[tensor.buffer].data
    quantization = tensor.quantization
    signature = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
    shape = tuple(int(size) for size in (signature if signature is not None else ()))
    known = dtype in ("int8", "int32", "float32", "float16", "uint8")
    return TFLiteTensor(
        name=tensor.name.decode(),
        index=index,
        dtype=dtype,
        shape=shape,
        scale=_floats(quantization.scale if quantization else None),
        zero_point=_floats(quantization.zeroPoint if quantization else None).astype(int),
        values=None if data is None or not known else np.frombuffer(bytes(data), dtype).reshape(shape),
    )


def _floats(values: Any) -> np.ndarray:
    return np.zeros(0, np.float32) if values is None else np.asarray(values, np.float32)
