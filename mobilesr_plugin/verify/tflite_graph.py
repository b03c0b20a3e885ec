"""Reads the operators and tensors of a TFLite file from its flatbuffer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mobilesr_plugin.errors import MissingExtraError


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
    schema = _schema()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    kinds = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    dtypes = {
        value: name.lower() for name, value in vars(schema.TensorType).items() if not name.startswith("_")
    }
    tensors = [_tensor(index, tensor, model, dtypes) for index, tensor in enumerate(graph.tensors)]

    def kind(operator: Any) -> str:
        code = model.operatorCodes[operator.opcodeIndex]
        return kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]

    return [
        TFLiteOperator(
            kind(operator),
            tuple(tensors[i] for i in operator.inputs if i >= 0),
            tuple(tensors[i] for i in operator.outputs),
        )
        for operator in graph.operators
    ]


def with_all_outputs(content: bytes) -> tuple[bytes, list[TFLiteTensor]]:
    """Returns the same file with every operator's result as an output, and those results in order.

    The kernels stay the same, which they would not in the interpreter's mode that keeps all tensors.
    The first output is still the file's own.
    """
    import flatbuffers

    schema = _schema()
    operators = read_operators(content)
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    own = list(graph.outputs)
    results = [tensor for operator in operators for tensor in operator.outputs if tensor.index not in own]
    graph.outputs = own + [tensor.index for tensor in results]
    model.signatureDefs = None
    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output()), results


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


def _schema() -> Any:
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise MissingExtraError("ai-edge-litert", "export") from error
    return schema_py_generated
